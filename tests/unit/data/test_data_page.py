"""docs/data.md says what is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from upscore.data.class_names import CLASS_FILES
from upscore.data.folder_roles import IMAGE_FOLDERS, MASK_FOLDERS, MASK_WORDS
from upscore.data.image_lists import read_list
from upscore.data.matching import match_masks
from upscore.data.open_dataset import READERS
from upscore.data.schema import _KEYS, read_schema
from upscore.data.splits import SPLITS

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "data.md").read_text("utf-8")
QUOTED = set(re.findall(r"`([^`\n]+)`", PAGE))


@pytest.mark.parametrize(
    "words",
    [IMAGE_FOLDERS, MASK_FOLDERS, MASK_WORDS, CLASS_FILES, [name for names in SPLITS.values() for name in names]],
    ids=lambda words: words[0],
)
def test_every_word_that_counts_is_on_the_page(words: tuple[str, ...]) -> None:
    assert set(words) <= QUOTED


def test_the_list_of_layouts_is_that_of_the_readers() -> None:
    expected = [f"{number}. {reader.description}" for number, reader in enumerate(READERS, 1)]
    assert [line for line in PAGE.splitlines() if re.match(r"\d+\. ", line)] == expected


def test_the_yaml_is_read_as_it_stands(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "dataset.yaml").write_text(text)
    schema = read_schema(tmp_path / "dataset.yaml")
    assert set(re.findall(r"^(\w+):", text, re.MULTILINE)) == set(_KEYS)
    assert schema.mapping == {0: 0, 7: 1, 254: 255}
    assert schema.warnings == ()


def test_the_line_with_a_mask_is_read(tmp_path: Path) -> None:
    (line,) = [quoted for quoted in QUOTED if quoted.startswith("images/a.jpg ")]
    for name in line.split():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "list.txt").write_text(line)
    assert read_list(tmp_path / "list.txt", tmp_path, [])[0].mask == tmp_path / "masks" / "a.png"


def test_the_rules_for_names_hold() -> None:
    rules = re.findall(r"`([\w.]+)` for\s`([\w.]+)`", PAGE)
    assert len(rules) == 5
    for mask, image in rules:
        numbers = ("7", "8") if "7" in image else ("1", "2") if "1" in image else ("a", "b")
        images = [re.sub(rf"(?<![a-zA-Z]){numbers[0]}(?![a-zA-Z])", number, image, count=1) for number in numbers]
        masks = [re.sub(rf"(?<![a-zA-Z]){numbers[0]}(?![a-zA-Z])", number, mask, count=1) for number in numbers]
        pairs = match_masks([(name, Path(name)) for name in images], [(name, Path(name)) for name in masks])
        assert [str(pair.mask) for pair in pairs] == masks
