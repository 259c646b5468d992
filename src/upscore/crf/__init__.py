"""A fully connected CRF for segmentation that needs no network: NumPy arrays in, NumPy arrays out.

::

    from upscore.crf import DenseCRF

    refined = DenseCRF().refine(probs, image)        # (K, H, W) or (H, W, K), and (H, W, 3) uint8

    probs ── unary ────► energy (N, K) ──┐
                                         ├── mean field: messages, compatibility, softmax ──► refined
    image ── kernels ──► features (N, d) ┘                  │
                                          engine: lattice or all pairs; C++, NumPy or PyTorch

Importing it imports NumPy alone; SciPy and PyTorch are imported by the engines that need them. As
the last layer of a network, trained with it: :class:`upscore.crf.layer.CRFLayer`.
"""

from upscore.crf.dense import DenseCRF, Inference
from upscore.crf.kernels import Bilateral, Compatibility, Features, Gaussian, Kernel, Normalization

__all__ = ["Bilateral", "Compatibility", "DenseCRF", "Features", "Gaussian", "Inference", "Kernel", "Normalization"]
