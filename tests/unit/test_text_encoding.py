"""Text files from any editor are decoded, or their encoding is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscore.errors import DataError
from upscore.files import read_text

MARKED = {"utf-8-sig": b"", "utf-16": b"", "utf-32": b"", "utf-16-be": b"\xfe\xff", "utf-32-be": b"\x00\x00\xfe\xff"}


def refused(file: Path) -> str:
    with pytest.raises(DataError) as error:
        read_text(file, max_bytes=1000, what="YAML")
    return str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8", *MARKED])
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff\0"), max_size=40))
def test_unicode_is_read_by_its_mark(tmp_path_factory: pytest.TempPathFactory, encoding: str, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "text"
    file.write_bytes(MARKED.get(encoding, b"") + text.encode(encoding))
    assert read_text(file, max_bytes=1000, what="YAML") == text.replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize(
    ("encoding", "text", "named"),
    [
        ("gbk", "names: [道路, 汽车]", "GBK"),
        ("cp949", "names: [도로, 자동차]", "CP949"),
        ("cp932", "names: [どうろ, くるま]", "Shift JIS"),
        ("big5", "names: [道路, 汽車]", "Big5"),
        ("cp1252", "names: [Straße, Fußgänger]", "CP1252"),
        ("utf-16-le", "names: [Straße]", "UTF-16 without its mark"),
        ("utf-16-be", "names: [Straße]", "UTF-16 without its mark"),
    ],
)
def test_other_encodings_are_named_and_the_remedy_works(tmp_path: Path, encoding: str, text: str, named: str) -> None:
    file = tmp_path / "dataset.yaml"
    file.write_bytes(("# first line\n" + text).encode(encoding))
    message = refused(file)
    assert named in message
    assert re.search(r"line \d+ is not UTF-8", message)
    assert "save it with the encoding UTF-8" in message
    file.write_text(file.read_bytes().decode(encoding), "utf-8")  # what the editor does
    assert text in read_text(file, max_bytes=1000, what="YAML")


def test_what_is_no_text_file(tmp_path: Path) -> None:
    file = tmp_path / "f"
    assert "no such file" in refused(file)
    file.write_bytes(b"x" * 1001)
    assert "has 1001 bytes, expected at most 1000" in refused(file)
    assert "it is a folder" in refused(tmp_path)
    (tmp_path / "round").symlink_to("round")
    assert "cannot be read as YAML" in refused(tmp_path / "round")
    file.write_bytes(b"\xff\xfe\x00\xd8")
    assert "marked as UTF-16-LE and is not" in refused(file)
