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
A backbone is any of timm's networks with feature maps of stride 8, 16 and 32, or one of the papers':

| name | settings |
|---|---|
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
    return HEAD + "\n".join(rows) + "\n" + BACKBONES + "\n".join(backbones) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("models.md").write_text(models_page())
