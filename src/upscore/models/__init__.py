"""Networks: backbones, decoders, the list of architectures, weights from elsewhere, and bundles on disk."""
