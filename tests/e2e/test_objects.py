"""The commands that find single objects: what they print and write is what the values are."""

import json

import numpy as np
import pytest
import torch

from painting import paint_objects, small_recipe
from tables import percent, read_table
from upscore.data.mask_files import read_label
from upscore.data.open_dataset import open_dataset
from upscore.models.backbones import import_timm
from upscore.training.launch import train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return paint_objects(tmp_path_factory.mktemp("objects"), train=4, val=2)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    return train(small_recipe(data, tmp_path_factory.mktemp("runs") / "run", **{"run.epochs": 1})).folder


def test_predict_writes_the_objects_of_the_label_maps(upscore, data, trained, tmp_path):
    images = data.parent / "images" / "val"
    code, _, err = upscore("predict", trained, images, "--objects", "--min-area", 9, "--out", tmp_path)
    assert code == 0, err
    content = json.loads((tmp_path / "objects.json").read_text())
    assert len(content["images"]) == 2
    names = {image["id"]: image["file_name"].rpartition("/")[2] for image in content["images"]}
    assert {each["category_id"] for each in content["annotations"]} <= {each["id"] for each in content["categories"]}
    for each in content["annotations"]:
        left, top, width, height = each["bbox"]
        inside = read_label(tmp_path / names[each["image_id"]])[top : top + height, left : left + width]
        assert each["area"] >= 9
        assert (inside == each["category_id"]).sum() >= each["area"]


def test_evaluate_prints_average_precision(upscore, data, trained, tmp_path):
    pytest.importorskip("pycocotools")
    code, printed, _ = upscore("evaluate", trained, data, "--objects", "--json", "--out", tmp_path / "one")
    assert code == 0
    objects = json.loads(printed)["objects"]
    dataset = open_dataset(str(data), "val")
    assert objects["true"] == sum(len(np.unique(dataset[i].instances)) - 1 for i in range(len(dataset)))
    code, printed, _ = upscore("evaluate", trained, data, "--objects", "--out", tmp_path / "two")
    table = read_table(printed, after="objects", rows=["boxes", "masks"])
    for of in ("boxes", "masks"):
        assert table[of] == {
            heading: percent(objects[of][heading.lower()]) for heading in ("AP", "AP50", "AP75", "small", "medium", "large", "recall")
        }
    assert f"{objects['found']:,} objects found from components, {objects['true']:,} true ones; {objects['merged']:,} of these" in printed
    assert json.loads((tmp_path / "two" / "report.json").read_text())["objects"] == objects


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--min-area", "5"], 2, "needs --objects"),
        (["--objects-from", "components"], 2, "needs --objects"),
        (["--objects", "--objects-from", "boxes"], 2, "components or proposals"),
        (["--objects", "--objects-from", "proposals"], 1, "no network that uses any"),
    ],
)
def test_refusals(upscore, data, trained, tmp_path, words, code, said):
    for verb, on in (("predict", data.parent / "images" / "val"), ("evaluate", data)):
        found, _, error = upscore(verb, trained, on, *words, "--out", tmp_path)
        assert found == code
        assert said in " ".join(error.replace("│", " ").split())


def test_localize_prints_boxes_and_errors(upscore, data, tmp_path):
    torch.manual_seed(0)
    torch.save(import_timm().create_model("resnet10t", num_classes=2).state_dict(), tmp_path / "w.pth")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    images = data.parent / "images" / "val"
    (tmp_path / "boxes.csv").write_text("image,class,left,top,right,bottom\n0.png,cat,0,0,80,64\n1.png,dog,0,0,80,64\n")
    words = ["localize", images, "--backbone", "resnet10t", "--weights", tmp_path / "w.pth", "--classes", tmp_path / "classes.txt"]
    words += ["--truth", tmp_path / "boxes.csv", "--out", tmp_path / "out", "--side", 64]
    code, printed, err = upscore(*words)
    assert code == 0, err
    summary = json.loads((tmp_path / "out" / "localization.json").read_text())
    table = read_table(printed, after="error", rows=["localization", "classification"])
    for kind in ("localization", "classification"):
        assert table[kind] == {f"top {top}": percent(summary[f"{kind}_error"][f"top{top}"]) for top in (1, 5)}
    assert summary["classification_error"]["top5"] == 0  # there are two classes
    for row in summary["images"]:
        assert [each["name"] in ("cat", "dog") for each in row["classes"]] == [True, True]
        assert (tmp_path / "out" / row["overlay"]).is_file()
        assert all(str(tuple(each["box"])) in printed for each in row["classes"])
    (images / "bad.png").write_bytes(b"no image")
    code, printed, err = upscore(*words[:8], "--out", tmp_path / "again")
    (images / "bad.png").unlink()
    assert code == 1
    assert "1 failed" in printed
    assert "bad.png" in err


def test_a_truth_without_an_image_is_one_line(upscore, data, tmp_path):
    torch.save(import_timm().create_model("resnet10t", num_classes=2).state_dict(), tmp_path / "w.pth")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "boxes.csv").write_text("image,class,left,top,right,bottom\nother.png,cat,0,0,80,64\n")
    code, _, err = upscore(
        "localize", data.parent / "images" / "val", "--backbone", "resnet10t", "--weights", tmp_path / "w.pth",
        "--classes", tmp_path / "classes.txt", "--truth", tmp_path / "boxes.csv", "--out", tmp_path / "out",
    )  # fmt: skip
    assert code == 1
    assert "holds no box of" in err
