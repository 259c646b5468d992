"""The sliding window: a classifier that labels the centre pixel of a patch, run at every pixel.

Dan Cireşan, Alessandro Giusti, Luca Gambardella, Jürgen Schmidhuber, "Deep Neural Networks
Segment Neuronal Membranes in Electron Microscopy Images", NIPS 2012: the network called N4. Long,
Shelhamer and Darrell (2015) replace it by one pass over the whole image::

    images ─ normalization ─ mirrored border ─┬─ patch around pixel 0, 0 ─ classifier ─► K scores
    N C H W                  of P // 2        ├─ patch around pixel 0, 1 ─ classifier ─► K scores
                                              ├─ …
                                              └─ patch around pixel H-1, W-1 ──────────► K scores

    classifier, P = 95, width 48:   95 ─ conv1 4×4 ─ 92 ─ pool1 ─ 46 ─ conv2 5×5 ─ 42 ─ pool2 ─ 21
                                    ─ conv3 4×4 ─ 18 ─ pool3 ─ 9 ─ conv4 4×4 ─ 6 ─ pool4 ─ 3
                                    ─ fc1 3×3 to 200 ─ 1 ─ score 1×1 to K

    output   (N, K, H, W) logits of exactly the images' size

Neighbouring patches differ by a column of pixels, and everything is computed again for
each: H·W classifications an image. One pass of the classifier over the whole image, with its
filters dilated (filter rarefaction), gives the same numbers; that equality is a test.

Deviations. Normalisation is the first layer. Colours, rectified linear units instead of
hyperbolic tangents, linear layers written as convolutions, and any odd P: kernels are 4 or 5,
so that an even map is pooled, until less than 8 cells remain.
"""

from __future__ import annotations

from fractions import Fraction
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from upscore.errors import ModelError
from upscore.models.arguments import check_classes, check_in_channels, check_integer
from upscore.models.encoder_decoder import init_weights
from upscore.ops.geometry import Geometry
from upscore.ops.mirror import mirror
from upscore.ops.upsample import BilinearUpsample

__all__ = ["SlidingWindow"]


class SlidingWindow(nn.Module):
    """A patch classifier at every pixel; memory is bounded by the patches in one pass.

    Parameters
    ----------
    num_classes, normalization, in_channels
        As in :class:`upscore.models.segnet.SegNet`.
    patch : int
        P, odd, 1 to 255: side of a patch in pixels. Cireşan's four networks use 65 and 95.
    width, hidden : int
        Channels of every convolution, 1 to 4096, and units between the convolutions and the scores, 1 to 65536.
    every : int
        Classify every n-th row and column alone, 1 to 64, and interpolate between them; 1 is the paper's.
    patches_at_once : int
        Patches in one pass of the classifier. In training each pass is computed twice, which bounds
        memory. It changes memory and speed and no result.

    Attributes
    ----------
    classifier : nn.Sequential
        (N, C, P, P) normalised patches to (N, K, 1, 1); without padding, so that its filters may be dilated instead.
    geometry : Geometry
        Cells on every n-th pixel with a receptive field of P.
    stride, num_classes : int
        ``every``, and K.

    Raises
    ------
    ModelError
        A setting is out of range.

    Examples
    --------
    >>> from upscore.models.normalization import Normalization
    >>> model = SlidingWindow(num_classes=2, normalization=Normalization.imagenet(), patch=17, width=4, hidden=8)
    >>> tuple(model(torch.zeros(1, 3, 5, 7)).shape)
    (1, 2, 5, 7)
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
            raise ModelError(f"found patch {patch!r}, expected an odd number from 1 to 255: a patch has a centre pixel")
        check_in_channels(in_channels)
        ranges = {"width": (width, 4096), "hidden": (hidden, 65536), "every": (every, 64), "patches_at_once": (patches_at_once, 65536)}
        for name, (value, maximum) in ranges.items():
            check_integer(value, maximum, f"{name} {value!r:.80}")
        self.num_classes, self.stride = check_classes(num_classes), every
        self.patch, self.patches_at_once = patch, patches_at_once
        self.normalization = normalization
        self.classifier = _classifier(in_channels, num_classes, patch, width, hidden)
        self.interpolate = BilinearUpsample(num_classes, factor=every, kernel=2 * every - 1, border="replicate")  # cells lie on pixels: odd
        self.geometry = Geometry(Fraction(every), Fraction(0), Fraction(patch))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K, H, W) of images (N, C, H, W) float in [0, 1], any H and W from 1; each pixel costs one classification."""
        scores = self.classify(self.mirror(self.normalization(images)))
        if self.stride == 1:
            return scores
        return cast(Tensor, self.interpolate(scores, offset=(self.stride - 1,) * 2, size=(images.shape[-2], images.shape[-1])))

    def mirror(self, x: Tensor) -> Tensor:
        """Return (N, C, H + P - 1, W + P - 1), continued on each side by its mirror image, repeatedly if the image is smaller."""
        return mirror(x, rows=(self.patch // 2,) * 2, columns=(self.patch // 2,) * 2)

    def classify(self, x: Tensor) -> Tensor:
        """Return the scores (N, K, h, w) of every n-th patch of a mirrored image, a bounded number of patches at a time."""
        if torch.compiler.is_exporting():  # a graph has no loop of unknown length: all patches at once
            rows, columns = ((n - self.patch) // self.stride + 1 for n in x.shape[-2:])
            patches = F.unfold(x, self.patch, stride=self.stride).mT.reshape(-1, x.shape[1], self.patch, self.patch)
            return cast(Tensor, self.classifier(patches)).reshape(-1, rows, columns, self.num_classes).permute(0, 3, 1, 2)
        count, rows, columns = x.shape[0], *((n - self.patch) // self.stride + 1 for n in x.shape[-2:])
        if count > self.patches_at_once:
            return torch.cat([self.classify(part) for part in x.split(self.patches_at_once)])  # type: ignore[no-untyped-call]
        width = min(columns, self.patches_at_once // count)
        height = max(1, self.patches_at_once // (count * columns))
        bands = [
            torch.cat(
                [self._block(x, top, left, min(height, rows - top), min(width, columns - left)) for left in range(0, columns, width)], 3
            )
            for top in range(0, rows, height)
        ]
        return torch.cat(bands, 2)

    def _block(self, x: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
        """Return the scores (N, K, height, width) of neighbouring cells; for a gradient they are computed twice, which bounds memory."""
        rows, columns = (
            slice(first * self.stride, (first + cells - 1) * self.stride + self.patch) for first, cells in ((top, height), (left, width))
        )
        x = x[:, :, rows, columns]
        return checkpoint(self._scores, x, use_reentrant=False, preserve_rng_state=False) if torch.is_grad_enabled() else self._scores(x)

    def _scores(self, x: Tensor) -> Tensor:
        """Return the scores (N, K, h, w) of all patches of x, each classified separately."""
        windows = x.unfold(2, self.patch, self.stride).unfold(3, self.patch, self.stride)  # a view: N C h w P P
        count, _, rows, columns = windows.shape[:4]
        scores = self.classifier(windows.permute(0, 2, 3, 1, 4, 5).flatten(0, 2))
        return cast(Tensor, scores).view(count, rows, columns, self.num_classes).permute(0, 3, 1, 2)


def _classifier(in_channels: int, num_classes: int, patch: int, width: int, hidden: int) -> nn.Sequential:
    """Return the patch classifier; its kernels and poolings reach every pixel of the patch."""
    layers = nn.Sequential()
    size, channels, block = patch, in_channels, 0
    while size >= 8:
        block, kernel = block + 1, 4 if size % 2 else 5
        layers.add_module(f"conv{block}", nn.Conv2d(channels, width, kernel))
        layers.add_module(f"relu{block}", nn.ReLU(inplace=True))
        layers.add_module(f"pool{block}", nn.MaxPool2d(2))
        size, channels = (size - kernel + 1) // 2, width
    layers.add_module("fc1", nn.Conv2d(channels, hidden, size))
    layers.add_module("relu_fc1", nn.ReLU(inplace=True))
    layers.add_module("score", nn.Conv2d(hidden, num_classes, 1))
    init_weights(layers)
    return layers
