"""Files of class names, as tools write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from upscore.data.class_names import CLASS_FILES, find_class_names, read_class_names
from upscore.errors import DataError


def written(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


@pytest.mark.parametrize(
    "content",
    ["ground\nbox\n", "\ufeffground\r\nbox\r\n", "ground\nbox".encode("utf-16"), "__ignore__\nground\nbox", "\n ground \n\nbox"],
)
def test_one_name_a_line(tmp_path: Path, content: str | bytes) -> None:
    found = read_class_names(written(tmp_path, "classes.txt", content))
    assert found.labels.names == ("ground", "box")
    assert (found.mapping, found.colours) == (None, {})


def test_a_label_map_gives_colours(tmp_path: Path) -> None:
    content = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nignored:224,224,192::\ncrack:250, 50,83:a,b:c\n"
    found = read_class_names(written(tmp_path, "labelmap.txt", content))
    assert found.labels.names == ("background", "crack")
    assert found.labels.palette == ((0, 0, 0), (250, 50, 83))
    assert found.colours == {(0, 0, 0): 0, (224, 224, 192): 255, (250, 50, 83): 1}


def test_a_table_gives_stored_values(tmp_path: Path) -> None:
    assert read_class_names(written(tmp_path, "_classes.csv", "Pixel Value, Class\n0, ground\n1, box\n")).mapping is None
    found = read_class_names(written(tmp_path, "_classes.csv", 'Pixel Value,Class\r\n5,"box, large"\r\n0,ground\r\n'))
    assert (found.labels.names, found.mapping) == (("box, large", "ground"), {5: 0, 0: 1})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("classes.txt", "", "found 0 class names"),
        ("classes.txt", "a\na\n", "class name 'a' is given 2 times"),
        ("classes.txt", "도로\n".encode("cp949"), "save it with the encoding UTF-8"),
        ("classes.txt", "x" * 2**19, "expected at most"),
        ("labelmap.txt", "a:0,0,0::\nb:0,0,0::\n", "'b' has the colour 0,0,0 of another class"),
        ("labelmap.txt", "a:0,0,0::\nb:0,0::\n", "found the line 'b:0,0::', expected name:red,green,blue::"),
        ("labelmap.txt", "a:0,0,256::\n", "expected name:red,green,blue::"),
        ("_classes.csv", "filename, a, b\n", "expected the header 'Pixel Value, Class'"),
        ("_classes.csv", "Pixel Value, Class\n0, a\n0, b\n", "gives the pixel value 0 to two classes"),
        ("_classes.csv", "Pixel Value, Class\nx, a\n", "found the row 'x, a'"),
        ("_classes.csv", "Pixel Value, Class\n" + "9" * 5000 + ", a\n", "found the row"),
        ("_classes.csv", 'Pixel Value, Class\n0, "' + "x" * 200_000 + '"\n', r"_classes\.csv"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        read_class_names(written(tmp_path, name, content))
    assert str(error.value).startswith(str(tmp_path / name))
    assert "\n" not in str(error.value)


def test_the_first_file_counts(tmp_path: Path) -> None:
    assert find_class_names(tmp_path) is None
    for name in reversed(CLASS_FILES[:3]):
        written(tmp_path, name, f"of {name}\n")
        found = find_class_names(tmp_path)
        assert found is not None
        assert found.labels.names == (f"of {name}",)
