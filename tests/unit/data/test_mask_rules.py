"""Mistakes in masks: each is found and named, and each remedy that a message gives is followed and works."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from upscore.data.dataset_statistics import DatasetStatistics
from upscore.data.mask_check import check_splits, inspect_dataset
from upscore.data.open_dataset import open_dataset
from upscore.errors import DataError

TRAIN, VAL, SIZE = 4, 2, (20, 24)
Maker = Callable[[np.ndarray, str, int], "np.ndarray | Image.Image | None"]


def box(number: int) -> np.ndarray:
    """Return a box (1) on a background (0), (H, W) uint8."""
    rng = np.random.default_rng(number)
    mask = np.zeros(SIZE, np.uint8)
    top, left = rng.integers(1, 10), rng.integers(1, 12)
    mask[top : top + 8, left : left + 10] = 1
    return mask


def strips(number: int, classes: int = 3) -> np.ndarray:
    """Return ``classes`` columns, in an order of their own in each mask."""
    order = np.random.default_rng(number).permutation(classes)
    return np.ascontiguousarray(np.broadcast_to(np.repeat(order, -(-SIZE[1] // classes))[: SIZE[1]], SIZE)).astype(np.uint8)


def samples() -> list[tuple[str, int]]:
    return [("train", number) for number in range(TRAIN)] + [("val", number) for number in range(TRAIN, TRAIN + VAL)]


def write(root: Path, make: Maker, drawn: Callable[[int], np.ndarray] = box, suffix: str = ".png") -> None:
    for split, number in samples():
        for part in ("images", "masks"):
            (root / part / split).mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / "images" / split / f"{number}.png")
        made = make(drawn(number), split, number)
        if made is not None:
            (made if isinstance(made, Image.Image) else Image.fromarray(made)).save(root / "masks" / split / f"{number}{suffix}")


def describe(root: Path, names: Sequence[str], mapping: Mapping[int, int] | None = None) -> None:
    content: dict[str, object] = {"train": "images/train", "val": "images/val", "names": list(names)}
    if mapping is not None:
        content["label_mapping"] = dict(mapping)
    (root / "dataset.yaml").write_text(yaml.safe_dump(content))


def check(root: Path) -> DatasetStatistics:
    census, _ = check_splits(open_dataset(root, "train"), open_dataset(root, "val"))
    return census


def refused(root: Path) -> str:
    with pytest.raises(DataError) as error:
        check(root)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 2000
    return str(error.value)


def labels(root: Path) -> list[list[list[int]]]:
    return [open_dataset(root, split)[i].label.tolist() for split, count in (("train", TRAIN), ("val", VAL)) for i in range(count)]  # type: ignore[union-attr]


def remedies(message: str) -> list[str]:
    """Return the ways to mend that a message tells, in its order."""
    return re.split(r"; or, ", message.partition("; ")[2])


def follow(root: Path, remedy: str) -> None:
    """Do as it says: write the line, set the settings, run the command."""
    if line := re.search(r"write the file (\S+) with the line (\{.*\})", remedy):
        Path(line[1]).write_text(line[2] + "\n")
        return
    if command := re.search(r'python -c (".*")$', remedy):
        subprocess.run(f"{sys.executable} -c {command[1]}", shell=True, check=True)
    file = root / "dataset.yaml"
    content = yaml.safe_load(file.read_text())
    if names := re.search(r"names: (\[.*?\])", remedy):
        content["names"] = yaml.safe_load(names[1])
    if mapping := re.search(r"label_mapping: (\{[^}]*\})", remedy):
        content["label_mapping"] = yaml.safe_load(mapping[1])
    file.write_text(yaml.safe_dump(content))


def half(first: Callable[[np.ndarray], object], second: Callable[[np.ndarray], object]) -> Maker:
    return lambda mask, _, number: (first if number % 2 else second)(mask)  # type: ignore[return-value]


def third(most: Callable[[np.ndarray], object], few: Callable[[np.ndarray], object]) -> Maker:
    return lambda mask, _, number: (most if number % 3 else few)(mask)  # type: ignore[return-value]


def one_bit(mask: np.ndarray) -> Image.Image:
    return Image.fromarray(mask.astype(bool))


def blurred(mask: np.ndarray, *_: object, high: int = 255) -> np.ndarray:
    """Return the box drawn with anti-aliasing."""
    return cv2.resize(
        cv2.resize(mask * np.uint8(high), None, fx=8, fy=8, interpolation=cv2.INTER_NEAREST)[3:, 5:],
        SIZE[::-1],
        interpolation=cv2.INTER_AREA,
    )


def same(mask: np.ndarray) -> np.ndarray:
    return mask


def times(factor: int, plus: int = 0) -> Callable[..., np.ndarray]:
    return lambda mask, *_: (mask * factor + plus).astype(np.uint8)


def looked_up(*values: int) -> Callable[..., np.ndarray]:
    return lambda mask, *_: np.array(values, np.uint8)[mask]


def painted(*colours: tuple[int, int, int], order: Sequence[int] = ()) -> Callable[[np.ndarray], Image.Image]:
    """Return what saves a mask with a palette, its numbers put in another ``order`` first."""

    def paint(mask: np.ndarray) -> Image.Image:
        image = Image.fromarray(np.array(order or range(256), np.uint8)[mask]).convert("L")
        image.putpalette(bytes(np.array(colours, np.uint8)))
        return image

    return paint


RED, BLACK, BLUE = (200, 0, 0), (0, 0, 0), (0, 0, 250)
turned = painted(RED, BLACK, order=(1, 0))
TWO, THREE = ("ground", "box"), ("ground", "box", "bar")
FOUND: list[tuple[str, Maker, Sequence[str], Mapping[int, int] | None, str, list[tuple[int, ...] | None]]] = [
    # what, masks, names, mapping, message, and by each remedy the label of 0, 1, … as drawn (None: no settings or command to follow)
    ("0/255, one name", times(255), ["crack"], None, r"0/255 masks.*background taken for crack.*names: \[background, crack\]", [(0, 1)]),
    ("0/1, one name", times(1), ["crack"], None, r"names has one class and lacks the background.*\[background, crack\]", [(0, 1)]),
    ("0/128, one name", times(128), ["crack"], None, r"lacks the background", [(0, 1)]),
    ("0/1/2, one name", times(1), ["crack"], None, r"lacks the background", [(0, 1, 2)]),
    ("one name, background", times(255), ["background"], None, r"\[background, object\]", [(0, 1)]),
    ("0/255", times(255), TWO, None, r"0/255 masks, the object saved as 255", [(0, 1)]),
    ("0/128", times(128), TWO, None, r"spread out", [(0, 1)]),
    ("numbered from 1", times(1, 1), TWO, None, r"numbered from 1 to 2", [(0, 1)]),
    ("numbered from 1, three", times(1, 1), THREE, None, r"numbered from 1 to 3", [(0, 1, 2)]),
    ("spread", times(100), THREE, None, r"spread out", [(0, 1, 2)]),
    ("spread to 255", looked_up(0, 128, 255), THREE, None, r"the last one saved as 255", [(0, 1, 2)]),
    ("trimap", looked_up(0, 128, 255), TWO, None, r"spread out", [(0, 1, 255), (0, 255, 1)]),
    ("background not named", times(1), ("cat", "dog"), None, r"lacks the background", [(0, 1, 2), (0, 1, 255), (0, 1, 2)]),
    ("a void class", looked_up(0, 1, 7), TWO, None, r"probably a void class", [(0, 1, 255), (0, 1, 2)]),
    ("far values", looked_up(0, 40, 90), TWO, None, r"classes missing from names", [(0, 1, 2)]),
    ("two voids", looked_up(0, 1, 8, 9), TWO, None, r"add the classes to names", [(0, 1, 2, 3), (0, 1, 255, 255)]),
    ("1 bit, mapped as 0/255", lambda m, *_: one_bit(m), TWO, {0: 0, 255: 1}, r"1 \(\d+ px in 6 masks\).*no mask shows box", [(0, 1)]),
    ("0/128, mapped as 0/255", times(128), TWO, {0: 0, 255: 1}, r"does not name 128", [(0, 1)]),
    ("0/1, mapped from 1", times(1), TWO, {1: 0, 2: 1}, r"does not name 0", [(0, 1)]),
    ("1/2, mapped as 0/255", times(1, 1), TWO, {0: 0, 255: 1}, r"ignored because label_mapping does not name 1: \d+ px, 2", [(0, 1)]),
    ("two of four", looked_up(0, 1, 8, 9), tuple("abcd"), {0: 0, 1: 1, 2: 2, 3: 3}, r"shows c, d", [(0, 1, 2, 3), (0, 1, 255, 255)]),
    ("half 0/1, half 0/255", half(same, times(255)), TWO, None, r"3 of 6 masks \(train 0, train 2, val 4\) store 255", [(0, 1), None]),
    ("half 1 bit, half 0/255", half(one_bit, times(255)), TWO, {0: 0, 255: 1}, r"two encodings", [(0, 1), None]),
    ("half 0/1, half 0/128", half(same, times(128)), TWO, None, r"two encodings", [(0, 1), None]),
    ("half 0/1, half 0/255, one name", half(same, times(255)), ["crack"], None, r"two encodings", [(0, 1), None]),
    ("splits differ", lambda m, split, _: m if split == "train" else m * 255, TWO, None, r"val 4, val 5.*two encodings", [(0, 1), None]),
    ("three, half spread", half(same, times(100)), THREE, None, r"two encodings", [(0, 1, 2), None]),
    ("half from 0, half from 1", half(same, times(1, 1)), THREE, None, r"if only some masks \(train 0,", [(0, 1, 2), None, None]),
    ("all void but one class", looked_up(255, 1), TWO, None, r"all 4 masks show box and nothing else", [(0, 1), None]),
    ("blurred", blurred, TWO, None, r"0/255 masks whose edges were blurred", [(0, 1)]),
    ("blurred, one name", blurred, ["crack"], None, r"0/255 masks whose edges were blurred", [(0, 1)]),
    ("blurred, mapped", blurred, TWO, {0: 0, 255: 1}, r"0/255 masks whose edges were blurred", [(0, 1)]),
    ("blurred 0/128", lambda m, *_: blurred(m, high=128), TWO, None, r"0/128 masks whose edges were blurred", [(0, 1)]),
    ("palettes, other order", third(painted(BLACK, RED), turned), TWO, None, r"2 of 6 masks \(train 0, train 3\) have an", [(0, 1), None]),
    ("palettes, other colours", third(painted(BLACK, RED), painted(BLACK, BLUE)), TWO, None, r"have another palette", [None, (0, 1)]),
    ("all black", times(0), TWO, None, r"no mask shows box, all 4 masks show ground", [None]),
    ("all black, one name", times(0), ["crack"], None, r"names has one class", [None]),
    ("all ignored", times(0, 255), TWO, None, r"every pixel of all 4 masks is ignored", [None]),
]  # fmt: skip


def three_drawn(name: str, outcomes: Sequence[tuple[int, ...] | None]) -> Callable[[int], np.ndarray]:
    classes = max(len(outcome) for outcome in outcomes if outcome) if any(outcomes) else 2
    return box if classes == 2 else lambda number: strips(number, classes)


@pytest.mark.parametrize(("what", "make", "names", "mapping", "message", "outcomes"), FOUND, ids=[row[0] for row in FOUND])
def test_what_is_wrong_is_named_and_its_remedies_work(tmp_path: Path, what, make, names, mapping, message, outcomes) -> None:
    drawn = three_drawn(what, outcomes)
    for number, outcome in enumerate(outcomes):
        root = tmp_path / str(number)
        write(root, make, drawn)
        describe(root, names, mapping)
        said = refused(root)
        assert re.search(message, said), said
        told = remedies(said)
        assert len(told) == len(outcomes), told
        if outcome is not None:
            follow(root, told[number])
            check(root)  # nothing is refused any more
            expected = [np.array(outcome, np.uint8)[drawn(n)] for _, n in samples()]
            if "blurred" in what:  # the edge is where the blur is half way
                expected = [(blurred(box(n)) >= 128).astype(np.uint8) for _, n in samples()]
            assert labels(root) == [mask.tolist() for mask in expected], told[number]


def grey_ramp(mask: np.ndarray) -> Image.Image:
    return painted(*((value, value, value) for value in range(256)))(mask)


NO_FAULT: list[tuple[str, Maker, Sequence[str], Mapping[int, int] | None]] = [
    ("plain", times(1), TWO, None),
    ("mapped", times(255), TWO, {0: 0, 255: 1}),
    ("void beside objects", lambda m, _, n: np.where(np.roll(m, 3) > m, 255, m).astype(np.uint8), TWO, None),
    ("ignored on purpose", half(same, times(255)), TWO, {0: 0, 1: 1, 255: 255}),
    ("between, ignored on purpose", looked_up(0, 128, 255), TWO, {0: 0, 128: 255, 255: 1}),
    ("palettes that differ where nothing is", third(painted(BLACK, RED, RED), painted(BLACK, RED, BLUE)), TWO, None),
    ("a grey ramp beside a palette", third(painted(BLACK, RED), grey_ramp), TWO, None),
    ("no palette beside a palette", third(painted(BLACK, RED), same), TWO, None),
]


@pytest.mark.parametrize(("what", "make", "names", "mapping"), NO_FAULT, ids=[row[0] for row in NO_FAULT])
def test_what_is_no_fault_is_passed_without_a_word(tmp_path: Path, what, make, names, mapping) -> None:
    write(tmp_path, make, strips if mapping == {0: 0, 128: 255, 255: 1} else box)
    describe(tmp_path, names, mapping)
    assert check(tmp_path).findings == ()


NOTED: list[tuple[str, Maker, Sequence[str], Mapping[int, int] | None, str]] = [
    ("a class of three", times(1), THREE, None, r"^\[balance.class-not-shown\] \S+ \(train\): no mask shows bar \(1 of 3"),
    ("a class of val", lambda m, s, n: m % 2 if s == "val" else m, THREE, None, r"\(val\): no mask shows bar: .*not measured"),
    ("all of val", lambda m, s, n: m * (s == "train"), TWO, None, r"\(val\): all 2 masks show ground and nothing else: the mean"),
    ("values not named", looked_up(0, 1, 7), TWO, {0: 0, 1: 1}, r"does not name 7 \(\d+ px in 6 masks\), stored in 6 of 6 masks: such"),
    ("one of three", looked_up(0, 1, 9), THREE, {0: 0, 1: 1, 2: 2}, r"not name 9 .* ignored, and no mask shows bar$"),
    ("a mask all ignored", lambda m, s, n: np.full_like(m, 255) if n == 1 else m, TWO, None, r"1 of 4 masks hold ignored pixels al"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "make", "names", "mapping", "message"), NOTED, ids=[row[0] for row in NOTED])
def test_what_may_be_meant_is_said(tmp_path: Path, what, make, names, mapping, message) -> None:
    write(tmp_path, make, strips if what in ("a class of val", "values not named", "one of three") else box)
    describe(tmp_path, names, mapping)
    findings = check(tmp_path).findings
    assert not any(finding.fatal for finding in findings)
    assert [finding for finding in findings if re.search(message, str(finding))], findings


def test_a_finding_is_a_value_before_it_is_prose(tmp_path: Path) -> None:
    write(tmp_path, half(same, times(255)))
    describe(tmp_path, TWO)
    train = inspect_dataset(open_dataset(tmp_path, "train"))
    (finding,) = train.findings
    assert (finding.id, finding.severity, finding.keys, sorted(finding.values)) == ("values.mixed-encodings", "error", ("0", "2"), [1, 255])
    assert [remedy.mapping for remedy in finding.remedies] == [{0: 0, 1: 1, 255: 1}, {0: 0, 1: 1, 255: 255}]
    assert [file.name for file in finding.files] == ["0.png", "2.png"]
    assert finding.text() == str(finding)
    assert sum(finding.values.values()) == train.class_pixels[1] + train.ignored_pixels


@pytest.mark.parametrize("count", [101, 254])
def test_a_mapping_too_long_to_print_is_printed_by_a_command(tmp_path: Path, count: int) -> None:
    def every(mask: np.ndarray, *_: object) -> np.ndarray:
        return np.resize(np.arange(1, count + 1, dtype=np.uint8), SIZE)

    write(tmp_path, every)
    describe(tmp_path, [f"class{label}" for label in range(count)])
    (command,) = re.findall(r'python -c (".*")\)', refused(tmp_path))
    printed = subprocess.run(f"{sys.executable} -c {command}", shell=True, check=True, capture_output=True, text=True).stdout
    describe(tmp_path, [f"class{label}" for label in range(count)], yaml.safe_load(printed))
    assert check(tmp_path).class_pixels.all()


PLAIN: list[tuple[str, Maker, str, tuple[int, ...]]] = [
    ("0/255", times(255), r"names: \[background, object\], label_mapping: \{0: 0, 255: 1\}", (0, 1)),
    ("0/128", times(128), r"spread out", (0, 1)),
    ("far", looked_up(0, 40, 90), r"names: \[class0, class40, class90\]", (0, 1, 2)),
    ("mixed", half(same, times(255)), r"two encodings", (0, 1)),
    ("spread to 255", looked_up(0, 128, 255), r"spread out", (0, 1, 2)),
]


@pytest.mark.parametrize("divided", [True, False])
@pytest.mark.parametrize(("what", "make", "message", "outcome"), PLAIN, ids=[row[0] for row in PLAIN])
def test_plain_folders_are_told_what_to_write(tmp_path: Path, what, make, message, outcome, divided) -> None:
    drawn = three_drawn(what, [outcome])
    write(tmp_path, make, drawn)
    if not divided:
        for path in [*tmp_path.rglob("*.png")]:
            path.rename(path.parent.parent / path.name)
        for part in ("images", "masks"):
            for split in ("train", "val"):
                (tmp_path / part / split).rmdir()
    said = refused(tmp_path)
    assert re.search(message, said), said
    follow(tmp_path, remedies(said)[0])
    check(tmp_path)
    for split in ("train", "val"):
        dataset = open_dataset(tmp_path, split)
        for sample in (dataset[i] for i in range(len(dataset))):
            assert sample.label.tolist() == np.array(outcome, np.uint8)[drawn(int(sample.key))].tolist()  # type: ignore[union-attr]


def test_blurred_masks_of_a_plain_folder_are_thresholded(tmp_path: Path) -> None:
    write(tmp_path, blurred)
    said = refused(tmp_path)
    assert "whose edges were blurred" in said
    (command,) = re.findall(r'python -c (".*")$', said)
    subprocess.run(f"{sys.executable} -c {command}", shell=True, check=True)
    assert check(tmp_path).class_pixels.all()


def test_no_command_is_given_where_it_would_do_harm(tmp_path: Path) -> None:
    write(tmp_path, half(same, blurred))  # thresholded at 128, the masks of 0 and 1 would be empty
    describe(tmp_path, TWO)
    said = refused(tmp_path)
    assert "whose edges were blurred" in said
    assert "python" not in said


def test_masks_without_a_place_for_settings_are_rewritten(tmp_path: Path) -> None:
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / part).mkdir(parents=True)
    for split, numbers in (("train", range(4)), ("val", range(4, 6))):
        (tmp_path / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("".join(f"{n}\n" for n in numbers))
        for number in numbers:
            Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "JPEGImages" / f"{number}.jpg")
            Image.fromarray(box(number) * 255).save(tmp_path / "SegmentationClass" / f"{number}.png")
    said = refused(tmp_path)
    (command,) = re.findall(r'python -c (".*")$', said)
    subprocess.run(f"{sys.executable} -c {command}", shell=True, check=True)
    assert check(tmp_path).class_pixels[1] == sum(box(number).sum() for number in range(4))


def test_colour_masks_and_jpegs_are_mended_as_told(tmp_path: Path) -> None:
    colours = np.array([BLACK, RED], np.uint8)
    write(tmp_path, lambda mask, *_: colours[mask])
    describe(tmp_path, TWO)
    assert "convert each colour to its class's index and save 8-bit PNGs" in refused(tmp_path)
    write(tmp_path, lambda mask, *_: mask)
    assert check(tmp_path).findings == ()
    write(tmp_path, lambda mask, *_: mask * 255, suffix=".jpg")
    for path in tmp_path.glob("masks/*/*.png"):
        path.unlink()
    assert "export the masks as PNG" in refused(tmp_path)


ENCODINGS: dict[str, Callable[[np.ndarray], object]] = {
    "0/1": same, "0/255": times(255), "0/128": times(128), "1 bit": one_bit,
    "1/2": times(1, 1),
}  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chosen=st.lists(st.sampled_from(["0/1", "0/255", "0/128", "1 bit"]), min_size=1, max_size=2).flatmap(
        lambda kinds: st.lists(st.sampled_from(kinds), min_size=TRAIN + VAL, max_size=TRAIN + VAL)
    )
    | st.just(["1/2"] * (TRAIN + VAL)),
    names=st.sampled_from([TWO, ("crack",)]),
    mapping=st.sampled_from([None, {0: 0, 255: 1}, {0: 0, 1: 1}]),
)
def test_any_encoding_of_two_classes_is_read_alike_once_the_first_remedies_are_followed(tmp_path_factory, chosen, names, mapping) -> None:
    root = tmp_path_factory.mktemp("encoded")
    write(root, lambda mask, _, number: ENCODINGS[chosen[number]](mask))  # type: ignore[return-value]
    describe(root, names, None if len(names) == 1 else mapping)
    for _ in range(3):
        try:
            check(root)
            break
        except DataError as error:
            follow(root, remedies(str(error))[0])
    assert check(root).fatal_finding is None
    assert labels(root) == [box(number).tolist() for _, number in samples()]
