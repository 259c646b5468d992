"""Fill a whole network, scores included, from someone else's file (FCN's authors call it net surgery).

torchfcn's and Caffe's upsampling layers are C×C kernels of which mostly only the diagonal counts,
and mostly the bilinear ones that are computed here without weights. Both are checked, so that no
tensor of a file is ignored on an assumption; only a network of full kernels takes others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from upscore.errors import ModelError
from upscore.models.normalization import CAFFE_MEAN, IMAGENET_MEAN, NormalizationName
from upscore.models.two_heads import TwoHeads
from upscore.models.weights.key_maps import is_vgg16_layer, join_heads, rename
from upscore.models.weights.load import Report, load_fitting, silent, strip_prefixes, strippings
from upscore.models.weights.read import FROM_CAFFE, read_weights
from upscore.ops.upsample import BilinearUpsample, bilinear_weights, mix_kernels

__all__ = ["holds_whole_network", "normalization_of", "start_from", "transplant", "transplant_encoder"]

_UPSAMPLINGS = {"upscore2": ("score2",), "upscore_pool4": ("score4",), "upscore": ("upsample", "bigscore")}
"""What the deploy files of the CVPR paper's networks call the layers that upsample."""

_ADVICE = ": build it with upsampling='full', where it has that"

_SEGMENTATION_LAYERS = ("score", "upscore", "seg-score", "seg_score", "backbone.", "streams.", "conv1_1_D", "deconv1_1")
"""Layers that only a segmentation network has."""


def holds_whole_network(weights: str | Path) -> bool:
    """Return whether a file holds a segmentation network, and not only its backbone."""
    return _is_whole_network(strip_prefixes(read_weights(weights)))


def _is_whole_network(found: Mapping[str, Tensor]) -> bool:
    return any(name.startswith(_SEGMENTATION_LAYERS) for name in found)


def normalization_of(weights: str | Path | None) -> NormalizationName | None:
    """Return the normalisation of the images that a file's network was trained on, as far as its names show; None where they do not.

    Caffe's networks, and torchfcn's, which were converted from them, take BGR from 0 to 255
    minus a mean; SegNet's takes it without. ``vgg16_from_caffe.pth`` has torchvision's names and Caffe's
    numbers, which cannot be recognised: give ``normalization="caffe"`` with it.

    Of ``weights`` only a file is read, not "imagenet", "none" or None; ModelError where it cannot be read.
    """
    if weights is None or weights in ("none", "imagenet"):
        return None
    found = strip_prefixes(read_weights(weights))
    layers = {name.rpartition(".")[0] for name in found}
    if "normalization.mean" in found:
        mean = found["normalization.mean"]
        for name, numbers in (("caffe", CAFFE_MEAN), ("imagenet", IMAGENET_MEAN), ("raw", (0.0, 0.0, 0.0))):
            if mean.numel() == 3 and torch.allclose(mean.flatten().double(), torch.tensor(numbers).double(), atol=1e-3):
                return cast(NormalizationName, name)
        return None
    if "conv1_1_D" in layers:
        return "raw"
    from_caffe = Path(weights).suffix in FROM_CAFFE or any("/" in layer or "-" in layer for layer in layers)
    papers = {"conv1", "conv1_1"} & layers and any(layer.startswith(("fc8", "score", "upscore", "deconv")) for layer in layers)
    return "caffe" if from_caffe or papers else None


def transplant(model: nn.Module, weights: str | Path, *, backbone: str = "vgg16", report: Report = silent) -> None:
    """Fill a segmentation network from a file that holds all of it, under our names, Caffe's or torchfcn's; it is changed in place.

    ``backbone`` is the name of its backbone; ``report`` receives a sentence for each change that made the file's names fit.

    Raises
    ------
    ModelError
        The file cannot be read; layers are missing, left over or of another shape; its
        upsampling is not what this network computes; or it was trained on other images.
    """
    own = model.state_dict()
    variants = list(strippings(read_weights(weights, report=report)))
    changes, tensors = next((variant for variant in variants if _is_whole_network(variant[1])), variants[0])
    found = rename(join_heads(tensors) if isinstance(model, TwoHeads) else tensors, own, backbone)
    for name in own:
        fits = name not in found or found[name].shape == own[name].shape
        if name.startswith("normalization.") and fits and not torch.allclose(found[name].to(own[name]), own[name]):
            raise ModelError(f"the weights '{weights}' were trained with another normalization: their '{name}' differs from the network's")
    _check_upsampling(model, found, weights)
    _check_scales(model, found, weights)
    _fold_norms(model, found)
    load_fitting(model, found, source=weights, report=report)
    for sentence in changes:
        report(f"{weights}: {sentence}")


def transplant_encoder(model: nn.Module, found: Mapping[str, Tensor], *, source: str | Path, report: Report = silent) -> None:
    """Fill the layers that a network has in common with VGG16 (convolutions, fc6, fc7) from a file of that, in place.

    ``model`` has the paper's names, ``conv1_1`` and so on; ``found`` is VGG16 under our names, Caffe's, torchvision's or timm's.
    ``source`` is its origin, for errors; ``report`` receives a sentence for each change that made its names fit. ModelError where
    it lacks such a layer, has it in another shape, or holds something else.
    """
    own = model.state_dict()
    encoder = {name: tensor for name, tensor in own.items() if is_vgg16_layer(name)}

    def complete(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the network's state with the file's layers; without those that the file lacks, so that they are reported."""
        named = rename(tensors, encoder, "vgg16")
        unused = {name for name in named if name not in encoder and is_vgg16_layer(name) and name.startswith("fc")}
        rest = {name: tensor for name, tensor in own.items() if name not in encoder}
        return rest | {name: tensor for name, tensor in named.items() if name not in unused}

    load_fitting(model, found, source=source, report=report, rename=complete)


def start_from(model: nn.Module, earlier: Mapping[str, Tensor], *, anew: Collection[str] = ()) -> None:
    """Copy a trained network into that of the next stage: FCN-32s → 16s → 8s, or the same network again.

    Every tensor is copied by name. A finer FCN's own score layers stay zero, so it
    begins with the coarser one's prediction (up to the extra interpolation step).

    Parameters
    ----------
    model : nn.Module
        The network to train; changed in place.
    earlier : mapping of str to Tensor
        State of a network with the same backbone and, but for ``anew``, the same classes.
    anew : collection of str
        Tensors that stay as they are in ``model``, whatever the earlier network's: its score
        layers (:func:`upscore.models.factory.score_layers`), for other classes.

    Raises
    ------
    ModelError
        The earlier network has tensors that this one has not, or of other shapes, or lacks some
        that are not new score or upsampling layers.
    """
    own = {name: tensor for name, tensor in model.state_dict().items() if name not in anew}
    earlier = {name: tensor for name, tensor in earlier.items() if name not in anew}
    foreign = [name for name in earlier if name not in own]
    if foreign:
        raise ModelError(
            f"cannot start from this network: it holds '{foreign[0]}', which this one has not; backbone and decoder must be the same"
        )
    for name, tensor in earlier.items():
        if tensor.shape != own[name].shape:
            raise ModelError(
                f"cannot start from this network: its '{name}' is {tuple(tensor.shape)}, expected {tuple(own[name].shape)}; "
                "number of classes, channels and width must be the same"
            )
    lacking = [name for name in own if name not in earlier and not name.startswith(("decoder.score_pool", "decoder.upscore"))]
    if lacking:
        raise ModelError(f"cannot start from this network: it lacks '{lacking[0]}'; give that of a network with the same backbone")
    for name in own:
        if name.startswith("normalization.") and not torch.equal(own[name].cpu(), earlier[name].cpu()):
            raise ModelError(f"cannot start from this network: its '{name}' differs, it was trained with another normalization")
    model.load_state_dict(dict(earlier), strict=False)


def _check_upsampling(model: nn.Module, found: dict[str, Tensor], weights: str | Path) -> None:
    """Bring upsampling into the network's form: C×C kernels or their diagonal, or none where they are bilinear anyway.

    The layers have other names in other files (:data:`_UPSAMPLINGS`); the last one of an FCN may have its factor in its name.
    """
    for layer, module in model.named_modules():
        if not isinstance(module, BilinearUpsample):
            continue
        short = layer.rpartition(".")[2]
        names = (layer, short, f"{short}{module.factor}", *_UPSAMPLINGS.get(short, ()))
        name = next((name for name in names if f"{name}.weight" in found), None)
        if name is None:
            continue
        kernel, bias, classes = found.pop(f"{name}.weight"), found.pop(f"{name}.bias", None), module.channels
        size = (module.kernel, module.kernel)
        if kernel.ndim != 4 or kernel.shape[2:] != size or kernel.shape[:2] not in ((classes, classes), (classes, 1)):
            raise ModelError(
                f"the weights '{weights}' do not fit this network: their '{name}.weight' is {tuple(kernel.shape)}, "
                f"expected {(classes, classes, *size)}"
            )
        if module.bias is not None:
            found[f"{layer}.bias"] = torch.zeros(classes) if bias is None else bias.flatten()
        elif bias is not None and torch.count_nonzero(bias):
            raise ModelError(f"the weights '{weights}' have a bias in '{name}', and this network's upsampling has none{_ADVICE}")
        if module.mixed:
            found[f"{layer}.weight"] = mix_kernels(kernel) if kernel.shape[1] == 1 else kernel
            continue
        if kernel.shape[1] == classes > 1:
            diagonal = kernel.diagonal().movedim(-1, 0)
            if torch.count_nonzero(kernel) != torch.count_nonzero(diagonal):
                raise ModelError(
                    f"the weights '{weights}' mix classes in '{name}.weight': its kernels off the diagonal are not zero, "
                    f"and this network upsamples every class by itself{_ADVICE}"
                )
            kernel = diagonal[:, None]
        if module.weight is not None:
            found[f"{layer}.weight"] = kernel.contiguous()
            continue
        line = bilinear_weights(module.kernel, module.factor)
        if not torch.allclose(kernel.double(), torch.outer(line, line).expand(kernel.shape), atol=1e-4):
            raise ModelError(
                f"the weights '{weights}' hold a learned '{name}.weight', and this network's is bilinear: "
                "build it with upsampling='learned', where it has that"
            )


def _check_scales(model: nn.Module, found: dict[str, Tensor], weights: str | Path) -> None:
    """Remove the fixed factors of FCN-8s at once, where they are the network's own."""
    for pool in ("pool3", "pool4"):
        factor = found.pop(f"scale_{pool}.weight", None)
        own = getattr(getattr(getattr(model, "decoder", None), f"at_{pool}", None), "scale", 1.0)
        if factor is not None and not torch.allclose(factor.double(), torch.tensor(own).double(), rtol=1e-4):
            raise ModelError(
                f"the weights '{weights}' scale {pool} by {float(factor.flatten()[0]):g}, and this network by {own:g}: "
                "choose 'fcn8s-atonce' for 0.01 and 0.0001"
            )


def _fold_norms(model: nn.Module, found: dict[str, Tensor]) -> None:
    """Give a norm of two blobs the mean and variance that change nothing: its scale and shift contain them already.

    DeconvNet and SegNet are released with statistics folded in (their BN layers run in
    inference mode).
    """
    for layer, module in model.named_modules():
        mean, variance = f"{layer}.running_mean", f"{layer}.running_var"
        if isinstance(module, nn.BatchNorm2d) and f"{layer}.weight" in found and mean not in found and variance not in found:
            own = cast(Tensor, module.running_mean)
            found |= {mean: torch.zeros_like(own), variance: torch.full_like(own, 1 - module.eps)}
