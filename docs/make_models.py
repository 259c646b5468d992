"""Write docs/models.md from the records of architectures: `python docs/make_models.py`."""

import json
from pathlib import Path
from typing import Any

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
HRNet is treated alike, since coarser maps are upsampled inside it and neighbouring cells see unequal parts of the image. `bundle.json`
says in `receptive_field` how much of an image a score depends on: pixels, or the whole image.

**The feature pyramid.** A plain transformer (ViT, DeiT, BEiT, EVA, DINOv2, DINOv3) has one stride, 16. Its last map becomes maps of stride
8, 16 and 32 (and 4 for a decoder that reads it) by transposed convolutions and max pooling: the simple feature pyramid of Li, Mao,
Girshick and He (2022), in [`feature_pyramid.py`](../src/upscore/models/feature_pyramid.py). The pyramid has no
pretrained weights; it is trained from scratch. A network with patches of 14 gets patches of 16: the kernel
of its first layer is resampled (FlexiViT, Beyer et al. 2023),
and the grid of its position embedding stays as it is, so that every other weight is used unchanged.

**Sizes.** Images of any size from 1×1 are padded with zeros on the right and below to what a network takes, and the result is cropped.
Networks that take one size alone (BEiT, CaiT, Hiera, CoAtNet, MViTv2) label a larger image in windows of that size, which do not see one
another; train them on crops of that size. Networks whose padding depends on the size (`tf_…`) have a regular grid on multiples of 32.

The smallest network of each family, with timm {timm}, torch {torch} and onnxruntime {onnxruntime} (`python docs/measure_backbones.py`).
Each was given images of {sizes} pixels. **All weights are random**, in none of which is zero, under
FCN-8s of two classes, and batch normalisation has the statistics of one image: the
numbers say what the arithmetic does, not how well a trained network is labelled in tiles.

- *tiles*: pixels with the same label, and the largest difference of a probability, between tiles and one pass over the whole image.
  Bounded networks are labelled in tiles with their margin, the others in blended tiles of {tile} of an image of {image}: smaller than
  `predict` uses, so that the differences are larger. The scores are scaled to deviation 1 over the image.
- *ONNX*: the largest difference from float64, relative to the largest score, of what `torch.onnx.export(…, dynamo=True)` made for images of
  any size, or of one, in onnxruntime, on images of {exported}. Where it is large, PyTorch's own float32 differs as much.

| backbone | own strides | receptive field | images | pyramid | tiles: equal labels | largest difference | ONNX |
|---|---|---|---|---|---|---|---|
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
    timm = TIMM.format(
        **{name: measured[name] for name in ("timm", "torch", "onnxruntime")},
        sizes=enumerate_sizes(measured["sizes"]),
        image=enumerate_sizes([measured["blended"]["image"]]),
        tile=measured["blended"]["tile"],
        exported=enumerate_sizes(measured["exported"]),
    )
    timm += "\n".join(tried) + "\n"
    return HEAD + "\n".join(rows) + "\n" + BACKBONES + "\n".join(backbones) + "\n" + timm


def describe_fate(row: dict[str, Any]) -> str:
    """Return a row of the table of timm's networks."""
    if "refused" in row:
        return f"| `{row['name']}` | refused: {row['refused']} | | | | | | |"
    strides = ", ".join(str(stride) for stride in row["own strides"])
    pyramid, tiles = "yes" if row["pyramid"] else "", row["tiles"]
    equal, difference = f"{100 * tiles['labels equal']:.1f} %", f"{tiles['largest difference']:g}"
    cells = (f"`{row['name']}`", strides, row["receptive field"], row["images"], pyramid, equal, difference, describe_export(row["onnx"]))
    return f"| {' | '.join(cells)} |"


def describe_export(found: dict[str, Any]) -> str:
    """Return in a cell what the exporter made of a network, or why it fails."""
    if "fails" in found:
        return f"no: {found['fails']}"
    limit = f"; not any size: {found['not any size'].removeprefix('TooLong: ')}" if "not any size" in found else ""
    return f"{found['images']}: {found['largest difference']:g}{limit}"


def enumerate_sizes(sizes: list[list[int]]) -> str:
    """Return sizes as "1×1, 33×57 and 97×130"."""
    words = [f"{height}×{width}" for height, width in sizes]
    return " and ".join([", ".join(words[:-1])] * (len(words) > 1) + words[-1:])


if __name__ == "__main__":
    Path(__file__).with_name("models.md").write_text(models_page())
