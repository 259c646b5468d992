"""Images of other bands than RGB, from the files through training to label maps: one description of them, and errors that show both."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from safetensors.torch import load_file

from painting import small_recipe
from upscore.data.image_files import read_image_with_metadata
from upscore.data.open_dataset import open_dataset
from upscore.data.png_files import write_label_map
from upscore.errors import BundleError, DataError, ModelError, RecipeError
from upscore.evaluation.evaluate import evaluate
from upscore.inference.predict_files import predict_files
from upscore.inference.predictor import Predictor
from upscore.input_spec import RGB, InputSpec
from upscore.models.bundle import Bundle
from upscore.models.ensemble import Ensemble
from upscore.training.launch import train
from upscore.training.plan import plan
from upscore.training.recipe import Recipe
from upscore.training.resume import resume

KINDS = {"one": (1, "uint16"), "four": (4, "uint16"), "eight": (8, "float32")}


def paint_bands(folder: Path, bands: int, dtype: str) -> Path:
    """Write a dataset of TIFFs, or of arrays where they are float32; return its folder."""
    for split, count in (("train", 6), ("val", 3)):
        images = open_dataset("shapes", split, size=(48, 56), count=count, bands=bands, dtype=dtype)
        (folder / "images" / split).mkdir(parents=True)
        for i in range(count):
            sample = images[i]
            file = folder / "images" / split / f"{i}"
            if dtype == "float32":
                np.save(file.with_suffix(".npy"), sample.image)
            else:
                tifffile.imwrite(file.with_suffix(".tif"), sample.image.squeeze(), photometric="minisblack", planarconfig="contig")
            write_label_map(folder / "masks" / split / f"{i}.png", sample.label, images.labels)
    names = ", ".join(images.labels.names)
    (folder / "dataset.yaml").write_text(f"path: .\ntrain: images/train\nval: images/val\nnames: [{names}]\n")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A dataset and a run of each kind."""
    made = {}
    for name, (bands, dtype) in KINDS.items():
        data = paint_bands(tmp_path_factory.mktemp(name), bands, dtype)
        made[name] = data, train(small_recipe(data, tmp_path_factory.mktemp("runs") / name, **{"augment.contrast": 0.2}))
    return made


@pytest.mark.parametrize("name", KINDS)
def test_bands_are_found_measured_stored_and_made_the_first_layer(runs, name):
    data, run = runs[name]
    bands, dtype = KINDS[name]
    recipe = Recipe.load(run.folder / "recipe.toml")
    assert recipe.input.bands == [f"band {i}" for i in range(1, bands + 1)]
    assert recipe.input.dtype == dtype
    assert "measured" in recipe.chosen["input.mean"]
    spec = recipe.input.spec()
    files = sorted((data / "images" / "train").iterdir())
    pixels = np.concatenate([read_image_with_metadata(file, spec).pixels.reshape(-1, bands) for file in files]).astype(float) / spec.unit
    np.testing.assert_allclose(recipe.input.mean, pixels.mean(0), rtol=1e-5)
    np.testing.assert_allclose(recipe.input.std, pixels.std(0), rtol=1e-5)
    bundle = Bundle.load(run.best)
    assert bundle.input == spec
    assert bundle.arguments["in_channels"] == bands
    stored = json.loads((run.best / "bundle.json").read_text())["input"]
    assert stored["dtype"] == dtype
    weights = load_file(run.best / "weights.safetensors")
    np.testing.assert_allclose(weights["normalization.mean"].flatten(), spec.mean, rtol=1e-6)
    normalised = bundle.build().normalization(torch.from_numpy((pixels.astype(np.float32)).T.reshape(1, bands, -1, 1)))
    np.testing.assert_allclose(normalised.mean((0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(normalised.std((0, 2, 3)), 1, atol=1e-3)


@pytest.mark.parametrize("name", KINDS)
def test_every_command_takes_them(runs, name, tmp_path):
    data, run = runs[name]
    for settings in ({}, {"tile": 32}, {"crf": {"iterations": 2}}, {"flips": True, "scales": (1.0, 0.5)}, {"proposals": 4}):
        predictor = Predictor(run.best, device="cpu", **settings)
        evaluation = evaluate(predictor, str(data))
        assert len(evaluation.images) == 3
        rows = list(predict_files(predictor, data / "images" / "val", tmp_path / "out", overlay=True))
        assert [row.error for row in rows] == [None] * 3
    best = max(row["miou"] for row in run.progress.history)
    assert evaluate(Predictor(run.best, device="cpu"), str(data)).metrics.mean_iou == pytest.approx(best, abs=1e-9)
    file = sorted((data / "images" / "val").iterdir())[0]
    predictor = Predictor(run.best, device="cpu")
    image = read_image_with_metadata(file, predictor.input).pixels
    probs = predictor.predict(file, probs=True).probs
    assert np.array_equal(predictor.predict(image, probs=True).probs, probs)
    tensor = torch.from_numpy(image.astype(np.float32) / np.float32(predictor.input.unit)).permute(2, 0, 1)[None]
    np.testing.assert_allclose(predictor.predict_probs(tensor)[0].numpy(), probs, atol=1e-5)


def test_a_resumed_run_keeps_its_bands_and_statistics(runs, tmp_path):
    data, whole = runs["four"]
    recipe = small_recipe(data, tmp_path / "cut", **{"augment.contrast": 0.2, "run.epochs": 1})
    cut = train(recipe)
    resume(cut.folder, changes={"run.epochs": 2})
    spec = Recipe.load(cut.folder / "recipe.toml").input
    assert spec == Recipe.load(whole.folder / "recipe.toml").input
    ready = plan(Recipe.load(whole.folder / "recipe.toml"), resumed=True)
    assert ready.recipe.input == spec


def test_images_of_other_bands_are_one_line_that_shows_both(runs, tmp_path):
    (four, run), (eight, other) = runs["four"], runs["eight"]
    both = r"the image has 8 bands of float32 \(.*, expected 4 bands of uint16"
    with pytest.raises(DataError, match=both):
        evaluate(str(run.best), str(eight))
    rows = list(predict_files(Predictor(run.best), eight / "images" / "val", tmp_path))
    assert all("8 bands of float32" in row.error and "4 bands of uint16" in row.error for row in rows)
    with pytest.raises(DataError, match=r"type uint8, expected an image \(H, W, 4\) uint16"):
        Predictor(run.best).predict(np.zeros((5, 6, 4), np.uint8))
    with pytest.raises(DataError, match=r"expected images \(N, 4, H, W\)"):
        Predictor(run.best).predict_probs(torch.zeros(1, 3, 8, 8))
    with pytest.raises(BundleError, match="the bundles' images differ: 4 bands of uint16"):
        Ensemble.of([Bundle.load(run.best), Bundle.load(other.best)])
    with pytest.raises(ModelError, match="its images differ from the data's: 8 bands of float32"):
        plan(small_recipe(four, tmp_path / "r", **{"model.start_from": str(other.best)}))
    with pytest.raises(DataError, match="the images have 3 bands of uint8"):
        evaluate(str(run.best), open_dataset("shapes", "val", count=2))
    with pytest.raises(RecipeError, match="expected 4 for images of 4 bands of uint16"):
        plan(small_recipe(four, tmp_path / "r", **{"model.arguments": {"width": 0.03125, "in_channels": 3}}))
    assert not (tmp_path / "r").exists()


def test_bands_that_a_user_names_are_checked_and_shown(runs, tmp_path):
    data, _ = runs["four"]
    named = {"input.bands": ["blue", "green", "red", "infrared"]}
    ready = plan(small_recipe(data, tmp_path / "r", **named))
    assert ready.recipe.input.shown == ["red", "green", "blue"]
    assert ready.recipe.input.spec().colours == (2, 1, 0)
    assert len(ready.recipe.input.mean) == 4
    with pytest.raises(DataError, match=r"4 bands of uint16.*expected 3 bands of uint16"):
        plan(small_recipe(data, tmp_path / "r", **{"input.bands": ["a", "b", "c"]}))
    with pytest.raises(RecipeError, match=r"\[input\]: found the bands a, a"):
        plan(small_recipe(data, tmp_path / "r", **{"input.bands": ["a", "a", "b", "c"]}))
    given = {"input.mean": [0.1] * 4, "input.std": [0.2] * 4}
    assert plan(small_recipe(data, tmp_path / "r", **given)).recipe.input.mean == [0.1] * 4


def test_the_crf_compares_the_bands_that_its_settings_name(runs):
    data, run = runs["eight"]
    image = np.load(sorted((data / "images" / "val").iterdir())[0])
    probs = {}
    for bands in ((), ("band 1", "band 2", "band 3"), ("band 5",)):
        settings = {"iterations": 3, "bilateral_sigma_colour": 3.0} | ({"bands": bands} if bands else {})
        probs[bands] = Predictor(run.best, crf=settings).predict(image, probs=True).probs
    assert np.array_equal(probs[()], probs["band 1", "band 2", "band 3"])
    assert not np.allclose(probs[()], probs["band 5",])
    with pytest.raises(RecipeError, match=r"crf.bands names 'band 9' .*expected bands of the network's images: band 1"):
        Predictor(run.best, crf={"bands": ("band 9",)})
    with pytest.raises(RecipeError, match="found 2 bands, expected one or three"):
        Predictor(run.best, crf={"bands": ("band 1", "band 2")})


def test_no_data_does_not_spread(runs):
    data, run = runs["eight"]
    image = np.load(sorted((data / "images" / "val").iterdir())[0])
    image[10:14, 20:24, 3] = np.nan
    predicted = Predictor(run.best, crf=True).predict(image, probs=True)
    assert np.isfinite(predicted.probs).all()
    spec = Bundle.load(run.best).input
    filled = image.copy()
    filled[10:14, 20:24, 3] = spec.mean[3]
    np.testing.assert_allclose(
        Predictor(run.best).predict(filled, probs=True).probs, Predictor(run.best).predict(image, probs=True).probs, atol=1e-4
    )


def test_a_pretrained_first_layer_is_adapted_and_said(tmp_path, runs):
    from upscore.models.backbones import build_backbone

    torch.manual_seed(0)
    weights = dict(build_backbone("resnet10t").features.state_dict())
    torch.save(weights, tmp_path / "resnet10t.pth")
    data, _ = runs["four"]
    settings = {"model.backbone": "resnet10t", "model.weights": str(tmp_path / "resnet10t.pth"), "model.arguments": {}}
    ready = plan(small_recipe(data, tmp_path / "r", **settings))
    assert any("channels" in message or "bands" in message for message in ready.messages)
    first = next(module for module in ready.model.modules() if isinstance(module, torch.nn.Conv2d))
    assert first.in_channels == 4


def test_rgb_stays_rgb(tmp_path):
    ready = plan(small_recipe("shapes", tmp_path / "r"))
    section = ready.recipe.input
    assert (section.bands, section.dtype, section.mean, section.std) == (["red", "green", "blue"], "uint8", None, None)
    assert ready.recipe.input.spec() == RGB
    assert InputSpec() == RGB
    torch.testing.assert_close(ready.model.normalization.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))


def test_the_number_of_bands_in_a_dataset_yaml_is_checked(runs):
    data, _ = runs["four"]
    text = (data / "dataset.yaml").read_text()
    (data / "five.yaml").write_text(f"{text}channels: 5\n")
    (data / "four.yaml").write_text(f"{text}channels: 4\n")
    with pytest.raises(DataError, match=r"five\.yaml: channels is 5, but the images have 4 bands of uint16"):
        _ = open_dataset(data / "five.yaml", "train").input
    assert len(open_dataset(data / "four.yaml", "train").input) == 4
