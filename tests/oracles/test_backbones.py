"""Trained weights land where they belong: our MobileNetV2 against torchvision's definition of it."""

from pathlib import Path

import pytest
import torch

from upscore.models.backbones import build_backbone, import_timm
from upscore.models.timm_extractor import STRIDES

TRAINED = Path(__file__).resolve().parents[3] / "shared" / "weights" / "mobilenet_v2-b0353104.pth"


def torchvisions_mobilenet():
    import_timm()
    models = pytest.importorskip("torchvision.models")
    return models.mobilenet_v2(weights=None)


def compare(path, definition):
    definition.load_state_dict(torch.load(path, weights_only=True))
    definition.eval()
    backbone = build_backbone("mobilenetv2_100", weights=path).eval()
    image = torch.rand(1, 3, 97, 65)
    with torch.inference_mode():
        found, x, expected = backbone(image), image, {}
        for layer in definition.features[:18]:
            x = layer(x)
            expected[round(96 / (x.shape[-2] - 1))] = x
    for stride in STRIDES:
        torch.testing.assert_close(found[stride], expected[stride], rtol=1e-5, atol=1e-5)


def test_mobilenet_with_torchvisions_names(tmp_path):
    torch.manual_seed(0)
    definition = torchvisions_mobilenet()
    for name, tensor in definition.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            tensor.normal_(std=0.3)
    torch.save(definition.state_dict(), tmp_path / "mobilenet_v2.pth")
    compare(tmp_path / "mobilenet_v2.pth", definition)


def test_the_trained_file():
    if not TRAINED.is_file():
        pytest.skip("no trained weights beside the repository")
    compare(TRAINED, torchvisions_mobilenet())
