"""Run lengths, beside pycocotools and encoders written plainly here."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest

from upscore.data.annotations.run_lengths import (
    coco_area,
    decode_coco_runs,
    decode_cvat_runs,
    decode_label_studio_runs,
    encode_cvat_runs,
    encode_label_studio_runs,
    parse_coco_text,
)

RNG = np.random.default_rng(0)
MASKS = [
    RNG.random((height, width)) < chance for height, width in ((1, 1), (7, 5), (40, 64), (1, 90), (200, 3)) for chance in (0, 0.02, 0.5, 1)
]


def runs_of(values: np.ndarray) -> list[int]:
    """Return the lengths of runs, the first of which is of zeros."""
    runs = [len(list(group)) for _, group in groupby(values.tolist())]
    return runs if not values[0] else [0, *runs]


def coco_text(runs: list[int]) -> str:
    """Write run lengths as COCO does, bit by bit."""
    text = ""
    for index, run in enumerate(runs):
        number = run - runs[index - 2] if index > 2 else run
        more = True
        while more:
            five = number & 31
            number >>= 5
            more = number != -1 if five & 16 else number != 0
            text += chr((five | 32 if more else five) + 48)
    return text


@pytest.mark.parametrize("mask", MASKS, ids=lambda mask: f"{mask.shape}-{mask.mean():.2f}")
def test_coco_both_forms(mask: np.ndarray) -> None:
    runs = runs_of(mask.T.ravel())
    for counts in (runs, coco_text(runs)):
        np.testing.assert_array_equal(decode_coco_runs(counts, *mask.shape), mask)
        assert coco_area(counts) == mask.sum()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("mask", MASKS, ids=lambda mask: f"{mask.shape}-{mask.mean():.2f}")
def test_pycocotools_writes_what_is_read(mask: np.ndarray) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    text = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    assert text == coco_text(runs_of(mask.T.ravel()))
    np.testing.assert_array_equal(decode_coco_runs(text, *mask.shape), mask)


@pytest.mark.parametrize("mask", MASKS, ids=lambda mask: f"{mask.shape}-{mask.mean():.2f}")
def test_cvat_is_row_by_row(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_cvat_runs(", ".join(map(str, runs_of(mask.ravel()))), *mask.shape), mask)


def label_studio(values: np.ndarray, sizes: tuple[int, ...]) -> list[int]:
    """Pack bytes as a stream of bits, repeated ones as a run and others by themselves."""
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    position = 0
    while position < len(values):
        value = values[position]
        count = 1
        while position + count < len(values) and values[position + count] == value:
            count += 1
        index = next(index for index in (0, 1, 2, 3) if count <= 2 ** sizes[index] or index == 3)
        if count > 1:
            count = min(count, 2 ** sizes[index])
            bits += f"1{index:02b}{count - 1:0{sizes[index]}b}{value:08b}"
        else:
            count = min(2 ** sizes[1], 3, len(values) - position)
            bits += f"0{1:02b}{count - 1:0{sizes[1]}b}" + "".join(f"{value:08b}" for value in values[position : position + count])
        position += count
    bits += "0" * (-len(bits) % 8)
    return [int(bits[start : start + 8], 2) for start in range(0, len(bits), 8)]


@pytest.mark.parametrize("sizes", [(3, 4, 8, 16), (1, 2, 3, 4), (16, 16, 16, 16)])
@pytest.mark.parametrize("mask", MASKS[4:12], ids=lambda mask: f"{mask.shape}-{mask.mean():.2f}")
def test_label_studio_is_the_fourth_of_four_channels(mask: np.ndarray, sizes: tuple[int, ...]) -> None:
    rgba = np.random.default_rng(1).integers(0, 256, (*mask.shape, 4), dtype=np.uint8)
    rgba[..., 3] = np.where(mask, 255, 0)
    rgba[: len(mask) // 2] = rgba[: len(mask) // 2, :1]  # long runs of four values, which are no runs
    expected = rgba[..., 3] > 0
    np.testing.assert_array_equal(decode_label_studio_runs(bytes(label_studio(rgba.ravel(), sizes)), *mask.shape), expected)
    flat = np.zeros_like(rgba)
    flat[..., 3] = expected
    np.testing.assert_array_equal(decode_label_studio_runs(bytes(label_studio(flat.ravel(), sizes)), *mask.shape), expected)


@pytest.mark.parametrize(
    ("counts", "match"),
    [
        ([5, 5], "add up to 10, expected the 12"),
        ([5, 8], "add up to 13"),
        ([-1, 13], "is -1"),
        ([13], "is 13, expected 0 to 12"),
        ([1.5, 10.5], "whole numbers"),
        ([[1], [2, 3]], "whole numbers"),
        ({"a": 1}, "whole numbers"),
        (["5", "7"], "whole numbers"),
        ([10**30], "whole numbers"),
        (None, "whole numbers"),
        ([], "add up to 0"),
        ("", "add up to 0"),
        ("=", "is 13"),
        ("\x1b", "not between"),
        ("é", "not between"),
        ("P", "end inside"),
        ("o" * 11 + "0", "more than ten characters"),
        ("0" * 20, "add up to"),
    ],
)
def test_coco_s_lengths_are_checked(counts: object, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        decode_coco_runs(counts, 3, 4)


@pytest.mark.parametrize(
    ("text", "match"),
    [("5, 5", "add up to"), ("5; 7", "commas"), ("", "commas"), ("-1, 13", "commas"), ("٣, 9", "commas"), ("9" * 5000, "commas")],
)
def test_cvat_s_lengths_are_checked(text: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        decode_cvat_runs(text, 3, 4)


def test_label_studio_s_lengths_are_checked() -> None:
    good = bytes(label_studio(np.zeros(48, np.uint8), (3, 4, 8, 16)))
    assert not decode_label_studio_runs(good, 3, 4).any()
    for data, match in ((good[:6], "end too early"), (b"", "end too early"), (good[:-1], "end too early")):
        with pytest.raises(ValueError, match=match):
            decode_label_studio_runs(data, 3, 4)
    with pytest.raises(ValueError, match="hold 48 values, expected 4 for each of the 4×4"):
        decode_label_studio_runs(good, 4, 4)
    bits = f"{48:032b}{7:05b}" + "1111" * 4 + f"100{48:016b}" + "0" * 48
    too_long = int(bits[: len(bits) // 8 * 8], 2).to_bytes(len(bits) // 8, "big")
    with pytest.raises(ValueError, match="add up to more than 48"):
        decode_label_studio_runs(too_long, 3, 4)
    with pytest.raises(ValueError, match="values of 1 bits, expected 8"):
        decode_label_studio_runs((48).to_bytes(4, "big") + b"\0" * 8, 3, 4)


def test_differences_are_between_every_second_run() -> None:
    rng = np.random.default_rng(4)
    for _ in range(100):
        runs = rng.integers(0, 10 ** rng.integers(1, 9), rng.integers(1, 12)).tolist()
        assert parse_coco_text(coco_text(runs)).tolist() == runs


@pytest.mark.parametrize("mask", [np.ones((200, 200), bool), np.zeros((200, 200), bool), np.arange(40_000).reshape(200, 200) > 17_000])
def test_long_runs_of_label_studio_are_divided(mask):
    packed = encode_label_studio_runs(mask)
    assert len(packed) < 40
    np.testing.assert_array_equal(decode_label_studio_runs(packed, 200, 200), mask)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_encoded_for_cvat_and_label_studio_is_decoded(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((int(rng.integers(1, 30)), int(rng.integers(1, 30)))) < rng.random()
    np.testing.assert_array_equal(decode_cvat_runs(encode_cvat_runs(mask), *mask.shape), mask)
    np.testing.assert_array_equal(decode_label_studio_runs(encode_label_studio_runs(mask), *mask.shape), mask)
