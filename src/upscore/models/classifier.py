"""The papers' classifiers, before they were made fully convolutional.

::

    images ─ normalization ─ backbone ─ average ─ fc8
    N C H W                  /32       │        N K
                                       over the cells: one of fc7 (AlexNet, VGG16), 7×7 of 5b (GoogLeNet)

A backbone is fully convolutional already, so the classifier is the same backbone, without the
papers' padding of the input, and one more linear layer. On an image of the size it was made for it
equals the original; on a larger one AlexNet and VGG16 have several cells, and the
average of their features gives the average of their logits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from upscore.errors import ModelError, nearest_name
from upscore.models.backbone import Backbone
from upscore.models.backbones import OWN_BACKBONES
from upscore.models.normalization import Normalization
from upscore.models.weights import load_fitting, read_weights, warn
from upscore.models.weights.key_maps import rename

__all__ = ["Classifier", "create_classifier"]

_MADE_FOR: dict[tuple[str, str], tuple[int, dict[str, int]]] = {
    ("alexnet", "caffe"): (227, {"padding": 0}),
    ("alexnet", "torchvision"): (224, {"padding": 2}),
    ("googlenet", "caffe"): (224, {}),
    ("googlenet", "torchvision"): (224, {}),
    ("vgg16", "caffe"): (224, {"padding": 1}),
}
"""From name and variant to the size of its images, and the padding of its first layer."""


class Classifier(nn.Module):
    """A backbone, the average of its feature level of stride 32, and a linear layer to K classes.

    ``input_size`` is the height and width of the images it was made for; larger ones can be given too. ``normalization`` maps
    images in [0, 1] to what the backbone expects.
    """

    def __init__(self, backbone: Backbone, *, num_classes: int, input_size: int, normalization: nn.Module) -> None:
        super().__init__()
        if not isinstance(num_classes, int) or num_classes < 1:
            raise ModelError(f"found {num_classes} classes, expected at least 1")
        self.num_classes, self.input_size = num_classes, input_size
        self.normalization = normalization
        self.backbone = backbone
        self.fc8 = nn.Linear(backbone.levels[32].channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K) of images (N, C, H, W) float in [0, 1]."""
        features = self.backbone(self.normalization(images))[32]
        return cast(Tensor, self.fc8(features.mean((2, 3))))


def create_classifier(
    name: str,
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    weights: str | Path | None = None,
    normalization: Normalization | None = None,
    **arguments: Any,
) -> Classifier:
    """Build AlexNet, GoogLeNet or VGG16 as a classifier: (N, C, H, W) in [0, 1] to logits (N, K); in train mode.

    Parameters
    ----------
    name : {"alexnet", "googlenet", "vgg16"}
        Whose backbone.
    num_classes, in_channels : int
        K, ImageNet's 1000 by default, and C of the images.
    weights : path, optional
        A file with all layers, under our names, torchvision's or Caffe's.
    normalization : Normalization, optional
        By default the backbone's own statistics.
    **arguments
        Of the backbone: ``variant``, ``width``, ``dropout``, ``batch_norm``.

    Raises
    ------
    ModelError
        The name or an argument is unknown, or the weights do not fit.

    Examples
    --------
    >>> import torch
    >>> model = create_classifier("alexnet", num_classes=10, width=1 / 32).eval()
    >>> model.input_size, tuple(model(torch.rand(1, 3, 227, 227)).shape)
    (227, (1, 10))
    """
    if name not in OWN_BACKBONES:
        raise ModelError(
            f"unknown classifier '{name[:80]}'{nearest_name(name, list(OWN_BACKBONES))}: expected one of {', '.join(OWN_BACKBONES)}; "
            "others are timm's, with timm.create_model"
        )
    input_size, padding = _MADE_FOR.get((name, arguments.get("variant", "caffe")), (224, {}))
    try:
        backbone: Any = OWN_BACKBONES[name].build(in_channels=in_channels, **padding, **arguments)
    except TypeError as error:
        raise ModelError(f"'{name}' does not take these arguments ({error})") from error
    normalization = normalization or Normalization.for_channels(backbone.mean, backbone.std, in_channels)
    model = Classifier(backbone, num_classes=num_classes, input_size=input_size, normalization=normalization)
    if weights is not None:
        found, own = read_weights(weights, report=warn), model.state_dict()
        load_fitting(model, found, source=weights, report=warn, rename=lambda tensors: rename(tensors, own, name))
    return model
