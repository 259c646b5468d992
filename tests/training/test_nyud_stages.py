"""Late fusion on NYUDv2 as the release trains it: from a network for colour and one for HHA."""

import numpy as np
import pytest
import torch

from mat_bytes import mat_bytes
from small_files import image, write
from upscore.errors import ModelError, RecipeError
from upscore.models.bundle import Bundle
from upscore.training.auto_config import Machine
from upscore.training.launch import train
from upscore.training.plan import plan
from upscore.training.recipe import Recipe

MACHINE = Machine(device="cpu", devices=1, cores=1, bf16=False, tensorboard=False)


@pytest.fixture
def nyud(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "nyud"
    for key in ("5001", "5002", "5003"):
        for kind in ("images", "hha"):
            image(folder / "data" / kind / f"img_{key}.png", rng.integers(0, 256, (32, 40, 3), dtype=np.uint8))
        write(folder / "segmentation" / f"img_{key}.mat", mat_bytes({"segmentation": rng.integers(0, 41, (32, 40)).astype("f8")}))
    for split, names in {"train": "5002\n", "val": "5001\n", "test": "5003\n"}.items():
        write(folder / f"{split}.txt", names)
    return folder


def small(name, data, out, **values):
    recipe = Recipe.load(name)
    arguments = recipe.model.arguments | {"width": 1 / 32}
    values = {"model.arguments": arguments, "model.weights": "none", "run.steps": 2, "optimizer.lr": 1e-6} | values
    return plan(recipe.with_values({"data.path": str(data), "run.out": str(out), **values}), machine=MACHINE)


def test_the_fused_network_begins_as_half_the_sum_of_both(nyud, tmp_path):
    colour = train(small("fcn32s-nyud", nyud, tmp_path / "colour"), progress=False).best
    hha = train(small("fcn32s-nyud-hha", nyud / "data/hha", tmp_path / "hha"), progress=False).best
    late = ("fcn32s-nyud-late", nyud / "data/hha", tmp_path / "late")
    model = small(*late, **{"model.start_from": [str(colour), str(hha)]}).take_model().eval()
    parts = [Bundle.load(path).build() for path in (colour, hha)]
    images = torch.rand(1, 6, 32, 40)
    with torch.no_grad():
        expected = 0.5 * parts[0](images[:, :3]) + 0.5 * parts[1](images[:, 3:])
        assert expected.std() > 0
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    for start, error, message in (
        ([str(hha), str(colour)], ModelError, "expected one of the bands red, green, blue"),
        ([str(colour)], RecipeError, "found a list of 1 for 'fcn32s-late'"),
    ):
        with pytest.raises(error, match=message):
            small(*late, **{"model.start_from": start})
    with pytest.raises(ModelError, match="found a network of normalization 'caffe', expected 'imagenet'"):
        small(*late, **{"model.start_from": [str(colour), str(hha)], "model.arguments": {"width": 1 / 32, "normalization": "imagenet"}})
    found = small(*late, **{"model.start_from": [str(colour), str(hha)], "model.arguments": {"width": 1 / 32}})
    assert found.recipe.model.arguments["normalization"] == "caffe"
    assert train(small(*late, **{"model.start_from": [str(colour), str(hha)]}), progress=False).progress.step == 2
