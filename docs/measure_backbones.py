"""Write docs/backbones.json, what timm's families do as backbones: `python docs/measure_backbones.py [name ...]` (an hour on one core).

Rows of the names that are given are replaced, those of the others stay. Weights are random, in none of which is zero.
"""

import copy
import json
import logging
import math
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import onnxruntime
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscore.errors import ModelError
from upscore.inference.tiling import Tiles
from upscore.models.factory import create_model
from upscore.models.timm_backbone import import_timm, inspect_backbone
from upscore.text import reason

FAMILIES = (
    "resnet10t",
    "seresnext26t_32x4d",
    "regnety_002",
    "densenet121",
    "efficientnet_b0",
    "tf_efficientnet_b0",
    "tf_mobilenetv3_small_minimal_100",
    "mobilenetv2_050",
    "mobilenetv3_small_050",
    "mobilenetv4_conv_small_050",
    "ghostnetv2_100",
    "repvgg_a0",
    "convnext_atto",
    "convnextv2_atto",
    "hrnet_w18_small",
    "dla46_c",
    "vgg11_bn",
    "xception41",
    "res2net50_14w_8s",
    "cspresnet50",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "pvt_v2_b0",
    "efficientvit_b0",
    "nextvit_small",
    "edgenext_xx_small",
    "maxvit_rmlp_pico_rw_256",
    "hiera_tiny_224",
    "vit_tiny_patch16_224",
    "vit_small_patch14_reg4_dinov2",
    "eva02_tiny_patch14_224",
    "levit_128s",
    "mobilevit_xxs",
    "efficientvit_m0",
    "coatnet_nano_rw_224",
    "mvitv2_tiny",
    "twins_svt_small",
    "davit_tiny",
    "focalnet_tiny_srf",
    "xcit_nano_12_p16_224",
    "cait_xxs24_224",
    "deit_tiny_patch16_224",
    "vit_small_patch16_dinov3",
    "beit_base_patch16_224",
    "inception_v3",
)
"""The smallest network of each family."""

SIZES = ((1, 1), (33, 57), (97, 130), (224, 224))

BLENDED, BLENDED_TILE = (256, 576), 256
"""The image and the tiles, in pixels, where tiles are blended."""

EXPORTED = ((64, 96), (97, 130))
"""Images on which the exported network is compared; it is exported with the first."""


LIMIT = 100
"""Seconds of the processor that an export may take."""


def fate(name: str) -> dict[str, object]:
    """Return what a network does: its geometry, what it needs, its tiles and its export; or the reason why it is refused."""
    try:
        info = inspect_backbone(name)
    except ModelError as error:
        return {"name": name, "refused": str(error)}
    network = random_network(name)
    with torch.no_grad():
        for size in SIZES:
            logits = network(torch.rand(1, 3, *size))
            if logits.shape != (1, 2, *size) or not logits.isfinite().all():
                return {"name": name, "refused": f"wrong logits at {size}"}
    field = float(info.levels[max(info.levels)].geometry.receptive_field)
    side = info.extractor.side
    return {
        "name": name,
        "own strides": list(info.levels),
        "receptive field": "the whole image" if field == math.inf else f"{field:g}",
        "images": f"windows of {side}" if side else f"multiples of {info.multiple}" if info.multiple > 1 else "any size",
        "pyramid": tuple(info.levels) != info.strides,
        "tiles": compare_tiles(network),
        "onnx": export(network),
    }


def random_network(name: str) -> nn.Module:
    """Return an FCN-8s in eval mode in which no parameter is zero; batch normalisation has the statistics of smooth noise."""
    torch.manual_seed(0)
    network = create_model("fcn8s", backbone=name, num_classes=2)
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
    with torch.no_grad():
        network(smooth_noise(224, 448))
    return network.eval()


def smooth_noise(height: int, width: int) -> Tensor:
    """Return an image (1, 3, height, width) in [0, 1] with structure at several scales."""
    octaves = [F.interpolate(torch.rand(1, 3, height // s + 2, width // s + 2), (height, width), mode="bilinear") for s in (1, 4, 16, 64)]
    return torch.stack(octaves).mean(0)


def compare_tiles(network: Any) -> dict[str, float]:
    """Return the fraction of equal labels, and the largest difference of a probability, of tiles and one pass over the whole image.

    Scores are shifted and scaled to median 0 and deviation 1 over the image, so that both classes occur whatever the weights.
    """
    stride = network.stride
    if network.geometry.receptive_field == math.inf:
        height, width, tiles = *BLENDED, Tiles(BLENDED_TILE, None, stride)
    else:
        margin = network.geometry.margin()
        height, width, tiles = 2 * stride + 9, 2 * margin + 3 * stride + 5, Tiles(max(2 * stride, margin // 4), margin, stride)
    images = smooth_noise(height, width)
    with torch.no_grad():
        scores = network(images).diff(dim=1)
        middle, scale = scores.median(), scores.std()
        whole, tiled = ((scores - middle) / scale).sigmoid(), torch.full_like(scores, math.nan)
        for window, found in tiles.walk(lambda crop: network(images[(..., *crop.slices)]).diff(dim=1), height, width):
            tiled[(..., *window.slices)] = ((found - middle) / scale).sigmoid()
    equal = ((tiled > 0.5) == (whole > 0.5)).double().mean()
    return {"labels equal": round(float(equal), 4), "largest difference": float(f"{(tiled - whole).abs().max():.1g}")}


def export(network: nn.Module) -> dict[str, object]:
    """Return what torch's exporter makes of a network: for images of any size or of one, how far from torch; or why it fails.

    Where it fails, it is tried again without PyTorch's fused attention, which it exports for tensors of four axes only, and then for one
    size of images.
    """
    free = {"images": {2: torch.export.Dim("H", max=4096), 3: torch.export.Dim("W", max=4096)}}
    reasons = []
    fusing: list[Any] = [layer for layer in network.modules() if getattr(layer, "fused_attn", False)]
    for fused, shapes, sizes in ((True, free, EXPORTED), (False, free, EXPORTED), (False, None, EXPORTED[:1])):
        if not fused and shapes and not fusing:
            continue  # as before
        for layer in fusing:
            layer.fused_attn = fused
        signal.setitimer(signal.ITIMER_PROF, LIMIT)
        try:
            program: Any = torch.onnx.export(network, (torch.rand(1, 3, *sizes[0]),), dynamo=True, dynamic_shapes=shapes, verbose=False)
            session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
            differences, own = zip(*(_differences(network, session, size) for size in sizes), strict=True)
            if max(differences) > 1e-5 + 10 * max(own):
                raise ArithmeticError(f"its result differs by {max(differences):.1g} of the largest score, torch's own by {max(own):.1g}")
        except (Exception, TooLong) as error:  # whatever a compiler raises
            reasons.append(innermost(error))
            continue
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        return {
            "images": "any size" if shapes else f"{sizes[0][0]}×{sizes[0][1]}",
            "largest difference": float(f"{max(differences):.1g}"),
            "of torch": float(f"{max(own):.1g}"),
            **({"not fused": reasons[0]} if shapes and not fused else {}),
            **({} if shapes else {"not any size": reasons[-1]}),
        }
    return {"fails": reasons[-1]}


def _differences(network: nn.Module, session: Any, size: tuple[int, int]) -> tuple[float, float]:
    """Return how far the exported network and torch's, both in float32, are from float64, relative to the largest score."""
    images = torch.rand(1, 3, *size)
    with torch.no_grad():
        single, exact = network(images), copy.deepcopy(network).double()(images.double())
    (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    exported, torchs = ((scores - exact).abs().max() / exact.abs().max() for scores in (torch.from_numpy(found), single))
    return float(exported), float(torchs)


class TooLong(BaseException):
    """An export takes too long; no Exception, which the exporter would catch."""


def give_up(*_: object) -> None:
    """End an export: nested divisions of a size that is not known ("same" padding) keep the exporter's algebra busy for long."""
    raise TooLong(f"the exporter takes more than {LIMIT} seconds of the processor")


def innermost(error: BaseException) -> str:
    """Return the first line of the error that began it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {reason(error)}"


def main(names: list[str]) -> None:
    """Measure ``names``, and write after each."""
    path = Path(__file__).with_name("backbones.json")
    rows = {row["name"]: row for row in json.loads(path.read_text())["backbones"]}
    for name in names:
        rows[name] = fate(name)
        print(json.dumps(rows[name], ensure_ascii=False), flush=True)
        measured = {
            "timm": import_timm().__version__, "torch": torch.__version__, "onnxruntime": onnxruntime.__version__, "sizes": SIZES,
            "blended": {"image": BLENDED, "tile": BLENDED_TILE}, "exported": EXPORTED,
            "backbones": [rows[known] for known in FAMILIES if known in rows],
        }  # fmt: skip
        path.write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable()
    torch.set_num_threads(1)
    signal.signal(signal.SIGPROF, give_up)
    main(sys.argv[1:] or list(FAMILIES))
