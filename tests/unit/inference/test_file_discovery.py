"""Which images are meant, and that whatever is left out is said: other formats, links, hidden names, results."""

from __future__ import annotations

import glob
import os
from pathlib import Path

import pytest

from upscore.data.headers import IMAGE_SUFFIXES
from upscore.errors import DataError, OutputError
from upscore.inference import file_discovery
from upscore.inference.file_discovery import discover_images


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = tmp_path / "shots"
    for name in ("a.png", "b.JFIF", "sub/c.jpe", "sub/deep/d.pjpeg", "sub/deep/e.tif"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def names(paths: object, **options: object) -> list[str]:
    return [str(one.name) for one in discover_images(paths, **options).images]


def test_jpegs_of_other_suffixes_are_images(shots: Path):
    found = discover_images(shots)
    assert [str(one.name) for one in found.images] == ["a", "b", "sub/c", "sub/deep/d", "sub/deep/e"]
    assert (found.left_out, found.warnings) == (0, ())


def test_other_files_are_counted_by_suffix_and_formats_to_convert_are_named(shots: Path):
    for name in ("1.heic", "sub/2.HEIC", "3.dng", "notes.txt", "README", "sub/t.csv"):
        (shots / name).write_bytes(b"x")
    found = discover_images(shots)
    assert found.left_out == 6
    assert found.warnings == (
        f"{shots}: 6 files were left out as not named like an image that can be read: 2 .heic, 1 .dng, 1 without a suffix, 1 .txt "
        "and 1 .csv; convert .dng and .heic to PNG or JPEG to have them labelled",
    )
    assert len(discover_images(str(shots / "*")).warnings) == 2  # the folder that * matches too


def test_a_folder_of_other_formats_alone_says_what_it_holds(tmp_path: Path):
    (tmp_path / "IMG_1.HEIC").write_bytes(b"x")
    with pytest.raises(DataError, match=r"found no image in the folder \(1 file was left out .* 1 \.heic; convert \.heic to PNG"):
        discover_images(tmp_path)
    with pytest.raises(DataError, match=r"matches no image \(1 file was left out .* 1 \.heic; convert \.heic to PNG"):
        discover_images(str(tmp_path / "*.HEIC"))


def test_many_suffixes_stay_one_line(shots: Path):
    for number in range(30):
        (shots / f"x.{number}{'y' * 100}").write_bytes(b"x")
    (note,) = discover_images(shots).warnings
    assert "24 other suffixes" in note
    assert len(note) < 600


def test_masks_beside_images_are_left_out_of_a_folder(shots: Path):
    for name in ("a_mask.png", "sub/C_GT.PNG", "sub/deep/other_mask.png", "b-mask.txt"):
        (shots / name).write_bytes(b"x")
    found = discover_images(shots)
    assert [str(one.name) for one in found.images] == ["a", "b", "sub/c", "sub/deep/d", "sub/deep/e", "sub/deep/other_mask"]
    assert found.left_out == 3
    assert found.warnings[1] == (
        f"{shots}: 2 masks were left out as named like the image beside it and _mask or the like (name the files to label them): "
        "'C_GT.PNG' and 'a_mask.png'"
    )
    assert names([shots / "a.png", shots / "a_mask.png"]) == ["a", "a_mask"]
    assert names(str(shots / "a*.png")) == ["a", "a_mask"]


def test_a_folder_of_masks_beside_one_of_images_is_not_searched(tmp_path: Path):
    for name in ("train/Images/a.png", "train/labels/a.png", "train/instances/a.png", "labels/b.png", "instances/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = discover_images(tmp_path)
    assert [str(one.name) for one in found.images] == ["instances/c", "labels/b", "train/Images/a"]  # no images/ beside the first two
    assert found.warnings == (
        f"{tmp_path}: 2 folders were not searched, named as for masks and beside one of images (give it to have it labelled): "
        "'instances' and 'labels'",
    )
    assert names(tmp_path / "train/labels") == ["a"]


def test_links_to_images_are_followed_and_those_that_lead_nowhere_are_said(shots: Path):
    os.symlink(shots / "a.png", shots / "again.png")
    os.symlink(shots / "missing.png", shots / "dangling.png")
    os.symlink("loop.png", shots / "loop.png")
    os.symlink("pong.png", shots / "ping.png")
    os.symlink("ping.png", shots / "pong.png")
    found = discover_images(shots)
    assert len(found.images) == 5  # a.png and the link to it are one
    assert found.left_out == 4
    assert found.warnings == (
        f"{shots}: 4 links were left out as leading nowhere (the target is missing, or they lead in a circle): "
        "'dangling.png', 'loop.png', 'ping.png' and 'pong.png'",
    )
    for name in ("dangling.png", "loop.png"):
        with pytest.raises(DataError, match="the link leads nowhere"):
            discover_images(shots / name)


def test_linked_folders_are_not_followed_and_that_is_said(shots: Path, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    for number in range(4):
        os.symlink(shots, shots / f"again{number}")  # patterns with ** would walk them for ever
    os.symlink(tmp_path / "elsewhere", shots / "sub" / "linked")
    for given in (shots, str(shots / "**" / "*"), str(shots / "**")):
        found = discover_images(given)
        assert len(found.images) == 5
        assert any("5 linked folders were not searched (give what they lead to): 'again0'" in note for note in found.warnings)
    assert names(shots / "again0") == names(shots)  # the remedy


def test_hidden_names_are_said(shots: Path):
    (shots / "._a.png").write_bytes(b"x")
    (shots / ".DS_Store").write_bytes(b"x")
    (shots / ".thumbs").mkdir()
    found = discover_images(shots)
    assert found.left_out == 1
    assert [note.removeprefix(f"{shots}: ") for note in found.warnings] == [
        "1 hidden image was left out (names that begin with a dot): '._a.png'",
        "1 hidden folder was not searched (names that begin with a dot): '.thumbs'",
    ]
    assert names(shots / "._a.png") == ["._a"]
    assert names(str(shots / ".*.png")) == ["._a"]


def test_pipes_are_left_out_and_said(shots: Path):
    os.mkfifo(shots / "pipe.png")
    found = discover_images(shots)
    assert found.warnings == (f"{shots}: 1 file was left out as pipes, devices or sockets: 'pipe.png'",)
    assert len(found.images) == 5


def test_a_folder_that_cannot_be_read_is_said(shots: Path, monkeypatch: pytest.MonkeyPatch):
    scandir = os.scandir

    def locked(path: str) -> object:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(file_discovery.os, "scandir", locked)
    found = discover_images(shots)
    assert [str(one.name) for one in found.images] == ["a", "b", "sub/c"]
    assert found.warnings == (f"{shots}: 1 folder could not be read: '{shots}/sub/deep: Permission denied'",)


def test_very_deep_folders_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    depth = 1100  # beyond what Python calls within one another
    (tmp_path / "a.png").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    for _ in range(depth):
        os.mkdir("d")
        os.chdir("d")
    try:
        assert names(tmp_path, exclude=tmp_path / "out") == ["a"]
        assert names(str(tmp_path / "**" / "*.png")) == ["a"]
    finally:
        for _ in range(depth):
            os.chdir("..")
            os.rmdir("d")


def test_patterns_match_what_the_shells_do(shots: Path, monkeypatch: pytest.MonkeyPatch):
    (shots / ".hidden.png").write_bytes(b"x")
    (shots / "sub" / "[1].png").write_bytes(b"x")
    monkeypatch.chdir(shots.parent)
    for pattern in ("shots/*", "shots/**", "shots/**/*", "**/*.jp*", "shots/*/*.png", "s*/sub/**/*.p*", "shots/[ab]*", "*/*/../*.png",
                    "./shots/?.png", "shots/**/deep/*", "**/sub/*", "shots/sub/[[]1].png", str(shots / "*" / "c*")):  # fmt: skip
        expected = {Path(one).resolve() for one in glob.glob(pattern, recursive=True) if Path(one).suffix.lower() in IMAGE_SUFFIXES}
        assert {one.path.resolve() for one in discover_images(pattern).images} == expected, pattern
        assert expected


def test_results_below_the_images_are_not_searched_and_beside_them_are_refused(shots: Path):
    out = shots / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"x")
    for given in (shots, str(shots / "**" / "*"), str(shots / "*" / "*.*")):
        found = discover_images(given, exclude=out)
        assert not any("out" in one.path.parts for one in found.images)
        assert f"{given}: the folder of the results was not searched" in found.warnings
    for given in (shots, str(shots / "*.png"), str(shots / "**" / "*.png")):
        with pytest.raises(OutputError, match="choose a folder of its own"):
            discover_images(given, exclude=shots)
    assert names(shots / "sub", exclude=shots) == ["c", "deep/d", "deep/e"]  # results above are no results among them


def test_names_that_a_file_system_may_take_for_one_are_told_apart(tmp_path: Path):
    for folder, name in (("1", "caf\u00e9.png"), ("2", "cafe\u0301.png"), ("3", "x.png"), ("4", "x.overlay.png"), ("5", "X.png")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(b"x")
    found = names([tmp_path / folder for folder in "12345"])
    assert found == ["caf\u00e9_png", "cafe\u0301_png-2", "x_png", "x.overlay", "X_png-2"]
    # The overlay of an image too large for JPEG is a PNG, and would be called as the labels of the other.
    assert names([tmp_path / folder for folder in "34"]) == ["x", "x.overlay-2"]
    assert names([tmp_path / folder for folder in "43"]) == ["x.overlay", "x-2"]


def test_long_names_leave_room_for_endings(tmp_path: Path):
    for letter in "ab":
        (tmp_path / ("\u00e9" * 120 + letter + ".png")).write_bytes(b"x")
    found = names(tmp_path)
    assert len(set(found)) == 2
    assert max(len(os.fsencode(name)) for name in found) <= 210


@pytest.mark.parametrize("given", ["x" * 5000, "a/" * 3000 + "*.png", "nul\0*.png", "[", "**/" * 500 + "*.png"])
def test_impossible_paths_are_one_line(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as error:
        discover_images(given)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 2500
