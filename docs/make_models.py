"""Write docs/models.md from the records of architectures: `python docs/make_models.py`."""

import json
from pathlib import Path

from upscore.models.architectures import ARCHITECTURES, settings_of
from upscore.models.backbones import OWN_BACKBONES

HEAD = """# Networks

`upscore train DATA --model NAME --backbone BACKBONE`, or `upscore.create_model(NAME, backbone=BACKBONE, num_classes=K)`.
Settings are arguments of `create_model` and, in a recipe, `model.arguments`. `upscore models` lists parameters, strides and
receptive fields.

| name | network | paper | encoder | settings |
|---|---|---|---|---|
"""

BACKBONES = """
A backbone is any of timm's networks that has feature maps of stride 8, 16 and 32, or can be given them, or one of the papers':

| name | settings |
|---|---|
"""

TIMM = """
## timm's networks

Name one as timm does, with or without the tag of its weights; names that timm has changed are understood. `upscore models` and
`model.geometry.receptive_field` say how much of the image a score depends on.

**Attention and global pooling.** A network with attention, or with squeeze-and-excitation, sees the whole image: its receptive field
is infinite. No margin makes a tile of a large image equal to one pass over the whole, so large images are labelled in
overlapping tiles that are blended, in the memory of one tile, and `upscore predict` warns that the result is near
that of the whole image, not equal to it. The cells of its feature maps still have a
definite position, which is measured from the layers that remain without attention.
HRNet and DLA are treated alike, since coarser maps are upsampled inside them and neighbouring cells see unequal parts of the image.

**The feature pyramid.** A plain transformer (ViT, DeiT, BEiT, EVA, DINOv2, DINOv3) has one stride, 16. Its last map becomes maps of stride
8, 16 and 32 (and 4 for a decoder that reads it) by transposed convolutions and max pooling: the simple feature pyramid of Li, Mao,
Girshick and He (2022), in [`feature_pyramid.py`](../src/upscore/models/feature_pyramid.py). The pyramid has no
pretrained weights; it is trained from scratch. A network with patches of 14 gets patches of 16: the kernel
of its first layer is resampled (FlexiViT, Beyer et al. 2023),
and the grid of its position embedding stays as it is, so that every other weight is used unchanged.

**Sizes.** Images of any size from 1×1 are padded with zeros on the right and below to what a network takes, and the result is cropped.
Networks that take one size alone (BEiT, CaiT, Hiera, CoAtNet) label a larger image in windows of that size, which do not see one
another; train them on crops of that size. Networks whose padding depends on the size (`tf_…`) have a regular grid on multiples of 32.

The smallest network of each family, with timm {version}; each was given images of 1×1, 33×57 and 97×130 pixels
(`python docs/measure_backbones.py`):

| backbone | own strides | receptive field | images | pyramid |
|---|---|---|---|---|
"""

ENCODERS = {"backbone": "any backbone", "vgg16": "VGG16, built in", "own": "its own"}


def describe(settings: dict[str, object]) -> str:
    """Return settings and their defaults in one cell of a table."""
    return ", ".join(f"`{name} = {json.dumps(default)}`" for name, default in settings.items())


def models_page() -> str:
    """Return the page's text."""
    rows = [
        f"| `{a.name}` | {a.description} | {a.paper} | {ENCODERS[a.encoder]} | {describe(a.settings)} |" for a in ARCHITECTURES.values()
    ]
    backbones = [f"| `{name}` | {describe(settings_of(own.build))} |" for name, own in OWN_BACKBONES.items()]
    measured = json.loads(Path(__file__).with_name("backbones.json").read_text())
    tried = [describe_fate(row) for row in measured["backbones"]]
    timm = TIMM.replace("{version}", measured["timm"]) + "\n".join(tried) + "\n"
    return HEAD + "\n".join(rows) + "\n" + BACKBONES + "\n".join(backbones) + "\n" + timm


def describe_fate(row: dict[str, object]) -> str:
    """Return a row of the table of timm's networks."""
    if "refused" in row:
        return f"| `{row['name']}` | refused: {row['refused']} | | | |"
    strides = ", ".join(str(stride) for stride in row["own strides"])  # type: ignore[attr-defined]
    return f"| `{row['name']}` | {strides} | {row['receptive field']} | {row['images']} | {'yes' if row['pyramid'] else ''} |"


if __name__ == "__main__":
    Path(__file__).with_name("models.md").write_text(models_page())
