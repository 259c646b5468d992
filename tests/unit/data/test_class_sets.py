"""COCO's classes as VOC's."""

import json
from typing import get_args

import pytest

from outlines_by_hand import save_image
from upscore.data.class_sets import CLASS_SETS
from upscore.data.mask_check import check_dataset
from upscore.data.open_dataset import open_dataset
from upscore.data.voc_names import VOC_NAMES
from upscore.errors import DataError
from upscore.training.auto_config import Machine
from upscore.training.plan import plan
from upscore.training.recipe import Recipe
from upscore.training.recipe_sections import DataSection

COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light", "fire hydrant", "stop sign",
    "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack",
    "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove",
    "skateboard", "surfboard", "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed",
    "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""As instances_val2017.json names them."""


def write(root, objects, name="train.json", names=COCO):
    """Write two images of 20×30, the first with a square of 4×4 for each (name, crowd)."""
    annotations = []
    for position, (category, crowd) in enumerate(objects):
        x = 5 * position
        square = {"segmentation": [[x, 2, x + 4, 2, x + 4, 6, x, 6]], "category_id": 1 + names.index(category), "iscrowd": crowd}
        annotations.append({"id": position, "image_id": 1, **square})
    for file in ("a.jpg", "b.jpg"):
        save_image(root / "images" / file, 20, 30)
    content = {
        "images": [{"id": number, "file_name": file, "height": 20, "width": 30} for number, file in ((1, "a.jpg"), (2, "b.jpg"))],
        "categories": [{"id": number, "name": category} for number, category in enumerate(names, start=1)],
        "annotations": annotations,
    }
    (root / name).write_text(json.dumps(content))
    return root


def test_every_class_of_voc_is_one_of_cocos():
    found = [CLASS_SETS["voc"].find(name) for name in COCO]
    assert len(COCO) == 80
    assert sorted(number for number in found if number) == list(range(1, 21))
    by_name = {name: VOC_NAMES[number] for name, number in zip(COCO, found, strict=True) if number}
    assert {name: voc for name, voc in by_name.items() if name != voc} == {
        "motorcycle": "motorbike", "airplane": "aeroplane", "couch": "sofa", "potted plant": "pottedplant", "dining table": "diningtable",
        "tv": "tvmonitor",
    }  # fmt: skip


def test_the_setting_has_every_set():
    assert get_args(DataSection.model_fields["classes"].annotation) == ("", *CLASS_SETS)


def test_masks_are_vocs_and_the_rest_is_background(tmp_path):
    objects = [("tv", 0), ("truck", 0), ("person", 1), ("person", 0), ("couch", 0)]
    write(tmp_path, [("tv", 0)], "val.json")
    data = open_dataset(write(tmp_path, objects), "train", classes="voc")
    assert data.labels.names == VOC_NAMES
    row = data[0].label[3]
    assert [int(row[x]) for x in (1, 6, 11, 16, 21, 28)] == [20, 0, 255, 15, 18, 0]
    counted = check_dataset(data)
    assert counted.class_pixels[[0, 15, 18, 20]].tolist() == [1200 - 4 * 16, 16, 16, 16]
    assert counted.ignored_pixels == 16
    warnings = " ".join(data.warnings)
    assert "the 81 classes are mapped to those of 'voc' by name: 20 of 20 are there" in warnings
    assert "16 pixels of 60 other classes (" in warnings
    assert "are the class 'background'" in warnings


def test_a_recipe_names_the_classes(tmp_path):
    for split in ("train", "val"):
        write(tmp_path, [("tv", 0), ("dog", 0)], f"{split}.json")
    values = {"data.path": str(tmp_path), "data.classes": "voc", "model.arguments": {"width": 1 / 32}, "model.weights": "none"}
    machine = Machine(device="cpu", devices=1, cores=1, bf16=False, tensorboard=False)
    recipe = Recipe().with_values(values | {"model.backbone": "vgg16", "run.out": str(tmp_path / "run"), "run.batch_size": 1})
    ready = plan(recipe, machine=machine)
    assert ready.train.labels.names == ready.val.labels.names == VOC_NAMES
    assert any("mapped to those of 'voc'" in message for message in ready.messages)


def test_what_cannot_be_mapped_is_refused(tmp_path):
    write(tmp_path, [("kite", 0)], names=["kite", "tie"])
    with pytest.raises(DataError, match="has none of the classes of 'voc', found background, kite, tie: leave"):
        open_dataset(tmp_path, "train", classes="voc")
    with pytest.raises(DataError, match=r"unknown classes 'vox' \(did you mean 'voc'\?\): expected voc"):
        open_dataset(tmp_path, "train", classes="vox")
    with pytest.raises(DataError, match="cannot be mapped to those of 'voc': expected images and masks in files"):
        open_dataset("shapes", "train", classes="voc")
