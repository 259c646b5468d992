import json

import numpy as np
import pytest
import torch
from torch import nn

from upscore.data.png_files import write_image
from upscore.inference.object_detection import ObjectSettings
from upscore.inference.objects_file import ObjectsFile
from upscore.inference.predict_files import predict_files
from upscore.inference.predictor import Predictor
from upscore.types import LabelSpace

LABELS = LabelSpace(("background", "bright"))


class Bright(nn.Module):
    geometry = None
    stride = 1

    def forward(self, images):
        return 6 * torch.cat([torch.full_like(images[:, :1], 0.5), images[:, :1]], 1)


@pytest.fixture
def shots(tmp_path):
    for number in range(4):
        image = np.zeros((20, 30, 3), np.uint8)
        for left in range(number):
            image[4:9, 8 * left : 8 * left + 5] = 255
        write_image(tmp_path / "shots" / f"{number}.png", image)
    return tmp_path / "shots"


def predict(shots, out, **options):
    return list(predict_files(Predictor(Bright(), labels=LABELS), shots, out, **({"objects": ObjectSettings()} | options)))


def read(out):
    content = json.loads((out / "objects.json").read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    return content, [names[each["image_id"]][-5:] for each in content["annotations"]]


def test_the_objects_of_all_images_are_in_their_order(shots, tmp_path):
    rows = predict(shots, tmp_path / "out", overlay=True)
    content, images = read(tmp_path / "out")
    assert images == ["1.png", "2.png", "2.png", "3.png", "3.png", "3.png"]
    assert [image["file_name"] for image in content["images"]] == [row.file for row in rows]
    assert content["annotations"][0]["bbox"] == [0, 4, 5, 5]
    assert content["annotations"][0]["polygon"]["outer"] == [0, 4, 5, 4, 5, 9, 0, 9]
    assert rows[0].outputs["objects"] == "objects.json"
    assert content["info"]["origin"] == "components"


def test_without_objects_there_is_no_such_file(shots, tmp_path):
    rows = predict(shots, tmp_path / "out", objects=None)
    assert not (tmp_path / "out" / "objects.json").exists()
    assert "objects" not in rows[0].outputs


def test_a_run_that_is_broken_off_lists_its_objects_and_is_resumed(shots, tmp_path):
    out = tmp_path / "out"
    rows = predict_files(Predictor(Bright(), labels=LABELS), shots, out, objects=ObjectSettings())
    next(rows)
    next(rows)
    rows.close()
    _, listed = read(out)
    labelled = {row["file"][-5:] for row in json.loads((out / "predictions.json").read_text())["predictions"]}
    assert {"1.png"} <= set(listed) <= labelled
    again = predict(shots, out, resume=True)
    assert len(again) == 4 - len(labelled)
    assert sorted(read(out)[1]) == ["1.png", "2.png", "2.png", "3.png", "3.png", "3.png"]
    assert not list(out.glob(".*.part"))


def test_resuming_finds_objects_again_where_they_are_of_other_settings_or_missing(shots, tmp_path):
    out = tmp_path / "out"
    predict(shots, out)
    assert predict(shots, out, resume=True) == []
    assert len(read(out)[1]) == 6
    assert len(predict(shots, out, resume=True, objects=ObjectSettings(min_area=26))) == 4
    assert read(out)[1] == []
    (out / "objects.json").write_text("[")
    assert len(predict(shots, out, resume=True)) == 4
    predict(shots, out, objects=None)
    assert len(predict(shots, out, resume=True)) == 4  # labelled, and no objects looked for


def test_objects_of_images_that_are_not_among_the_new_ones_are_forgotten(shots, tmp_path):
    out = tmp_path / "out"
    predict(shots, out)
    assert predict([shots / "2.png"], out, resume=True) == []
    assert read(out)[1] == ["2.png", "2.png"]


def test_an_image_that_fails_has_no_objects(shots, tmp_path):
    (shots / "1.png").write_bytes(b"no image")
    assert [row.error is None for row in predict(shots, tmp_path / "out")] == [True, False, True, True]
    content, images = read(tmp_path / "out")
    assert len(content["images"]) == 3
    assert "1.png" not in images


def test_each_image_is_written_once(tmp_path):
    file = ObjectsFile(tmp_path, LABELS, ObjectSettings("components"))
    file.hold("b", (2, 2), [])
    file.hold("a", (2, 2), [])
    file.write(["a"])
    file.write(["a"])
    file.close()
    assert [image["file_name"] for image in json.loads((tmp_path / "objects.json").read_text())["images"]] == ["a", "b"]
