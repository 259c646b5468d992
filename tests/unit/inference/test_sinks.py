"""Overlays are whole: made some rows at a time, they are those of the image at once."""

import numpy as np
import pytest
import torch
from torch import nn

from upscore.data.image_files import read_image
from upscore.data.png_files import write_image
from upscore.inference.predict_files import discover_images, predict_files
from upscore.inference.predictor import Predictor
from upscore.ops.geometry import Geometry
from upscore.types import LabelSpace

LABELS = LabelSpace(("dark", "bright"), ((200, 20, 20), (20, 20, 200)))


class Brightness(nn.Module):
    geometry = Geometry()

    def forward(self, images):
        return 20 * torch.cat([0.5 - images[:, :1], images[:, :1] - 0.5], 1)


@pytest.mark.parametrize("size", [(1, 1), (255, 60), (256, 60), (257, 60), (700, 80), (1025, 1030)])
def test_every_row_is_laid_over(tmp_path, size):
    height, width = size
    rows = np.linspace(20, 100, height)[:, None] + np.where(np.arange(width) < width // 2, 0, 130)
    image = np.repeat(rows.astype(np.uint8)[..., None], 3, axis=2)
    write_image(tmp_path / "image.png", image)
    predictor = Predictor(Brightness(), labels=LABELS)
    (result,) = predict_files(predictor, discover_images(tmp_path / "image.png"), tmp_path / "out", overlay=True)
    overlay = read_image(tmp_path / "out" / result.outputs["overlay"]).astype(int)
    expected = predictor.predict(image).overlay(image, legend=True).astype(int)
    assert overlay.shape == expected.shape
    # A JPEG blurs where the label changes and where the image ends, and nowhere else.
    overlay, expected = overlay[: max(1, height - 16), :width], expected[: max(1, height - 16), :width]
    columns = np.arange(width)
    inside = (np.abs(columns - width // 2 + 0.5) > 16) & (columns < width - 16)
    assert np.abs(overlay - expected)[:, inside].max(initial=0) <= 8
    assert np.abs(overlay - expected).mean() <= 40
