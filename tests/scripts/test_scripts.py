"""Every script of benchmarks/ and docs/ runs, in a tiny form, to its end, and prints or writes what it is for."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from painting import paint, paint_objects
from scripts_run import run_script
from upscore.data.image_files import read_image
from upscore.data.open_dataset import open_dataset
from upscore.inference.predictor import Predictor
from upscore.models.backbones import import_timm
from upscore.models.bundle import Bundle
from upscore.models.ensemble import Ensemble
from upscore.models.factory import create_model
from upscore.types import LabelSpace

ROOT = Path(__file__).resolve().parents[2]
OURS = {
    "bench_annotations": "--rounds 1 --annotations 60 --images 6",
    "bench_confusion": "--rounds 1 --maps 1 --size 24 32 --classes 5",
    "bench_crf": "--rounds 1 --size 24 32 --labels 3 --steps 1 --numpy",
    "bench_crf_gpu": "--tiny",
    "bench_data": "--rounds 1 --images 2",
    "bench_doctor": "--counts 2",
    "bench_headline": "--rounds 1 --threads 1 --width 0.0625",
    "bench_help": "--rounds 1",
    "bench_memory": "--backbones test_resnet --sizes 40x30",
    "bench_naive": "--rounds 1 --size 16 --classes 2 --rows 1",
    "bench_predict": "--rounds 1 --count 2 --images IMAGES --model unet --width 0.03125 --threads 1 --no-processes",
    "bench_proposals": "--rounds 1 --widths 0.03125 --boxes 3 --batch 2 --classes 3",
    "bench_stitch": "--rounds 1 --size 33 --width 0.015625 --shifts 1 --classes 2 --equal 4",
    "bench_training_step": "--rounds 1 --threads 1 --batch 1 --size 64 --backbones test_resnet",
    "bench_unpool": "--rounds 1 --size 32 --batch 1",
    "bench_upsample": "--rounds 1 --size 32 --classes 3",
    "crf_exactness": "RUN IMAGE --side 24 --steps 1",
    "chosen_images": "--pool 6 --first 2 --count 2 --val 1 --size 32 --steps 2 --seeds 1",
    "doubtful_labels": "RUN DATA --images 1",
    "objects": "OBJECTS --fcn FCN --whole FCN --stage1 DECONVNET --stage2 DECONVNET --alone DECONVNET --images 1 --crop-side 32",
    "recall": "OBJECTS --images 2",
}
"""Those that print one JSON object with what was measured and where."""

LINES = {
    "coarse_truth": "DATA",
    "membranes": "MEMBRANES CELLS --turned",
    "thin_classes": "DATA --steps 2",
}
"""Those that print JSON of another form."""


def bundle(folder, name, labels, **arguments):
    torch.manual_seed(0)
    network = create_model(name, num_classes=len(labels), **arguments)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)  # score layers begin at 0, where all classes are equal
    Bundle.of(name, arguments, network, labels).save(folder)
    return folder


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """What scripts are given, by the name that stands for it above."""
    root = tmp_path_factory.mktemp("given")
    data = paint(root / "data", train=8, val=2)
    cells = paint(root / "cells", train=1, val=1)
    cells.write_text(cells.read_text().replace("[ground, square, bar]", "[cell, membrane, other]"))
    objects = paint_objects(root / "objects", train=1, val=2)
    shapes = tuple(line.split(": ")[1] for line in objects.read_text().partition("names:\n")[2].splitlines())
    small = LabelSpace(("ground", "square", "bar"))
    return {
        "DATA": data,
        "CELLS": cells,
        "OBJECTS": objects,
        "IMAGES": data.parent / "images" / "val",
        "IMAGE": data.parent / "images" / "val" / "000.png",
        "RUN": bundle(root / "run", "unet", small, width=0.03125),
        "MEMBRANES": bundle(root / "membranes", "unet", LabelSpace(("cell", "membrane", "other")), width=0.03125),
        "FCN": bundle(root / "fcn", "unet", LabelSpace(shapes), width=0.03125),
        "DECONVNET": bundle(root / "deconvnet", "deconvnet", LabelSpace(shapes), width=0.03125),
    }


def run(script, words, given, folder):
    ended = run_script(ROOT / script, *(given.get(word, word) for word in words.split()), folder=folder)
    assert ended.code == 0, ended.err
    return ended


def test_every_script_is_run_here():
    scripts = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert scripts == {*OURS, *LINES, "localization", "photographs", "shapes_encoder", "shapes_folder", "timing"}
    makers = {path.stem for path in (ROOT / "docs").glob("*.py")}
    # That of DeconvNet trains one, for minutes, as that of invariance does.
    images = {
        f"make_{name}_image" for name in ("border", "checkerboard", "crf", "deconvnet", "fcn", "invariance", "objects", "readme", "unet")
    }
    pages = {f"make_{name}" for name in ("architecture_images", "doctor", "links", "models", "recipe")}
    assert makers == {"image_sheet", "svg_chart", *images, *pages, "measure_answers", "measure_backbones"}


@pytest.mark.parametrize("name", OURS)
def test_a_benchmark_prints_one_json_object(name, given, tmp_path):
    printed = json.loads(run(f"benchmarks/{name}.py", OURS[name], given, tmp_path).out)
    assert printed["what"]
    assert printed["python"]
    assert printed["cores"] > 0
    (measured,) = [printed[key] for key in ("results", "measured", "rows") if key in printed]
    assert measured
    numbers = [value for value in leaves(measured) if isinstance(value, float | int)]
    assert numbers
    assert np.isfinite(numbers).all()


def leaves(value):
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from leaves(part)
    else:
        yield value


@pytest.mark.parametrize("name", LINES)
def test_a_measurement_prints_json(name, given, tmp_path):
    printed = run(f"benchmarks/{name}.py", LINES[name], given, tmp_path).out
    values = [json.loads(line) for line in printed.splitlines()] if name == "thin_classes" else [json.loads(printed)]
    assert [value for value in leaves(values) if isinstance(value, float | int)]


def test_shapes_as_a_folder_can_be_trained_on(given, tmp_path):
    run("benchmarks/shapes_folder.py", f"{tmp_path / 'shapes'} --images 2 1", given, tmp_path)
    assert [len(open_dataset(tmp_path / "shapes" / "dataset.yaml", split)) for split in ("train", "val")] == [2, 1]


def test_a_classifier_of_scenes_is_saved_with_their_boxes(given, tmp_path):
    run("benchmarks/localization.py", f"{tmp_path / 'scenes'} --images 2 --steps 1", given, tmp_path)
    assert len((tmp_path / "scenes" / "boxes.csv").read_text().splitlines()) == 3
    assert len(list((tmp_path / "scenes" / "images").iterdir())) == 2


def test_an_encoder_is_saved_as_a_bundle_to_start_from(given, tmp_path):
    run("benchmarks/shapes_encoder.py", f"{tmp_path / 'encoder'} --width 0.03125 --steps 1", given, tmp_path)
    assert Bundle.load(tmp_path / "encoder").architecture == "deconvnet"


def torchvisions_mobilenetv2():
    """Return random weights of MobileNetV2 under torchvision's names."""
    timm = import_timm()
    layers = ["features.0.0", "features.0.1"]
    for block in range(1, 18):
        parts = ["0.0", "0.1", "1", "2"] if block == 1 else ["0.0", "0.1", "1.0", "1.1", "2", "3"]
        layers += [f"features.{block}.conv.{part}" for part in parts]
    layers += ["features.18.0", "features.18.1", "classifier.1"]
    tensors = timm.create_model("mobilenetv2_100").state_dict()
    names = list(dict.fromkeys(name.rpartition(".")[0] for name in tensors))
    renamed = dict(zip(names, layers, strict=True))
    return {f"{renamed[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": tensor for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
def camvid(tmp_path_factory):
    """A folder like CamVid's, and a file of weights."""
    root = tmp_path_factory.mktemp("camvid")
    names = [f"class {i}" for i in range(11)]
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 1)):
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        for i in range(count):
            mask = np.kron(rng.integers(0, 11, (4, 5)), np.ones((12, 12))).astype(np.uint8)
            Image.fromarray(np.stack([mask * 20] * 3, axis=-1)).save(root / "images" / split / f"{i}.jpg")
            Image.fromarray(mask).save(root / "masks" / split / f"{i}.png")
    (root / "dataset.yaml").write_text(f"train: images/train\nval: images/val\nmasks_dir: masks\nnames: {json.dumps(names)}\n")
    torch.save(torchvisions_mobilenetv2(), root / "weights.pth")
    return {"CAMVID": root, "WEIGHTS": root / "weights.pth"}


@pytest.mark.parametrize("what", ["fcn8s", "unet", "time"])
def test_photographs(what, camvid, tmp_path):
    words = "CAMVID WEIGHTS --batch 2 --crop 32 32 --epochs 1 --steps 1 --threads 1"
    ended = run("benchmarks/photographs.py", f"{what} {words}", camvid, tmp_path)
    if what == "unet" and not ended.out:
        assert "segmentation_models_pytorch is not installed" in ended.err
    elif what == "time":
        printed = json.loads(ended.out[ended.out.index("{") :])
        assert set(printed["results"]) == {"plainest", "upscore"}
    else:
        row = json.loads(ended.out.splitlines()[-1])
        assert 0 <= row["miou"] <= 1
        assert 0 <= row["pixel_accuracy"] <= 1


@pytest.fixture
def docs(tmp_path):
    """A copy of docs/, whose scripts write beside themselves."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("modules"))
    for name in ("src", "tests"):  # where links lead
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path / "docs"


@pytest.mark.parametrize("name", ["crf", "unet"])
def test_an_image_of_the_documents_is_made_again(name, docs, given, tmp_path):
    before = read_image(docs / "images" / f"{name}.png")
    (docs / "images" / f"{name}.png").unlink()
    run(docs / f"make_{name}_image.py", "", given, tmp_path)
    after = read_image(docs / "images" / f"{name}.png")
    assert after.shape == before.shape
    assert (np.abs(after.astype(int) - before).max(2) > 16).mean() < 0.01


def test_the_readmes_image_is_made_of_a_run(docs, given, tmp_path):
    test = open_dataset("shapes", "test")
    run(docs / "make_readme_image.py", "FCN", given, tmp_path)
    sheet = read_image(docs / "images" / "readme.png")[::2, ::2]  # drawn at twice the size
    height, width = test[0].image.shape[:2]
    colours = test.labels.colours()
    for index, column in enumerate(sheet[:, index * (width + 4) :][:, :width] for index in range(6)):
        image, truth, predicted = (column[row * (height + 4) :][:height] for row in range(3))
        assert (image == test[index].image).all()
        assert (truth == colours[test[index].label]).all()
        assert (predicted == colours[Predictor(given["FCN"], device="cpu").predict(test[index].image).label_map]).all()


def test_the_image_of_fcns_is_made_of_a_run(docs, given, tmp_path):
    (docs / "images" / "fcn.png").unlink()
    run(docs / "make_fcn_image.py", "FCN", given, tmp_path)
    assert read_image(docs / "images" / "fcn.png").shape[2] == 3


def test_the_image_of_objects_is_made_of_an_ensemble(docs, given, tmp_path):
    together = Ensemble.of([Bundle.load(given[name]) for name in ("DECONVNET", "FCN")])
    together.resolve_settings(proposals={"max_proposals": 50, "crop_side": 32, "proposer": "windows"}).save(tmp_path / "ensemble")
    (docs / "images" / "objects.png").unlink()
    run(docs / "make_objects_image.py", f"{tmp_path / 'ensemble'} shapes", given, tmp_path)
    assert read_image(docs / "images" / "objects.png").shape[2] == 3


def test_generated_pages_are_those_of_the_repository(docs, given, tmp_path):
    for name in ("recipe", "models"):
        (docs / f"{name}.md").unlink()
        run(docs / f"make_{name}.py", "", given, tmp_path)
    run(docs / "make_links.py", "", given, tmp_path)
    for page in [docs / "recipe.md", docs / "models.md", *(docs / "papers").glob("*.md")]:
        assert page.read_text() == (ROOT / "docs" / page.relative_to(docs)).read_text(), page.name
