"""Write docs/backbones.json, what timm's families do as backbones: `python docs/measure_backbones.py` (minutes)."""

import json
import math
import warnings
from pathlib import Path

import torch

from upscore.errors import ModelError
from upscore.models.factory import create_model
from upscore.models.timm_backbone import find_extractor, import_timm, inspect_backbone

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

SIZES = ((1, 1), (33, 57), (97, 130))


def fate(name: str) -> dict[str, object]:
    """Return what a network does: its geometry, and what it needs; or the reason why it is refused."""
    try:
        info, extractor = inspect_backbone(name), find_extractor(name, False)
    except ModelError as error:
        return {"name": name, "refused": str(error)}
    network = create_model("fcn8s", backbone=name, num_classes=2).eval()
    with torch.no_grad():
        for size in SIZES:
            logits = network(torch.rand(1, 3, *size))
            if logits.shape != (1, 2, *size) or not logits.isfinite().all():
                return {"name": name, "refused": f"wrong logits at {size}"}
    field = float(info.levels[max(info.levels)].geometry.receptive_field)
    return {
        "name": name,
        "own strides": list(info.levels),
        "receptive field": "the whole image" if field == math.inf else f"{field:g}",
        "images": f"windows of {extractor.side}"
        if extractor.side
        else f"multiples of {info.multiple}"
        if info.multiple > 1
        else "any size",
        "pyramid": tuple(info.levels) != info.strides,
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    rows = []
    for name in FAMILIES:
        rows.append(fate(name))
        print(rows[-1], flush=True)
        measured = {"timm": import_timm().__version__, "sizes": SIZES, "backbones": rows}
        Path(__file__).with_name("backbones.json").write_text(json.dumps(measured, indent=1) + "\n")
