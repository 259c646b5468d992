"""Cutting boxes out and putting scores back, compiled and not, against weights written out in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from upscore.errors import DataError
from upscore.ops import box_crop
from upscore.ops.box_crop import Canvas, crop_boxes

native = pytest.importorskip("upscore._native")


def matrix(size, to):
    """The weights of every output pixel: a triangle as wide as the pixel that it makes, normalised."""
    scale = size / to
    support = max(scale, 1.0)
    centres = (np.arange(to) + 0.5) * scale
    distances = np.abs((np.arange(size) + 0.5)[None] - centres[:, None]) / support
    weights = np.maximum(0, 1 - distances)
    return weights / weights.sum(1, keepdims=True)


def resize(planes, size):
    return np.einsum("ys,cst,xt->cyx", matrix(planes.shape[1], size[0]), planes.astype(np.float64), matrix(planes.shape[2], size[1]))


def cut(image, box, side):
    left, top, right, bottom = box
    shown = np.zeros((len(image), bottom - top, right - left))
    height, width = image.shape[1:]
    rows, columns = slice(max(0, top), min(height, bottom)), slice(max(0, left), min(width, right))
    shown[:, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = image[:, rows, columns]
    return resize(shown, (side, side))


def join(maps, placed, height, width, aggregate, clip):
    total = np.full((len(maps[0]), height, width), -np.inf if aggregate == "max" else 0.0)
    count = np.zeros((height, width))
    for scores, (left, top, right, bottom) in zip(maps, placed, strict=True):
        part = resize(scores, (bottom - top, right - left))
        part = np.maximum(part, 0) if clip else part
        rows, columns = slice(max(0, top), min(height, bottom)), slice(max(0, left), min(width, right))
        part = part[:, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        total[:, rows, columns] = np.maximum(total[:, rows, columns], part) if aggregate == "max" else total[:, rows, columns] + part
        count[rows, columns] += 1
    return np.where(count > 0, total if aggregate == "max" else total / np.maximum(count, 1), 0)


@pytest.fixture(params=["compiled", "portable", "plain"])
def way(request, monkeypatch):
    """Each of the ways to the same numbers."""
    if request.param == "plain":
        monkeypatch.setattr(box_crop, "compiled_for", lambda x, *dtypes: None)
    if request.param == "portable":

        class Portable:
            crop = staticmethod(lambda *values, **named: native.crop(*values, **named, instructions="portable"))
            paste = staticmethod(lambda *values, **named: native.paste(*values, **named, instructions="portable"))

        monkeypatch.setattr(box_crop, "compiled_for", lambda x, *dtypes: Portable)
    return request.param


@st.composite
def scenes(draw):
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    placed = []
    for _ in range(draw(st.integers(1, 4))):
        left, top = draw(st.integers(-20, width - 1)), draw(st.integers(-20, height - 1))
        placed.append((left, top, draw(st.integers(max(left, 0) + 1, width + 25)), draw(st.integers(max(top, 0) + 1, height + 25))))
    return height, width, placed, draw(st.integers(1, 30)), draw(st.integers(0, 99))


def check(way, scene, channels, aggregate, clip, threads):
    height, width, placed, side, seed = scene
    rng = np.random.default_rng(seed)
    image = rng.standard_normal((3, height, width)).astype(np.float32)
    maps = rng.standard_normal((len(placed), channels, side, int(rng.integers(1, 30)))).astype(np.float32)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        cuts = crop_boxes(torch.from_numpy(image), placed, side)
        canvas = Canvas(channels, height, width, aggregate=aggregate, clip=clip, device=torch.device("cpu"))
        canvas.add(torch.from_numpy(maps[:1]), placed[:1])
        if len(placed) > 1:
            canvas.add(torch.from_numpy(maps[1:]), placed[1:])
    finally:
        torch.set_num_threads(before)
    tolerance = 2e-6 if way != "plain" else 1e-4  # torch computes places in an image in float32
    for found, box in zip(cuts.numpy(), placed, strict=True):
        np.testing.assert_allclose(found, cut(image, box, side), atol=tolerance)
    np.testing.assert_allclose(canvas.scores().numpy(), join(maps, placed, height, width, aggregate, clip), atol=tolerance)


@pytest.mark.parametrize("channels", [1, 3, 8, 21])
@pytest.mark.parametrize(("aggregate", "clip"), [("max", False), ("max", True), ("mean", False)])
def test_boxes_are_cut_and_put_back_as_written_out(way, channels, aggregate, clip):
    @settings(max_examples=12, deadline=None)
    @given(scenes(), st.integers(1, 2))
    def law(scene, threads):
        check(way, scene, channels, aggregate, clip, threads)

    law()


def test_boxes_far_larger_than_the_image_are_never_laid_out_whole(monkeypatch):
    """Boxes enlarged tenfold would take a hundred times the image's memory, on devices where nothing is compiled."""
    monkeypatch.setattr(box_crop, "compiled_for", lambda x, *dtypes: None)
    seen = []
    resize = box_crop.resize
    monkeypatch.setattr(box_crop, "resize", lambda planes, size: seen.append(size) or resize(planes, size))
    image, box = np.random.default_rng(0).standard_normal((3, 30, 40)), (-180, -140, 220, 170)
    (cuts,) = crop_boxes(torch.from_numpy(image), [box], 24).numpy()
    np.testing.assert_allclose(cuts, cut(image, box, 24), atol=1e-12)
    maps = np.random.default_rng(1).standard_normal((1, 2, 24, 25))
    canvas = Canvas(2, 30, 40, aggregate="max", clip=False, device=torch.device("cpu"))
    canvas.add(torch.from_numpy(maps), [box])
    np.testing.assert_allclose(canvas.scores().numpy(), join(maps, [box], 30, 40, "max", False), atol=1e-6)
    assert seen == []


def test_what_is_no_number_is_not_hidden_by_another_box(way):
    canvas = Canvas(9, 6, 6, aggregate="max", clip=False, device=torch.device("cpu"))
    bad = torch.zeros(9, 6, 6)
    bad[4, 2, 3] = torch.nan
    canvas.add(torch.stack([torch.ones(9, 6, 6), bad, torch.full((9, 6, 6), 2.0)]), [(0, 0, 6, 6)] * 3)
    assert canvas.scores()[4, 2, 3].isnan()
    assert canvas.scores().isnan().sum() == 1


def test_a_canvas_is_zero_where_no_box_lies(way):
    for aggregate in ("max", "mean"):
        canvas = Canvas(2, 4, 5, aggregate=aggregate, clip=False, device=torch.device("cpu"))
        canvas.add(torch.full((1, 2, 3, 3), -7.0), [(1, 1, 3, 3)])
        expected = torch.zeros(2, 4, 5)
        expected[:, 1:3, 1:3] = -7
        torch.testing.assert_close(canvas.scores(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"boxes": [(3, 0, 3, 2)]}, "not empty"),
        ({"boxes": [(0, 4, 2, 8)]}, "intersect the image"),
        ({"boxes": [(0, 0, 2)]}, "left, top, right, bottom"),
        ({"boxes": [(0, 0, 2**31, 2)]}, "not empty"),
        ({"boxes": []}, "a box for each"),
        ({"boxes": [(0, 0, 2, 2)] * 2}, "a box for each"),
        ({"out": torch.zeros(1, 5, 5, 4)}, "as many channels"),
        ({"out": torch.zeros(1, 5, 3, 5).mT}, "contiguous output"),
        ({"image": torch.zeros(4, 4)}, "contiguous image"),
        ({"threads": 0}, "1 to 256 threads"),
    ],
)
def test_the_compiled_part_checks_what_it_is_given(values, said):
    given = {"image": torch.zeros(4, 4, 3), "boxes": [(0, 0, 2, 2)], "out": torch.zeros(1, 5, 5, 3), "threads": 1} | values
    with pytest.raises(ValueError, match=said):
        native.crop(**given)
    if "out" not in values and "image" not in values:
        del given["out"], given["image"]
        with pytest.raises(ValueError, match=said.replace("image", "canvas")):
            native.paste(scores=torch.zeros(1, 5, 5, 3), canvas=torch.zeros(4, 4, 3), reduce="max", clip=False, **given)


def test_joining_is_by_maximum_or_sum():
    with pytest.raises(ValueError, match="reduce 'max' or 'sum'"):
        native.paste(torch.zeros(1, 2, 2, 1), [(0, 0, 2, 2)], torch.zeros(2, 2, 1), "mean", False, 1)


IMAGE, CORNER = torch.rand(3, 20, 30), (-2, -2, 5, 5)


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ((3, 3, 3, 9), "not empty and overlaps"),
        ((9, 3, 3, 9), "not empty and overlaps"),
        ((30, 0, 40, 9), "not empty and overlaps"),
        ((-9, -9, 0, 0), "not empty and overlaps"),
        ((0, 0, 2**31, 5), "at most 1048576 pixels a side"),
        ((-(2**62), 0, 5, 5), "at most 1048576 pixels a side"),
        ((0, 0, 2**20, 2**20), "268435456 in all"),
        ((0.0, 0, 5, 5), "whole numbers"),
        ((0, 0, float("nan"), 5), "whole numbers"),
        ((0, 0, 5), "whole numbers"),
    ],
)
def test_boxes_that_are_none_are_one_line(way, box, said):
    with pytest.raises(DataError, match=said):
        crop_boxes(IMAGE, [CORNER, box], 4)
    canvas = Canvas(3, 20, 30, aggregate="max", clip=False, device=torch.device("cpu"))
    with pytest.raises(DataError, match=said):
        canvas.add(torch.ones(2, 3, 4, 4), [CORNER, box])
    assert not canvas.scores().any()


def test_boxes_and_scores_that_do_not_belong_together_are_one_line(way):
    canvas = Canvas(3, 20, 30, aggregate="max", clip=False, device=torch.device("cpu"))
    for scores, placed in (
        (torch.ones(1, 3, 4, 4), [CORNER, CORNER]),
        (torch.ones(1, 2, 4, 4), [CORNER]),
        (torch.ones(1, 3, 4), [CORNER]),
        (torch.ones(1, 3, 0, 4), [CORNER]),
        (torch.ones(1, 3, 4, 4, dtype=torch.int64), [CORNER]),
    ):
        with pytest.raises(DataError, match="found"):
            canvas.add(scores, placed)
    for image, side in ((IMAGE.byte(), 4), (IMAGE[0], 4), (IMAGE[:, :0], 4), (IMAGE, 0), (IMAGE, 2**40), (IMAGE, 2.5)):
        with pytest.raises(DataError, match="found"):
            crop_boxes(image, [CORNER], side)


def test_more_boxes_than_are_resized_at_a_time_are_each_right(way):
    rng = np.random.default_rng(3)
    left, top = rng.integers(-3, 29, 600), rng.integers(-3, 19, 600)
    placed = [(int(x), int(y), int(x) + 5, int(y) + 4) for x, y in zip(left, top, strict=True)]
    found = crop_boxes(IMAGE, placed, 2)
    for one, box in zip(found, placed, strict=True):
        np.testing.assert_allclose(one, cut(IMAGE.numpy(), box, 2), atol=1e-6)
    maps = torch.rand(600, 2, 3, 3)
    for aggregate in ("max", "mean"):
        canvas = Canvas(2, 20, 30, aggregate=aggregate, clip=False, device=torch.device("cpu"))
        canvas.add(maps, placed)
        np.testing.assert_allclose(canvas.scores(), join(maps.numpy(), placed, 20, 30, aggregate, False), atol=1e-5)
