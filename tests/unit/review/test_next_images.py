"""Which files are chosen, what is left out, and what is written."""

import json
import shutil

import numpy as np
import pytest

from colour_network import colour_predictor
from painting import paint
from upscore.data.open_dataset import open_dataset
from upscore.data.png_files import write_image
from upscore.errors import DataError, OutputError
from upscore.review.next_images import choose_next, write_next


@pytest.fixture
def data(tmp_path):
    return paint(tmp_path / "data", train=2, val=4)


@pytest.fixture
def unlabelled(data, tmp_path):
    """The validation images, a copy of one, and an image between the colours of two classes."""
    folder = tmp_path / "unlabelled"
    shutil.copytree(data.parent / "images" / "val", folder)
    shutil.copyfile(folder / "001.png", folder / "copy.png")
    write_image(folder / "hazy.png", np.full((48, 56, 3), (165, 155, 100), np.uint8))
    return folder


def test_the_uncertain_one_is_first_and_a_copy_is_never_chosen(unlabelled):
    found = choose_next(colour_predictor(), unlabelled, 3)
    assert found.chosen[0].image.path.name == "hazy.png"
    assert found.chosen[0].uncertainty > 5 * found.chosen[1].uncertainty
    assert found.chosen[1].nearest.name == "hazy.png"
    assert [path.name for path in found.repeated] == ["copy.png"]
    assert found.examined == 5
    assert any("1 images have the pixels of another one" in message for message in found.messages)


def test_images_with_masks_are_left_out_and_more_than_there_are_is_all(unlabelled, data):
    found = choose_next(colour_predictor(), unlabelled, 50, labelled=[open_dataset(data, "val")])
    assert [chosen.image.path.name for chosen in found.chosen] == ["hazy.png"]
    assert len(found.labelled) == 5
    assert "all 1 images were chosen, fewer than the 50 asked for" in found.messages
    (unlabelled / "hazy.png").unlink()
    with pytest.raises(DataError, match="found no image to label: of 5, 5 have masks already"):
        choose_next(colour_predictor(), unlabelled, 50, labelled=[open_dataset(data, "val")])


def test_what_cannot_be_read_is_told_and_the_rest_goes_on(unlabelled, tmp_path):
    (unlabelled / "002.png").write_bytes(b"no image")
    found = choose_next(colour_predictor(), unlabelled, 9)
    assert len(found.unreadable) == 1
    assert found.examined == 4
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        choose_next(colour_predictor(), tmp_path / "empty", 1)
    with pytest.raises(DataError, match="found 0 images to choose"):
        choose_next(colour_predictor(), unlabelled, 0)


@pytest.mark.parametrize("tool", ["labelme", "label-studio"])
def test_tasks_hold_the_predictions(tool, unlabelled, tmp_path):
    predictor = colour_predictor()
    found = choose_next(predictor, unlabelled, 3)
    folder = write_next(found, tmp_path / "out", tool=tool)
    listed = json.loads((tmp_path / "out" / "next.json").read_text())
    assert [row["file"] for row in listed["images"]] == [str(chosen.image.path) for chosen in found.chosen]
    assert listed["images"][0]["nearest"] is None
    assert "differs by" in listed["images"][1]["reason"]
    if tool == "labelme":
        dataset = open_dataset(folder, "train")
        for i in range(len(dataset)):
            sample = dataset[i]
            predicted = predictor.predict(sample.image).label_map
            assert (np.array(dataset.labels.names)[sample.label] == np.array(predictor.labels.names)[predicted]).mean() > 0.99
    else:
        tasks = json.loads((folder / "label-studio.json").read_text())
        assert len(tasks) == 3
        assert all(task["predictions"][0]["result"] and "annotations" not in task for task in tasks)
    with pytest.raises(OutputError):
        write_next(found, tmp_path / "out", tool=tool)
    with pytest.raises(DataError, match="no format 'paper'"):
        write_next(found, tmp_path / "other", tool="paper")
    assert not (tmp_path / "other").exists()


def test_an_interrupt_leaves_nothing_behind(unlabelled, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    found = choose_next(colour_predictor(), unlabelled, 3)
    with pytest.raises(KeyboardInterrupt):
        write_next(found, tmp_path / "out", progress=stop)
    assert not list(tmp_path.glob("*out*"))
