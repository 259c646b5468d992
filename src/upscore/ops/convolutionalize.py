"""Turn a classifier into a fully convolutional network with the same weights.

A linear layer over a flattened (C, h, w) map is a convolution whose kernel is the whole
map, and one over a vector is a 1×1 convolution (Long, Shelhamer and Darrell 2015, §3.1 and
figure 2). On the picture size the classifier was made for, the convolutional network gives
its logits; on larger pictures it gives a grid of them. Without padding in the trunk each
cell of the grid is the classifier's answer for the crop that the cell sees.
"""

from __future__ import annotations

import copy
from collections import OrderedDict

import torch
from torch import nn
from torch.nn.utils import skip_init

from upscore.errors import ModelError

__all__ = ["convolutionalize", "linear_to_conv"]


def linear_to_conv(linear: nn.Linear, *, kernel: int | tuple[int, int], in_channels: int) -> nn.Conv2d:
    """Return the convolution that does to each window what ``linear`` does to one flattened map.

    Parameters
    ----------
    linear : nn.Linear
        Reads ``in_channels * kernel_h * kernel_w`` features, flattened from (C, h, w) in that
        order, as torch flattens; it is not changed.
    kernel : int or (int, int)
        Height and width of the map that was flattened; 1 for a layer that follows a linear one.
    in_channels : int
        C of the map that was flattened.

    Returns
    -------
    nn.Conv2d
        Stride 1, no padding; copies of the weights, on their device and of their dtype.

    Raises
    ------
    ModelError
        The layer reads another number of features.
    """
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    if linear.in_features != in_channels * height * width:
        raise ModelError(
            f"found a linear layer that reads {linear.in_features} features, expected {in_channels}×{height}×{width} = "
            f"{in_channels * height * width}: give the size of the map it was trained on"
        )
    weight, bias = linear.weight, linear.bias
    form = {"bias": bias is not None, "device": weight.device, "dtype": weight.dtype}
    conv = skip_init(nn.Conv2d, in_channels, linear.out_features, (height, width), **form)  # type: ignore[no-untyped-call]
    assert isinstance(conv, nn.Conv2d)
    with torch.no_grad():
        conv.weight.copy_(weight.reshape(conv.weight.shape))
        if conv.bias is not None:
            conv.bias.copy_(bias)
    return conv.train(linear.training).requires_grad_(weight.requires_grad)


def convolutionalize(
    features: nn.Module, classifier: nn.Module, *, input_size: int | tuple[int, int], in_channels: int = 3
) -> nn.Sequential:
    """Return the fully convolutional network of a classifier made of a trunk and linear layers.

    Parameters
    ----------
    features : nn.Module
        The trunk: (N, in_channels, H, W) to (N, C, h, w). Used as it is, not copied.
    classifier : nn.Module
        Linear layers with dropout and element-wise layers between, as in AlexNet and VGG16,
        beginning with ``nn.Flatten`` or not. It is not changed.
    input_size : int or (int, int)
        Picture size the classifier was made for: 224 for torchvision's AlexNet and VGG16. It
        decides the first kernel.
    in_channels : int
        Channels of the picture.

    Returns
    -------
    nn.Sequential
        ``features`` and ``classifier``, the latter convolutional and under the same layer
        names: (N, in_channels, H, W) to (N, classes, h', w') logits, (N, classes, 1, 1) at
        ``input_size``. In train or eval mode as ``classifier`` is.

    Raises
    ------
    ModelError
        A layer is not one that looks at each cell by itself, or the sizes do not fit.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    shape = _map_shape(features, input_size, in_channels)
    for name, layer in classifier.named_children():
        if isinstance(layer, nn.Linear):
            layers[name] = linear_to_conv(layer, kernel=shape[1:], in_channels=shape[0])
            shape = (layer.out_features, 1, 1)
        elif isinstance(layer, nn.Flatten | nn.Identity):
            layers[name] = nn.Identity()
        elif isinstance(layer, _ELEMENTWISE):
            layers[name] = copy.deepcopy(layer)
        else:
            raise ModelError(f"found layer '{name}' of type {type(layer).__name__} in the classifier: only linear and element-wise layers")
    network = nn.Sequential(OrderedDict(features=features, classifier=nn.Sequential(layers).train(classifier.training)))
    network.training = classifier.training
    return network


_ELEMENTWISE = (nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish, nn.LeakyReLU, nn.ELU, nn.Sigmoid, nn.Tanh, nn.Dropout)


def _map_shape(features: nn.Module, input_size: int | tuple[int, int], in_channels: int) -> tuple[int, int, int]:
    """Return (C, h, w) of the trunk's output for one picture of ``input_size``."""
    height, width = (input_size, input_size) if isinstance(input_size, int) else input_size
    like = next(features.parameters(), torch.empty(0))
    training = {module: module.training for module in features.modules()}
    features.eval()
    try:
        with torch.no_grad():
            seen = features(torch.zeros(1, in_channels, height, width, device=like.device, dtype=like.dtype))
    finally:
        for module, mode in training.items():
            module.training = mode
    if seen.ndim != 4:
        raise ModelError(
            f"found a trunk whose output has shape {tuple(seen.shape)}, expected (1, C, h, w): leave its pooling and flattening out"
        )
    return (seen.shape[1], seen.shape[2], seen.shape[3])
