"""Blocks of convolutions between two poolings, and the passes through them: what SegNet, DeconvNet and U-Net are built of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor, nn

from upscore.models.alignment import size_of
from upscore.models.arguments import scale_channels
from upscore.ops.geometry import Geometry
from upscore.ops.unpool import max_pool, max_unpool

__all__ = [
    "VGG16_CHANNELS",
    "conv_block",
    "decode",
    "encode",
    "init_shifts",
    "init_weights",
    "mirrored_geometry",
    "propagate_geometry",
    "vgg16_encoder",
]

VGG16_CHANNELS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels after each convolution of blocks 1 to 5."""

Pooled = list[tuple[Tensor, tuple[int, int]]]
"""For each pooling, in order: its switches (pooling indices), and the size of the map before it."""


def conv_block(
    names: Sequence[str],
    channels: Sequence[int],
    *,
    kernel: int = 3,
    padding: int | None = None,
    norm: Callable[[str], str] | None = None,
    relu: bool = True,
    transposed: bool = False,
) -> nn.Sequential:
    """Return convolutions of stride 1 with the given names, each with its batch normalisation and ReLU.

    Parameters
    ----------
    names, channels : sequence of str, sequence of int
        Of each convolution; the channels of the input come first.
    kernel, padding : int
        Height and width, and by default half of that, so that the size stays the same.
    norm : callable, optional
        From a convolution's name to that of its batch normalisation; by default there is none.
    relu : bool
        Whether ReLUs follow.
    transposed : bool
        Transposed convolutions, as in DeconvNet.

    Examples
    --------
    >>> [name for name, _ in conv_block(["conv1", "conv2"], [3, 8, 8], norm="{}_bn".format).named_children()]
    ['conv1', 'conv1_bn', 'relu_conv1', 'conv2', 'conv2_bn', 'relu_conv2']
    """
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    block = nn.Sequential()
    for name, before, after in zip(names, channels[:-1], channels[1:], strict=True):
        block.add_module(name, kind(before, after, kernel, padding=kernel // 2 if padding is None else padding))
        if norm is not None:
            block.add_module(norm(name), nn.BatchNorm2d(after))
        if relu:
            block.add_module(f"relu_{name}", nn.ReLU(inplace=True))
    return block


def vgg16_encoder(in_channels: int, *, width: float, norm: Callable[[str], str]) -> nn.Sequential:
    """Return VGG16's thirteen convolutions in five blocks, conv1 to conv5, with batch normalisations that ``norm`` names."""
    encoder, channels = nn.Sequential(), in_channels
    for number, layers in enumerate(VGG16_CHANNELS, start=1):
        names = [f"conv{number}_{i}" for i in range(1, len(layers) + 1)]
        widths = [channels, *(scale_channels(n, width) for n in layers)]
        encoder.add_module(f"conv{number}", conv_block(names, widths, norm=norm))
        channels = widths[-1]
    return encoder


def encode(encoder: nn.Sequential, x: Tensor) -> tuple[Tensor, Pooled]:
    """Return the deepest pooled map of (N, C, H, W) and what undoes each pooling: a block's convolutions, then its pooling."""
    pooled: Pooled = []
    for convolve in encoder:
        x = convolve(x)
        size = size_of(x)
        x, switches = max_pool(x)
        pooled.append((switches, size))
    return x, pooled


def decode(decoder: nn.Sequential, x: Tensor, pooled: Pooled) -> Tensor:
    """Return (N, C, H, W) at the size it was pooled from: each pooling undone, last first, then a block's convolutions."""
    for convolve, (switches, size) in zip(decoder, reversed(pooled), strict=True):
        x = convolve(max_unpool(x, switches, size))
    return x


def propagate_geometry(layers: nn.Module, grid: Geometry) -> Geometry:
    """Return the grid after the convolutions of ``layers``, in order.

    >>> int(propagate_geometry(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)), Geometry()).receptive_field)
    5
    """
    for layer in layers.modules():
        if isinstance(layer, nn.Conv2d):
            assert isinstance(layer.padding, tuple)
            grid = grid.conv(layer.kernel_size[0], layer.stride[0], layer.padding[0], layer.dilation[0])
        elif isinstance(layer, nn.ConvTranspose2d):
            assert isinstance(layer.padding, tuple)
            grid = grid.deconv(layer.kernel_size[0], layer.stride[0], layer.padding[0])
    return grid


def mirrored_geometry(encoder: nn.Sequential, decoder: nn.Sequential, *, score: nn.Module, bottom: nn.Module | None = None) -> Geometry:
    """Return the grid of the deepest pooled map, with the receptive field of a score.

    A 2×2 pooling follows each of the encoder's blocks, an unpooling precedes each of the decoder's; ``bottom`` are the layers
    between them, and ``score`` those from the last block's output to logits.
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
    """Initialise convolutions so that ReLUs preserve the variance (He et al. 2015, eq. 10); biases are zero."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def init_shifts(network: nn.Module) -> None:
    """Initialise the shifts of batch normalisation to 0.001, as the releases of DeconvNet and SegNet do."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.constant_(layer.bias, 0.001)
