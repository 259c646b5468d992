"""The sliding window: a classifier that names the middle pixel of a patch, run at every pixel.

Dan Cireşan, Alessandro Giusti, Luca Gambardella, Jürgen Schmidhuber, "Deep Neural Networks
Segment Neuronal Membranes in Electron Microscopy Images", NIPS 2012: the network called N4. It is
what Long, Shelhamer and Darrell (2015) set out to replace::

    images ─ normalization ─ mirrored border ─┬─ patch around pixel 0, 0 ─ classifier ─► K scores
    N C H W                  of P // 2        ├─ patch around pixel 0, 1 ─ classifier ─► K scores
                                              ├─ …
                                              └─ patch around pixel H-1, W-1 ──────────► K scores

    classifier, P = 95, width 48:   95 ─ conv1 4×4 ─ 92 ─ pool1 ─ 46 ─ conv2 5×5 ─ 42 ─ pool2 ─ 21
                                    ─ conv3 4×4 ─ 18 ─ pool3 ─ 9 ─ conv4 4×4 ─ 6 ─ pool4 ─ 3
                                    ─ fc1 3×3 to 200 ─ 1 ─ score 1×1 to K

    output   (N, K, H, W) logits of exactly the images' size

Neighbouring patches share all but a column of pixels, and everything is computed anew for
each: H·W classifications an image. The very same numbers come out of one pass of the
classifier over the whole image with its filters dilated
(:func:`upscore.dense_classifiers.rarefaction.rarefy`); that equality is a test.

Deviations. Normalisation is the first layer. Colours, rectified linear units instead of
hyperbolic tangents, linear layers written as convolutions, and any odd P: kernels are 4 or 5,
whichever leaves an even map to pool, until less than 8 cells are left.
"""

from __future__ import annotations

from fractions import Fraction
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from upscore.errors import ModelError
from upscore.models.encoder_decoder import init_weights
from upscore.ops.geometry import Geometry
from upscore.ops.mirror import mirror
from upscore.ops.upsample import BilinearUpsample

__all__ = ["SlidingWindow"]


class SlidingWindow(nn.Module):
    """A patch classifier at every pixel; memory is bounded by the patches taken at once.

    Parameters
    ----------
    num_classes : int
        K, 1 to 255.
    normalization : nn.Module
        From images in [0, 1] to what the classifier expects.
    in_channels : int
        C of the images.
    patch : int
        P, odd, 1 to 255: sides of a patch in pixels. Cireşan's four networks use 65 and 95.
    width : int
        Channels of every convolution.
    hidden : int
        Units between the convolutions and the scores.
    every : int
        Classify every n-th row and column alone, and interpolate between them; 1 is the paper's.
    patches_at_once : int
        Patches in one pass of the classifier, in training too, where each pass is therefore
        made twice. It changes memory and speed and no result.

    Attributes
    ----------
    classifier : nn.Sequential
        (N, C, P, P) normalised patches to (N, K, 1, 1); without padding, so that it may be rarefied.
    geometry : Geometry
        Cells on every n-th pixel that see P of them.
    stride : int
        ``every``.
    num_classes : int
        K.

    Raises
    ------
    ModelError
        A setting is out of range.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        normalization: nn.Module,
        in_channels: int = 3,
        patch: int = 65,
        width: int = 48,
        hidden: int = 200,
        every: int = 1,
        patches_at_once: int = 256,
    ) -> None:
        super().__init__()
        if not isinstance(patch, int) or not 1 <= patch <= 255 or patch % 2 == 0:
            raise ModelError(f"found patch {patch!r}, expected an odd number from 1 to 255: a patch has a middle pixel")
        ranges = {"num_classes": (num_classes, 255), "in_channels": (in_channels, 64), "width": (width, 4096), "hidden": (hidden, 65536)}
        ranges |= {"every": (every, 64), "patches_at_once": (patches_at_once, 65536)}
        for name, (number, most) in ranges.items():
            if not isinstance(number, int) or not 1 <= number <= most:
                raise ModelError(f"found {name} {number!r}, expected a whole number from 1 to {most}")
        self.num_classes, self.stride = num_classes, every
        self.patch, self.patches_at_once = patch, patches_at_once
        self.normalization = normalization
        self.classifier = _classifier(in_channels, num_classes, patch, width, hidden)
        self.fill = BilinearUpsample(num_classes, factor=every, kernel=2 * every - 1, border="replicate")  # cells lie on pixels: odd
        self.geometry = Geometry(Fraction(every), Fraction(0), Fraction(patch))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits.

        Parameters
        ----------
        images : (N, C, H, W) float in [0, 1]
            Any H and W from 1; each pixel costs one classification.

        Returns
        -------
        Tensor
            (N, K, H, W) float.
        """
        scores = self.classify(self.mirror(self.normalization(images)))
        if self.stride == 1:
            return scores
        return cast(Tensor, self.fill(scores, offset=(self.stride - 1,) * 2, size=(images.shape[-2], images.shape[-1])))

    def mirror(self, x: Tensor) -> Tensor:
        """Return (N, C, H + P - 1, W + P - 1), continued on each side by its mirror image, as often as the image is too small."""
        reach = (self.patch // 2, self.patch // 2)
        return mirror(x, rows=reach, columns=reach)

    def classify(self, x: Tensor) -> Tensor:
        """Return the scores (N, K, h, w) of every n-th patch of a mirrored image, a bounded number of patches at a time."""
        if torch.compiler.is_exporting():  # a graph has no loop of unknown length: all patches at once
            rows, columns = ((n - self.patch) // self.stride + 1 for n in x.shape[-2:])
            patches = F.unfold(x, self.patch, stride=self.stride).mT.reshape(-1, x.shape[1], self.patch, self.patch)
            return cast(Tensor, self.classifier(patches)).reshape(-1, rows, columns, self.num_classes).permute(0, 3, 1, 2)
        count, rows, columns = x.shape[0], *((n - self.patch) // self.stride + 1 for n in x.shape[-2:])
        if count > self.patches_at_once:
            return torch.cat([self.classify(part) for part in x.split(self.patches_at_once)])  # type: ignore[no-untyped-call]
        wide = min(columns, self.patches_at_once // count)
        high = max(1, self.patches_at_once // (count * columns))
        bands = [
            torch.cat([self._piece(x, top, left, min(high, rows - top), min(wide, columns - left)) for left in range(0, columns, wide)], 3)
            for top in range(0, rows, high)
        ]
        return torch.cat(bands, 2)

    def _piece(self, x: Tensor, top: int, left: int, high: int, wide: int) -> Tensor:
        """Return the scores (N, K, high, wide) of neighbouring cells; for a gradient they are computed twice, which bounds memory."""
        rows, columns = (
            slice(start * self.stride, (start + cells - 1) * self.stride + self.patch) for start, cells in ((top, high), (left, wide))
        )
        seen = x[:, :, rows, columns]
        return (
            checkpoint(self._scores, seen, use_reentrant=False, preserve_rng_state=False) if torch.is_grad_enabled() else self._scores(seen)
        )

    def _scores(self, x: Tensor) -> Tensor:
        """Return the scores (N, K, h, w) of all patches of x, cut out one by one."""
        windows = x.unfold(2, self.patch, self.stride).unfold(3, self.patch, self.stride)  # a view: N C h w P P
        count, _, rows, columns = windows.shape[:4]
        scores = self.classifier(windows.permute(0, 2, 3, 1, 4, 5).flatten(0, 2))
        return cast(Tensor, scores).view(count, rows, columns, self.num_classes).permute(0, 3, 1, 2)


def _classifier(in_channels: int, num_classes: int, patch: int, width: int, hidden: int) -> nn.Sequential:
    """Return the patch classifier; its kernels leave nothing of the patch unseen."""
    layers = nn.Sequential()
    size, channels, stage = patch, in_channels, 0
    while size >= 8:
        stage, kernel = stage + 1, 4 if size % 2 else 5
        layers.add_module(f"conv{stage}", nn.Conv2d(channels, width, kernel))
        layers.add_module(f"relu{stage}", nn.ReLU(inplace=True))
        layers.add_module(f"pool{stage}", nn.MaxPool2d(2))
        size, channels = (size - kernel + 1) // 2, width
    layers.add_module("fc1", nn.Conv2d(channels, hidden, size))
    layers.add_module("relu_fc1", nn.ReLU(inplace=True))
    layers.add_module("score", nn.Conv2d(hidden, num_classes, 1))
    init_weights(layers)
    return layers
