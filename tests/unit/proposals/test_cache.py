"""Boxes on disk come back as they were, and what is not meant for an image is refused."""

import json

import numpy as np
import pytest

from upscore.errors import DataError
from upscore.proposals import Boxes, BoxFile, CachedProposer, EdgeBoxes, SlidingWindows, proposals_folder

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


class Counting:
    """A proposer that counts how often it is asked."""

    def __init__(self, name):
        self.name, self.asked = name, 0

    def __repr__(self):
        return self.name

    def __call__(self, image):
        self.asked += 1
        return Boxes(np.array([[1, 2, 3, 4], [-5, 0, 9, 9]]), np.array([0.1 + 0.2, -3e-300]))


def test_a_image_is_searched_once_for_each_setting(tmp_path):
    one, other = Counting("one"), Counting("other")
    for _ in range(2):
        for propose in (one, other):
            found = CachedProposer(propose, tmp_path / "boxes")(IMAGE)
            np.testing.assert_array_equal(found.corners, [[1, 2, 3, 4], [-5, 0, 9, 9]])
            assert found.objectness.tolist() == [0.1 + 0.2, -3e-300]
    assert (one.asked, other.asked) == (1, 1)
    CachedProposer(one, tmp_path / "boxes")(IMAGE[:, ::-1])
    CachedProposer(one, tmp_path / "boxes")(IMAGE.reshape(60, 40, 3))
    assert one.asked == 3


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"cos\nsystem\n(S'true'\ntR.", None])
def test_a_damaged_file_is_made_again(tmp_path, damage):
    kept = CachedProposer(Counting("one"), tmp_path)
    kept(IMAGE)
    (file,) = tmp_path.iterdir()
    if damage is None:
        np.save(file, np.zeros((3, 2)))
    else:
        file.write_bytes(damage)
    assert len(kept(IMAGE)) == 2
    assert len(kept(IMAGE)) == 2
    assert kept.proposer.asked == 2


@pytest.mark.parametrize("propose", [EdgeBoxes(30), SlidingWindows(30)])
def test_what_is_kept_is_what_is_proposed(tmp_path, propose):
    kept = CachedProposer(propose, tmp_path)
    for _ in range(2):
        np.testing.assert_array_equal(kept(IMAGE).corners, propose(IMAGE).corners)
        np.testing.assert_array_equal(kept(IMAGE).objectness, propose(IMAGE).objectness)
    flat = np.full((30, 30, 3), 9, np.uint8)
    assert len(kept(flat)) == len(kept(flat)) == len(propose(flat))


def test_where_nothing_can_be_written_boxes_are_found_every_time(tmp_path):
    (tmp_path / "file").write_text("")
    counting = Counting("one")
    kept = CachedProposer(counting, tmp_path / "file" / "boxes")
    assert len(kept(IMAGE)) == len(kept(IMAGE)) > 0
    assert counting.asked == 2


def test_boxes_are_kept_where_the_user_says(tmp_path, monkeypatch):
    monkeypatch.setenv("UPSCORE_CACHE", str(tmp_path))
    assert proposals_folder() == tmp_path / "proposals"
    monkeypatch.delenv("UPSCORE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert proposals_folder().name == "proposals"
    assert "upscore" in proposals_folder().parts


def boxes_in(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return BoxFile(path)


def test_a_file_gives_each_image_its_boxes(tmp_path):
    file = boxes_in(
        tmp_path / "boxes.json",
        {
            "a/one": {"size": [4, 6], "boxes": [[0, 0, 3, 2, 0.5], [1, 1, 6, 4, 0.75]]},
            "two.png": {"size": [4, 6], "boxes": [[0, 0, 3, 2]]},
            "three": {"size": [4, 6], "boxes": []},
        },
    )
    assert file.boxes("a/one", (4, 6)).objectness.tolist() == [0.5, 0.75]
    assert file.boxes("/somewhere/two.png", (4, 6)).corners.tolist() == [[0, 0, 3, 2]]
    assert len(file.boxes("three.jpg", (4, 6))) == 0


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"size": [4, 7], "boxes": []}, "are for an image of [4, 7], expected [4, 6]"),
        ({"boxes": []}, "are for an image of None"),
        ({"size": [4, 6]}, "is not of the form"),
        ([], "is not of the form"),
        ({"size": [4, 6], "boxes": [[0, 0, 3]]}, "expected 4 or 5 numbers"),
        ({"size": [4, 6], "boxes": [[0, 0, 3, 2], [0, 0, 3, 2, 1]]}, "are wrong"),
        ({"size": [4, 6], "boxes": [[0, 0, 3, "x"]]}, "are wrong"),
        ({"size": [4, 6], "boxes": [[3, 0, 0, 2]]}, "left below right"),
        ({"size": [4, 6], "boxes": [[0, 0, 3, None]]}, "are wrong"),
        ({"size": [4, 6], "boxes": [[0, 0, 3, 1e300]]}, "are wrong"),
        ({"size": [4, 6], "boxes": [[5, 3, 9, 9], [6, 0, 9, 2]]}, "box 1 is [6, 0, 9, 2]: it lies outside the image"),
        ({"size": [4, 6], "boxes": [[-3, 0, 1, 2], [0, -3, 1, 0]]}, "box 1 is [0, -3, 1, 0]: it lies outside"),
    ],
)
def test_wrong_entries_are_one_line(tmp_path, entry, says):
    file = boxes_in(tmp_path / "boxes.json", {"one": entry})
    with pytest.raises(DataError) as refused:
        file.boxes("one.png", (4, 6))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_boxes_of_another_image_are_not_taken(tmp_path):
    file = boxes_in(tmp_path / "boxes.json", {"one": {"size": [4, 6], "boxes": []}})
    with pytest.raises(DataError, match=r"holds no boxes for 'two\.png', but for 1 other, such as 'one'"):
        file.boxes("two.png", (4, 6))


@pytest.mark.parametrize("content", ["", "[", "[]", "{}", "[" * 100_000, '"text"', "\x00"])
def test_files_that_are_no_boxes_are_refused(tmp_path, content):
    with pytest.raises(DataError) as refused:
        boxes_in(tmp_path / "boxes.json", content)
    assert "\n" not in str(refused.value)


def test_a_missing_or_endless_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        BoxFile(tmp_path / "absent.json")
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(2**28 + 1)
    with pytest.raises(DataError, match="expected at most"):
        BoxFile(tmp_path / "large.json")
