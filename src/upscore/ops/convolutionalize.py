"""Turn a classifier into a fully convolutional network with the same weights.

A linear layer over a flattened (C, h, w) map is a convolution whose kernel is the whole
map, one over a vector is a 1×1 convolution, and an average over the whole map is one over
the cells of a window (Long, Shelhamer and Darrell 2015, §3.1 and figure 2)::

    image ── layers ──► C h w ── head ──► one answer            the classifier, on one window
    larger  ── layers ──► C h' w' ── head, convolutional ──► a grid of answers, one for each window

The network is followed by ``torch.fx``, run once on the size it was made for, and rewritten
from the place where its map becomes a vector. A step there is known by what it does to
random maps, not by its name.

The grid is the classifier's answers exactly where no cell sees beyond its window. Padding
makes it see further: the classifier meets zeros at the edge of every window, the dense pass
meets the image there. So do averages over the whole image. Which of the two it is is
measured, and said.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import cast

import torch
from torch import Tensor, nn

from upscore.errors import GeometryError, ModelError
from upscore.ops.geometry import Geometry
from upscore.ops.heads import linear_to_conv, rewrite_head
from upscore.ops.receptive_field import Measured, measure
from upscore.ops.tracing import follow
from upscore.text import reason

__all__ = ["DenseClassifier", "InexactWarning", "convolutionalize", "linear_to_conv"]


class InexactWarning(UserWarning):
    """A grid's cells are not exactly the classifier's answers for their windows; the text says why."""


class DenseClassifier(nn.Module):
    """A classifier over every window of an image at once.

    Attributes
    ----------
    network : nn.Module
        The rewritten classifier.
    input_size : (int, int)
        Height and width of a window.
    geometry : Geometry
        Of the windows: ``jump`` pixels between them, the first one's middle, their height.
        Where they are not square, ``start`` and ``field`` along columns follow from the width.
    exact : bool
        Every cell whose window ends inside the image is the classifier's answer for it, in
        eval mode, up to rounding. (Cells beyond them can follow, since layers need not use a
        window's last pixels, and poolings may round up.)
    caveat : str
        Why not; empty where it is.
    """

    def __init__(self, network: nn.Module, *, input_size: tuple[int, int], jump: Fraction, caveat: str) -> None:
        super().__init__()
        self.network = network
        self.input_size = input_size
        self.geometry = Geometry(jump, Fraction(input_size[0] - 1, 2), Fraction(input_size[0]))
        self.exact, self.caveat = not caveat, caveat
        self.training = network.training

    def forward(self, images: Tensor) -> Tensor:
        """Return a grid of logits.

        Parameters
        ----------
        images : (N, C, H, W) float
            As the classifier takes them, of at least ``input_size``.

        Returns
        -------
        Tensor
            (N, K, h', w'); 1×1 at ``input_size``.

        Raises
        ------
        ModelError
            The images are smaller than a window.
        """
        if images.shape[-2] < self.input_size[0] or images.shape[-1] < self.input_size[1]:
            found, least = (f"{height}×{width}" for height, width in (images.shape[-2:], self.input_size))
            raise ModelError(f"found images of {found} pixels, expected at least {least}: the classifier's window must fit in")
        return cast(Tensor, self.network(images))


def convolutionalize(model: nn.Module, *, input_size: int | tuple[int, int] | None = None, in_channels: int = 3) -> DenseClassifier:
    """Return the fully convolutional network of a classifier.

    Parameters
    ----------
    model : nn.Module
        (N, C, H, W) to (N, K): our AlexNet, VGG16 and GoogLeNet, torchvision's, timm's, or
        any other whose map is flattened or averaged. It is not changed; the result shares its
        layers, but for linear ones, which are copied.
    input_size : int or (int, int), optional
        Image size the classifier was made for. By default what the model says of itself:
        ours ``input_size``, timm's ``pretrained_cfg``.
    in_channels : int
        Channels of the image.

    Returns
    -------
    DenseClassifier
        (N, C, H, W) to (N, K, h', w') logits. In train or eval mode as ``model`` is.

    Raises
    ------
    ModelError
        The network cannot be followed, its head is not understood, or its cells do not lie
        on a regular grid (attention, padding that depends on the size).

    Warns
    -----
    InexactWarning
        Cells are not exactly the classifier's answers for their windows.
    """
    height, width = _input_size(model, input_size)
    like = next(model.parameters(), torch.empty(0))
    example = torch.rand(1, in_channels, height, width, device=like.device, dtype=like.dtype)
    with _in_eval_mode(model), torch.no_grad():
        network = follow(model)
        try:
            expected = model(example)
            rewrite_head(network, example)
            found = network(example)
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, ModelError):
                raise
            raise ModelError(
                f"{type(model).__name__} cannot be run on images of {height}×{width} with {in_channels} channels "
                f"({reason(error)}): give the input_size it was made for"
            ) from error
        if found.ndim != 4 or found.shape[2:] != (1, 1) or not torch.allclose(found.flatten(1), expected, rtol=1e-3, atol=1e-3):
            raise ModelError(f"{type(model).__name__} was not understood: rewritten, it gives another answer for the same image")
        try:
            axes = (None,) if height == width else (-2, -1)
            seen = [measure(lambda x: [network(x)], in_channels=in_channels, least=max(height, width), axis=a)[0] for a in axes]
            if len({axis.geometry.stride for axis in seen}) > 1:
                raise GeometryError("its cells are further apart along one axis than along the other")
        except (GeometryError, RuntimeError) as error:
            raise ModelError(f"{type(model).__name__} gives no regular grid on larger images: {reason(error)}") from error
    network.training = model.training
    caveat = _caveat(seen, (height, width))
    if caveat:
        warnings.warn(caveat, InexactWarning, stacklevel=2)
    return DenseClassifier(network, input_size=(height, width), jump=seen[0].geometry.stride, caveat=caveat)


def _caveat(seen: list[Measured], size: tuple[int, int]) -> str:
    """Say why a cell's answer is not the classifier's for its window; "" where it is."""
    before = beyond = Fraction(0)
    for axis, pixels in zip(seen, size, strict=False):
        half = (Fraction(axis.geometry.receptive_field) - 1) / 2
        before = max(before, half - axis.geometry.offset)
        beyond = max(beyond, axis.geometry.offset + half - (pixels - 1))
    reasons = []
    if before or beyond:
        reasons.append(
            f"its layers pad or round up, so that a cell sees {before} pixels before its window and {beyond} "
            "beyond it: there the classifier meets padding, and the grid meets the image"
        )
    if seen[0].looks_everywhere:
        reasons.append("gates or norms average over all positions: of the window in the classifier, of the whole image in the grid")
    return f"cells are not exactly the classifier's answers for their windows: {'; '.join(reasons)}" if reasons else ""


def _input_size(model: nn.Module, given: int | tuple[int, int] | None) -> tuple[int, int]:
    if given is None:
        given = getattr(model, "input_size", None)
    if given is None:
        settings = getattr(model, "pretrained_cfg", None) or {}
        given = tuple(settings.get("input_size", ()))[1:] or None
    if given is None:
        raise ModelError(f"{type(model).__name__} does not say for which images it was made: give input_size, 224 for most")
    height, width = (given, given) if isinstance(given, int) else given
    if height < 1 or width < 1:
        raise ModelError(f"found input_size {height}×{width}, expected at least 1×1")
    return height, width


@contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
