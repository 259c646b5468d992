"""Lists of images from any tool and any system."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscore.data.image_lists import find_end, read_list
from upscore.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "street"
    for part, suffix in (("images", "jpg"), ("masks", "png")):
        for key in ("train/a", "train/b", "train/my photo, one", f"train/{unicodedata.normalize('NFD', 'é')}", "#1"):
            file = root / part / f"{key}.{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    return root


def read(root: Path, content: str | bytes, name: str = "list.txt") -> tuple[list[str], list[str | None], list[str]]:
    file = root / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    warnings: list[str] = []
    lines = read_list(file, root, warnings)
    return (
        [line.image.relative_to(root).as_posix() for line in lines],
        [line.mask.relative_to(root).as_posix() if line.mask else None for line in lines],
        warnings,
    )


A, B = "images/train/a.jpg", "images/train/b.jpg"


@pytest.mark.parametrize(
    "content",
    [
        f"{A}\n{B}\n",
        f"\ufeff{A}\r\n{B}\r\n",
        f"{A}\n\n{B}".encode("utf-16"),
        f"./{A}\n{B}\n",
        f"{A}\n{B}\n".replace("/", "\\"),
        f"# training images\n{A}\n  # the last one\n{B}\n",
        f"/{A}\n/{B}\n",
    ],
)
def test_images_one_a_line(root: Path, content: str | bytes) -> None:
    assert read(root, content)[:2] == ([A, B], [None, None])


def test_a_path_is_also_looked_for_beside_the_list(root: Path) -> None:
    assert read(root, "a.jpg\nb.jpg\n", "images/train/list.txt")[0] == [A, B]


@pytest.mark.parametrize("divider", [" ", "\t", ",", ";", ", ", "   "])
def test_images_with_their_masks(root: Path, divider: str) -> None:
    for start in ("", "/", "./"):
        lines = "".join(f"{start}images/train/{name}.jpg{divider}{start}masks/train/{name}.png\n" for name in ("a", "my photo, one"))
        images, masks, warnings = read(root, lines)
        assert images == [A, "images/train/my photo, one.jpg"]
        assert masks == ["masks/train/a.png", "masks/train/my photo, one.png"]
        assert warnings == []


@pytest.mark.parametrize("start", ["C:\\data\\street\\", "D:/", "/content/drive/street/", "\\\\server\\share\\", "/"])
def test_paths_of_another_machine_are_found_by_their_ends_and_it_is_said(root: Path, start: str) -> None:
    images, _, warnings = read(root, f"{start}{A}\n{B}\n")
    assert images == [A, B]
    if start == "/":
        assert warnings == ["1 of 2 paths in list.txt are of another machine: the files at their ends below " + str(root) + " were taken"]
    assert len(warnings) == 1


def test_names_that_look_like_something_else(root: Path) -> None:
    composed = unicodedata.normalize("NFC", "images/train/é.jpg")
    images, masks, warnings = read(root, f"images/train/my photo, one.jpg\n{composed}\n#1.jpg\n", "images/list.txt")
    assert images == ["images/train/my photo, one.jpg", unicodedata.normalize("NFD", composed), "images/#1.jpg"]
    assert (masks, warnings) == ([None] * 3, [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the list is empty"),
        ("# only a comment\n", "the list is empty"),
        ("images/train/c.jpg\n", r"names images/train/c\.jpg, which is not below"),
        (f"{A} masks/train/c.png\n", "which is not below"),
        ("/etc/../images/train/a.jpg/../../x\n", "which is not below"),
        ("x" * 5000, "which is not below"),
        ("x" * 9000, "a line has 9000 characters"),
        ("a\0b\n", "which is not below"),
        ("도로.jpg".encode("cp949"), "cannot be read as a list of images: byte 0x"),
    ],
)
def test_a_wrong_list_is_one_line(root: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        read(root, content)
    assert "\n" not in str(error.value)


@given(text=st.text(max_size=40))
def test_any_text_is_a_list_or_one_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    root = tmp_path_factory.getbasetemp()
    (root / "any.txt").write_bytes(text.encode("utf-8", "surrogatepass"))
    problem = ""
    try:
        read_list(root / "any.txt", root / "none", [])
    except DataError as error:
        problem = str(error)
    assert "\n" not in problem
    find_end(root, text)
