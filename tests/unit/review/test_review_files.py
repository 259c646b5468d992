"""What is written for review: a list, and tasks with the mask and the prediction."""

import json

import numpy as np
import pytest

from colour_network import colour_predictor
from painting import paint
from upscore.data.open_dataset import open_dataset
from upscore.data.png_files import write_label_map
from upscore.errors import OutputError
from upscore.review.label_review import MIN_DOUBT, review_labels
from upscore.review.review_files import first_lines, write_review


@pytest.fixture
def review(tmp_path):
    data = paint(tmp_path / "data", train=2, val=4)
    dataset = open_dataset(data, "val")
    label = dataset[2].label.copy()
    label[label == 1] = 0
    write_label_map(data.parent / "masks" / "val" / "002.png", label, dataset.labels)
    return review_labels(colour_predictor(), [open_dataset(data, split) for split in ("train", "val")])


def test_the_list_and_the_tasks_hold_truth_and_prediction(review, tmp_path):
    folder = write_review(review, tmp_path / "review")
    listed = json.loads((folder / "review.json").read_text())
    assert listed["images"][0]["key"] == "002"
    assert listed["regions"][0]["predicted"] == "square"
    assert len(listed["left_out"]) == 2
    labelme = json.loads((folder / "labelme" / "val" / "002.json").read_text())
    names = {shape["label"] for shape in labelme["shapes"]}
    assert "predicted: square" in names
    assert "square" not in names
    [task] = json.loads((folder / "label-studio" / "tasks-val.json").read_text())
    truth, predicted = ({name for result in part["result"] for name in next(
        value for key, value in result["value"].items() if key.endswith("labels"))}
        for part in (task["annotations"][0], task["predictions"][0]))  # fmt: skip
    assert "square" in predicted - truth
    write_review(review, tmp_path / "review")  # replaced


def test_a_line_names_the_region(review):
    [line] = first_lines(review, 10)
    assert line.startswith("val 002: columns ")
    assert "labelled 'ground'" in line
    assert "predicted 'square' (1.00)" in line


def test_other_contents_are_left_and_an_interrupt_leaves_nothing(review, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError):
        write_review(review, tmp_path / "other")

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_review(review, tmp_path / "new", progress=stop)
    assert not list(tmp_path.glob("*new*"))
    assert np.isfinite(review.images[0].doubt)


def test_masks_that_are_doubtful_as_a_whole_are_tasks_too(tmp_path):
    data = paint(tmp_path / "data", train=1, val=12)
    dataset = open_dataset(data, "val")
    moved = np.roll(dataset[5].label, 1, 1)
    write_label_map(data.parent / "masks" / "val" / "005.png", moved, dataset.labels)
    review = review_labels(colour_predictor(), [dataset])
    assert [image.name for image in review.doubtful] == [("val", "005")]
    assert review.doubtful[0].doubt >= MIN_DOUBT
    assert not review.regions
    folder = write_review(review, tmp_path / "review")
    assert [path.stem for path in (folder / "labelme" / "val").glob("*.json")] == ["005"]
