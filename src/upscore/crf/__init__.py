"""A fully connected CRF that stands alone: NumPy arrays in, NumPy arrays out, no network anywhere.

::

    from upscore.crf import DenseCRF

    refined = DenseCRF().refine(probs, picture)      # (K, H, W) or (H, W, K), and (H, W, 3) uint8

    scores ── unary ──► energy (N, K) ──┐
                                        ├── meanfield: messages, costs, softmax ──► probabilities
    picture ── kernels ──► features ────┘              │
                                       lattice | exact | torch

Importing it imports NumPy alone; the lattice takes SciPy's sparse matrices when it is first
built, and torch is taken where it or a device is asked for. As a network's last layer, trained
with it: :class:`upscore.crf.layer.CRFLayer`.
"""

from upscore.crf.dense import DenseCRF, Inference
from upscore.crf.kernels import Bilateral, Compatibility, Features, Gaussian, Kernel, Normalization

__all__ = ["Bilateral", "Compatibility", "DenseCRF", "Features", "Gaussian", "Inference", "Kernel", "Normalization"]
