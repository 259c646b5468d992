"""Open a trained classifier by its name, with its weights and the names of its classes."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

from torch import nn

from upscore.errors import DataError, ModelError
from upscore.files import read_text
from upscore.models.backbones import OWN_BACKBONES, current_name, import_timm
from upscore.models.classifier import create_classifier
from upscore.models.normalization import Normalization
from upscore.models.timm_backbone import pretrained
from upscore.models.weights import Report, load_fitting, read_weights, silent
from upscore.models.weights.key_maps import rename_to_timm

__all__ = ["imagenet_names", "open_classifier", "read_class_names"]

MAX_CLASSES = 100_000


def open_classifier(
    name: str, *, weights: str | os.PathLike[str], num_classes: int = 1000, report: Report = silent
) -> tuple[nn.Module, int]:
    """Return a classifier, images (N, 3, H, W) of RGB in [0, 1] to logits (N, K), and the size of the images that it was made for.

    Parameters
    ----------
    name : str
        "alexnet", "googlenet" or "vgg16", as in the papers, or the name of a timm network.
    weights : "imagenet" or path
        timm's ImageNet weights, or a file under our, torchvision's, Caffe's or timm's names.
    num_classes : int
        K.
    report : callable
        Receives a sentence for each change that made a file's weights fit.

    Raises
    ------
    ModelError
        The name is unknown, or the weights cannot be read, downloaded, or do not fit.
    """
    file = Path(weights)
    if name in OWN_BACKBONES:
        if weights == "imagenet":
            raise ModelError(f"there are no ImageNet weights of '{name}' to download: give a file, or the name of a timm network")
        own = create_classifier(name, num_classes=num_classes, weights=file)
        return own.eval(), own.input_size
    name = current_name(name, report=report)
    arguments: dict[str, Any] = {} if num_classes == 1000 else {"num_classes": num_classes}
    if weights == "imagenet":
        network = pretrained(name, **arguments)
    else:
        network = import_timm().create_model(name, num_classes=num_classes)
        state, mobilenet = network.state_dict(), name.partition(".")[0] == "mobilenetv2_100"
        load_fitting(
            network,
            read_weights(file, report=report),
            source=file,
            report=report,
            rename=lambda found: rename_to_timm(found, state, state, torchvision_mobilenet=mobilenet),
        )
    settings = network.pretrained_cfg
    normalization = Normalization.for_channels(settings["mean"], settings["std"], 3)
    classifier = nn.Sequential(OrderedDict(normalization=normalization, network=network))
    return classifier.eval(), int(settings["input_size"][-1])


def imagenet_names() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of ImageNet's 1000 classes in the order of its classifiers, and their synsets such as "n02123045"."""
    import_timm()
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    names = tuple(info.index_to_description(k).partition(",")[0] for k in range(1000))
    return names, tuple(info.index_to_label_name(k) for k in range(1000))


def read_class_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the names of a text file with one class a line, in the order of the classifier's outputs; DataError where there are none."""
    lines = read_text(Path(path), max_bytes=2**24, what="a list of classes").splitlines()
    names = tuple(line.strip() for line in lines if line.strip())
    if not 1 <= len(names) <= MAX_CLASSES:
        raise DataError(f"{os.fspath(path)}: found {len(names)} names of classes, expected one on each line, at most {MAX_CLASSES}")
    return names
