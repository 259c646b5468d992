"""Runs of convolutions between two poolings, and the way through them: what SegNet, DeconvNet and U-Net are built of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor, nn

from upscore.errors import ModelError
from upscore.models.alignment import size_of
from upscore.ops.geometry import Geometry
from upscore.ops.unpool import max_pool, max_unpool

__all__ = [
    "check_classes",
    "decode",
    "encode",
    "init_weights",
    "mirrored_grid",
    "propagate_geometry",
    "scale_channels",
    "stage",
    "vgg16_encoder",
]

VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels after each convolution of stages 1 to 5."""

Pooled = list[tuple[Tensor, tuple[int, int]]]
"""Of each pooling, in order: its switches, and the size of what was pooled."""


def stage(
    names: Sequence[str],
    channels: Sequence[int],
    *,
    kernel: int = 3,
    padding: int | None = None,
    norm: Callable[[str], str] | None = None,
    relu: bool = True,
    transposed: bool = False,
) -> nn.Sequential:
    """Return convolutions of stride 1 under the given names, each with its normalisation and ReLU.

    Parameters
    ----------
    names : sequence of str
        One for each convolution.
    channels : sequence of int
        One more: those of the input come first.
    kernel : int
        Height and width.
    padding : int, optional
        Half the kernel, which keeps the size, when not given.
    norm : callable, optional
        Name of the batch normalisation that follows a convolution; there is none when not given.
    relu : bool
        Whether ReLUs follow.
    transposed : bool
        Transposed convolutions, as DeconvNet's are.
    """
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    run = nn.Sequential()
    for name, before, after in zip(names, channels[:-1], channels[1:], strict=True):
        run.add_module(name, kind(before, after, kernel, padding=kernel // 2 if padding is None else padding))
        if norm is not None:
            run.add_module(norm(name), nn.BatchNorm2d(after))
        if relu:
            run.add_module(f"relu_{name}", nn.ReLU(inplace=True))
    return run


def vgg16_encoder(in_channels: int, *, width: float, norm: Callable[[str], str]) -> nn.Sequential:
    """Return VGG16's thirteen convolutions in five stages, conv1 to conv5, normalised under the names that ``norm`` gives."""
    encoder, channels = nn.Sequential(), in_channels
    for number, layers in enumerate(VGG16, start=1):
        names = [f"conv{number}_{i}" for i in range(1, len(layers) + 1)]
        widths = [channels, *(scale_channels(n, width) for n in layers)]
        encoder.add_module(f"conv{number}", stage(names, widths, norm=norm))
        channels = widths[-1]
    return encoder


def encode(encoder: nn.Sequential, x: Tensor) -> tuple[Tensor, Pooled]:
    """Return the deepest pooled map of (N, C, H, W): each stage's convolutions, then its pooling, which is remembered."""
    pooled: Pooled = []
    for convolve in encoder:
        x = convolve(x)
        size = size_of(x)
        x, switches = max_pool(x)
        pooled.append((switches, size))
    return x, pooled


def decode(decoder: nn.Sequential, x: Tensor, pooled: Pooled) -> Tensor:
    """Return (N, C, H, W) at the size it was pooled from: each pooling undone, last first, then its stage's convolutions."""
    for convolve, (switches, size) in zip(decoder, reversed(pooled), strict=True):
        x = convolve(max_unpool(x, switches, size))
    return x


def propagate_geometry(layers: nn.Module, grid: Geometry) -> Geometry:
    """Return where the cells lie after the convolutions of ``layers``, in order, when they lay on ``grid`` before."""
    for layer in layers.modules():
        if isinstance(layer, nn.Conv2d):
            assert isinstance(layer.padding, tuple)
            grid = grid.conv(layer.kernel_size[0], layer.stride[0], layer.padding[0], layer.dilation[0])
        elif isinstance(layer, nn.ConvTranspose2d):
            assert isinstance(layer.padding, tuple)
            grid = grid.deconv(layer.kernel_size[0], layer.stride[0], layer.padding[0])
    return grid


def mirrored_grid(encoder: nn.Sequential, decoder: nn.Sequential, *, score: nn.Module, bottom: nn.Module | None = None) -> Geometry:
    """Return the grid of the deepest pooled map, with the field of a score.

    Parameters
    ----------
    encoder, decoder : nn.Sequential
        Stages; a 2×2 pooling follows each of the encoder's, an unpooling precedes each of the
        decoder's.
    score : nn.Module
        What makes logits of the last stage's output.
    bottom : nn.Module, optional
        What lies between.
    """
    grid = Geometry()
    for convolve in encoder:
        grid = propagate_geometry(convolve, grid).pool(2, 2)
    deepest = grid
    if bottom is not None:
        grid = propagate_geometry(bottom, grid)
    for convolve in decoder:
        grid = propagate_geometry(convolve, grid.deconv(2, 2))
    grid = propagate_geometry(score, grid)
    assert grid == Geometry(receptive_field=grid.receptive_field)  # back on the image's own pixels
    return replace(deepest, receptive_field=grid.receptive_field)


def init_weights(network: nn.Module) -> None:
    """Draw convolutions that keep the variance through ReLUs (He et al. 2015, eq. 10); biases are zero."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def scale_channels(channels: int, width: float) -> int:
    """Return ``channels`` times ``width``, at least 1.

    Raises
    ------
    ModelError
        The width is not above 0 and at most 4.
    """
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width <= 4:
        raise ModelError(f"found width {width!r}, expected above 0 and at most 4: 1 is the paper's")
    return max(1, round(channels * width))


def check_classes(num_classes: int) -> int:
    """Return ``num_classes``, or raise a ModelError where it is not a whole number from 1 to 255."""
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or not 1 <= num_classes <= 255:
        raise ModelError(f"found {num_classes} classes, expected a whole number from 1 to 255")
    return num_classes
