import json

import numpy as np
import pytest

from upscore.errors import OutputError
from upscore.objects.coco_file import CocoFile, describe_object
from upscore.objects.detected import DetectedObject
from upscore.types import LabelSpace

LABELS = LabelSpace(("background", "car", "bus"))
RING = DetectedObject(2, 0.123456789, np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool), 4, 2, (10, 12))


def write(path):
    file = CocoFile(path, LABELS, (1, 2), {"origin": "components"})
    file.add("a.jpg", (10, 12), [describe_object(RING)] * 2)
    file.add("empty \udcff.jpg", (3, 4), [])
    return file


def test_an_object_is_described_whole():
    described = describe_object(RING)
    assert described["bbox"] == [4, 2, 3, 3]
    assert (described["category_id"], described["area"], described["score"]) == (2, 8, 0.123457)
    assert described["polygon"] == {"outer": [4, 2, 7, 2, 7, 5, 4, 5], "holes": [[5, 3, 5, 4, 6, 4, 6, 3]]}


def test_the_file_appears_when_it_is_closed(tmp_path):
    path = tmp_path / "new" / "objects.json"
    file = write(path)
    assert not path.exists()
    file.close()
    content = json.loads(path.read_text(encoding="utf-8"))
    assert [path.name for path in path.parent.iterdir()] == ["objects.json"]
    assert content["info"] == {"origin": "components"}
    assert content["categories"] == [{"id": 1, "name": "car"}, {"id": 2, "name": "bus"}]
    assert [image["file_name"] for image in content["images"]] == ["a.jpg", "empty \udcff.jpg"]
    assert content["images"][0] == {"id": 1, "file_name": "a.jpg", "width": 12, "height": 10}
    assert [(each["id"], each["image_id"]) for each in content["annotations"]] == [(1, 1), (2, 1)]


def test_nothing_is_left_of_a_file_that_is_abandoned(tmp_path):
    file = write(tmp_path / "objects.json")
    file.abandon()
    file.close()
    assert not list(tmp_path.iterdir())
    closed = write(tmp_path / "objects.json")
    closed.close()
    closed.abandon()
    assert (tmp_path / "objects.json").is_file()


def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path, monkeypatch):
    file = write(tmp_path / "objects.json")

    def full(content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(file._file, "_file", Full(file._file._file, full))
    with pytest.raises(OutputError, match="No space left"):
        file.add("b.jpg", (1, 1), [describe_object(RING)])
    file.close()
    assert not list(tmp_path.iterdir())


class Full:
    def __init__(self, file, write):
        self.name, self.close, self.write = file.name, file.close, write


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools' own, with NumPy 2
def test_coco_opens_the_file_and_its_masks(tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    write(tmp_path / "objects.json").close()
    opened = coco.COCO(str(tmp_path / "objects.json"))
    mask = opened.annToMask(opened.anns[1]).astype(bool)
    np.testing.assert_array_equal(mask[2:5, 4:7], RING.mask)
    assert mask.sum() == RING.mask.sum()
    assert len(opened.loadRes(opened.dataset["annotations"]).anns) == 2
