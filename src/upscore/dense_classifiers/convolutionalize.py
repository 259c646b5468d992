"""Turn a classifier into a fully convolutional network with the same weights.

A linear layer over a flattened (C, h, w) map is a convolution whose kernel is the whole
map, one over a vector is a 1×1 convolution, and an average over the whole map is one over
the cells of a window (Long, Shelhamer and Darrell 2015, §3.1 and figure 2)::

    image  ── layers ──► C h w ── head ──► K scores               the classifier, on one window
    larger ── layers ──► C h' w' ── head, convolutional ──► K h' w' scores, one vector for each window

The network is traced by ``torch.fx``, run once on its input size, and rewritten from the layer
on that turns its map into a vector. An operation there is recognised by what it does to random
maps, not by its name.

The grid equals the classifier's outputs exactly where no cell's receptive field exceeds its
window. Padding enlarges the receptive field: the classifier sees zeros at the edge of every
window, the dense pass sees the image there. Averages over the whole image do the same. Both are
measured, and reported by :class:`InexactWarning`.
"""

from __future__ import annotations

import warnings
from fractions import Fraction
from typing import cast

import torch
from torch import Tensor, nn

from upscore.dense_classifiers.fx_rewrite import linear_to_conv, rewrite_head
from upscore.dense_classifiers.fx_trace import trace
from upscore.errors import GeometryError, ModelError
from upscore.ops.evaluation_mode import evaluation_mode
from upscore.ops.geometry import Geometry
from upscore.ops.receptive_field import MeasuredMap, measure_receptive_fields
from upscore.text import reason

__all__ = ["DenseClassifier", "InexactWarning", "convolutionalize", "linear_to_conv"]


class InexactWarning(UserWarning):
    """The cells of a grid differ from the classifier's outputs for their windows; the message gives the reason."""


class DenseClassifier(nn.Module):
    """A classifier applied to every window of an image at once.

    Attributes
    ----------
    network : nn.Module
        The rewritten classifier.
    input_size : (int, int)
        Height and width of a window.
    geometry : Geometry
        Of the windows along rows: their stride, the centre of the first, their height. Where
        windows are not square, offset and receptive field along columns follow from the width.
    exact : bool
        Every cell whose window ends inside the image equals the classifier's output for it, in
        eval mode, up to rounding. (Further cells may follow, since layers need not use a
        window's last pixels, and poolings may round up.)
    caveat : str
        Why it is not exact; empty where it is.
    """

    def __init__(self, network: nn.Module, *, input_size: tuple[int, int], stride: Fraction, caveat: str) -> None:
        super().__init__()
        self.network = network
        self.input_size = input_size
        self.geometry = Geometry(stride, Fraction(input_size[0] - 1, 2), Fraction(input_size[0]))
        self.exact, self.caveat = not caveat, caveat
        self.training = network.training

    def forward(self, images: Tensor) -> Tensor:
        """Return a grid of logits (N, K, h', w') of images (N, C, H, W) in the classifier's own value range.

        It is 1×1 at ``input_size``; a ModelError is raised for images smaller than that.
        """
        if images.shape[-2] < self.input_size[0] or images.shape[-1] < self.input_size[1]:
            found, expected = (f"{height}×{width}" for height, width in (images.shape[-2:], self.input_size))
            raise ModelError(f"found images of {found} pixels, expected at least {expected}: the classifier's window must fit into them")
        return cast(Tensor, self.network(images))


def convolutionalize(model: nn.Module, *, input_size: int | tuple[int, int] | None = None, in_channels: int = 3) -> DenseClassifier:
    """Return the fully convolutional network of a classifier.

    Parameters
    ----------
    model : nn.Module
        (N, C, H, W) to (N, K): our AlexNet, VGG16 and GoogLeNet, torchvision's, timm's, or
        any other whose map is flattened or averaged. It is not changed; the result uses its very
        layers, except for linear ones, which are copied.
    input_size : int or (int, int), optional
        Image size of the classifier. By default the model's ``input_size`` (ours) or
        ``pretrained_cfg`` (timm's).
    in_channels : int
        C.

    Returns
    -------
    DenseClassifier
        (N, C, H, W) to (N, K, h', w') logits. In train or eval mode as ``model`` is.

    Raises
    ------
    ModelError
        The network cannot be traced, its head is not one of those supported, or its cells do not
        lie on a regular grid (attention, padding that depends on the size).

    Warns
    -----
    InexactWarning
        Cells differ from the classifier's outputs for their windows.

    Examples
    --------
    >>> classifier = nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 3 * 3, 10)).eval()
    >>> dense = convolutionalize(classifier, input_size=8)
    >>> dense(torch.zeros(1, 3, 12, 16)).shape, dense.geometry.stride, dense.exact
    (torch.Size([1, 10, 3, 5]), Fraction(2, 1), True)
    """
    height, width = _input_size(model, input_size)
    like = next(model.parameters(), torch.empty(0))
    example = torch.rand(1, in_channels, height, width, device=like.device, dtype=like.dtype)
    with evaluation_mode(model), torch.no_grad():
        network = trace(model)
        try:
            expected = model(example)
            rewrite_head(network, example)
            found = network(example)
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, ModelError):
                raise
            raise ModelError(
                f"{type(model).__name__} cannot be run on images of {height}×{width} with {in_channels} channels "
                f"({reason(error)}): give its input_size"
            ) from error
        if found.ndim != 4 or found.shape[2:] != (1, 1) or not torch.allclose(found.flatten(1), expected, rtol=1e-3, atol=1e-3):
            raise ModelError(f"{type(model).__name__} cannot be made convolutional: rewritten, it gives other scores for the same image")
        try:
            axes = (None,) if height == width else (-2, -1)
            measured = [
                measure_receptive_fields(lambda x: [network(x)], in_channels=in_channels, min_size=max(height, width), axis=axis)[0]
                for axis in axes
            ]
            if len({axis.geometry.stride for axis in measured}) > 1:
                raise GeometryError("its cells are further apart along one axis than along the other")
        except (GeometryError, RuntimeError) as error:
            raise ModelError(f"{type(model).__name__} gives no regular grid on larger images: {reason(error)}") from error
    network.training = model.training
    caveat = _caveat(measured, (height, width))
    if caveat:
        warnings.warn(caveat, InexactWarning, stacklevel=2)
    return DenseClassifier(network, input_size=(height, width), stride=measured[0].geometry.stride, caveat=caveat)


def _caveat(measured: list[MeasuredMap], size: tuple[int, int]) -> str:
    """Return why cells differ from the classifier's outputs for their windows; "" where they do not."""
    before = beyond = Fraction(0)
    for axis, pixels in zip(measured, size, strict=False):
        half = (Fraction(axis.geometry.receptive_field) - 1) / 2
        before = max(before, half - axis.geometry.offset)
        beyond = max(beyond, axis.geometry.offset + half - (pixels - 1))
    reasons = []
    if before or beyond:
        reasons.append(
            f"its layers pad or round up, so that a cell sees {before} pixels before its window and {beyond} "
            "beyond it: there the classifier sees padding, and the grid sees the image"
        )
    if measured[0].has_global_average:
        reasons.append("gates or norms average over all positions: over the window in the classifier, over the whole image in the grid")
    return f"cells are not exactly the classifier's outputs for their windows: {'; '.join(reasons)}" if reasons else ""


def _input_size(model: nn.Module, given: int | tuple[int, int] | None) -> tuple[int, int]:
    if given is None:
        given = getattr(model, "input_size", None)
    if given is None:
        settings = getattr(model, "pretrained_cfg", None) or {}
        given = tuple(settings.get("input_size", ()))[1:] or None
    if given is None:
        raise ModelError(f"{type(model).__name__} does not declare its input size: give input_size, 224 for most")
    height, width = (given, given) if isinstance(given, int) else given
    if height < 1 or width < 1:
        raise ModelError(f"found input_size {height}×{width}, expected at least 1×1")
    return height, width
