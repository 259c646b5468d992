"""Networks: backbones, architectures, the zoo that names them, and bundles that keep them."""
