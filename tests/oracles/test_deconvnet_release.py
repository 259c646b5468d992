"""DeconvNet's release at inference: its loop over boxes, its product with FCN's scores and its CRF, written out plainly in NumPy.

Facts from generate_EDeconvNet_CRF_results.m of HyeonwooNoh/DeconvNet: the boxes are enlarged beforehand, those with a side below 112 pixels
are skipped and do not count, the loop stops after fifty, and the canvas begins with zeros, of which the maximum is taken.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from upscore.crf import Bilateral, Gaussian
from upscore.errors import RecipeError
from upscore.inference.ensembling import product
from upscore.inference.predictor import Predictor
from upscore.inference.proposal_aggregation import ProposalSegmenter
from upscore.inference.segmenter import NetworkSegmenter
from upscore.proposals import Boxes
from upscore.settings import PRESETS, InferenceSettings, ProposalSettings, with_preset
from upscore.types import LabelSpace

SIDE = 16
HEIGHT, WIDTH = 40, 52


class Scores(nn.Module):
    """Scores of both signs, of which each depends on its pixel alone."""

    def forward(self, images):
        red, green, blue = images.unbind(1)
        return torch.stack([3 * red - 1.5, 2 * green - 4 * blue + 0.5, blue - green], 1)


def triangle(source, target):
    """The matrix of a bilinear resize that is antialiased where it shrinks, as MATLAB's imresize: (target, source)."""
    matrix = np.zeros((target, source))
    width = max(source / target, 1.0)
    for row in range(target):
        centre = (row + 0.5) * source / target - 0.5
        weights = np.maximum(0, 1 - np.abs(np.arange(source) - centre) / width)
        matrix[row] = weights / weights.sum()
    return matrix


def resized(planes, height, width):
    return np.einsum("yi,kij,xj->kyx", triangle(planes.shape[1], height), planes, triangle(planes.shape[2], width))


def release(image, boxes, *, smallest, most, join):
    """The loop of the release over boxes that are enlarged already, best first; equation 2 in place of its maximum where ``join`` adds."""
    pad = 200
    padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)))
    canvas = np.zeros((3, HEIGHT + 2 * pad, WIDTH + 2 * pad))
    processed = 0
    for left, top, right, bottom in boxes:
        if min(right - left, bottom - top) < smallest:
            continue
        rows, columns = slice(top + pad, bottom + pad), slice(left + pad, right + pad)
        crop = resized(padded[:, rows, columns], SIDE, SIDE)
        with torch.no_grad():
            scores = Scores().double()(torch.from_numpy(crop)[None])[0].numpy()
        pasted = resized(scores, bottom - top, right - left)
        canvas[:, rows, columns] = join(canvas[:, rows, columns], pasted)
        processed += 1
        if processed >= most:
            break
    return canvas[:, pad : pad + HEIGHT, pad : pad + WIDTH]


@st.composite
def scenes(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(1, 14))
    top, left = rng.integers(0, HEIGHT - 4, count), rng.integers(0, WIDTH - 4, count)
    corners = np.stack([left, top, left + rng.integers(4, WIDTH, count), top + rng.integers(4, HEIGHT, count)], 1)
    corners = np.minimum(corners, (WIDTH, HEIGHT, WIDTH, HEIGHT))
    return rng.random((3, HEIGHT, WIDTH)).astype(np.float32), Boxes(corners, rng.permutation(count) / 16)


def padded_boxes(boxes):
    """Best first, sides times 1.2 about the centre, rounded to pixels: half a pixel outward."""
    found = []
    for left, top, right, bottom in boxes.corners[np.argsort(-boxes.objectness)].tolist():
        extra = 0.1 * np.array([right - left, bottom - top])
        (x0, y0), (x1, y1) = np.floor(np.array([left, top]) - extra + 0.5), np.ceil(np.array([right, bottom]) + extra - 0.5)
        found.append((int(x0), int(y0), int(x1), int(y1)))
    return found


@given(scenes(), st.sampled_from([1, 12, 18]), st.integers(1, 8), st.sampled_from(["max", "sum"]))
@settings(max_examples=60)
def test_the_canvas_is_that_of_the_loop(scene, smallest, most, aggregate):
    image, boxes = scene
    large = [box for box in padded_boxes(boxes) if min(box[2] - box[0], box[3] - box[1]) >= smallest]
    chosen = ProposalSettings(
        max_proposals=most, min_size=smallest, crop_side=SIDE, aggregate=aggregate, clip=aggregate == "max", batch_size=3
    )
    found = ProposalSegmenter(NetworkSegmenter(Scores()), lambda image: boxes, chosen).scores(torch.from_numpy(image)[None])[0]
    join = np.maximum if aggregate == "max" else np.add
    # Where every box is skipped the release's map is empty, and ours is of the image as one box.
    used = padded_boxes(boxes) if large else [(0, 0, WIDTH, HEIGHT)]
    expected = release(image, used, smallest=smallest if large else 1, most=most, join=join)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)


def test_a_box_that_is_large_enough_only_when_enlarged_is_used():
    seen = []

    class Counting(Scores):
        def forward(self, images):
            seen.append(len(images))
            return super().forward(images)

    boxes = Boxes([[0, 0, 94, 94], [0, 0, 93, 94], [0, 0, 92, 200], [5, 5, 100, 140]], [4, 3, 2, 1])  # ×1.2: 112, 111, 110 and 114
    Predictor(Counting(), labels=["a", "b", "c"], propose=lambda image: boxes, preset="edeconvnet-release", crf=False).predict(
        np.zeros((200, 240, 3), np.uint8)
    )
    assert sum(seen) == 2


def test_the_product_is_of_scores_that_are_not_below_zero():
    images = torch.rand(1, 3, 6, 7)
    one, other = (NetworkSegmenter(network) for network in (Scores(), nn.Conv2d(3, 3, 1)))
    scores, others = one.scores(images).clamp_min(0), other.scores(images).clamp_min(0)
    torch.testing.assert_close(product([one, other])(images), (scores * others).softmax(1))


def test_the_preset_is_the_release():
    found = InferenceSettings().with_overrides(**with_preset("edeconvnet-release", {}))
    assert found.combine == "product"
    boxes = found.proposals
    assert (boxes.min_size, boxes.max_proposals, boxes.enlarge, boxes.crop_side) == (112, 50, 1.2, 224)
    assert (boxes.clip, boxes.aggregate, boxes.candidates, boxes.alpha, boxes.beta, boxes.min_area) == (True, "max", 2000, 0.65, 0.75, 1000)
    dense = found.crf.build()
    assert found.uses_crf
    assert dense.iterations == 10
    assert dense.kernels == (Gaussian(3.0, 3.0, "none"), Bilateral(20.0, 3.0, 5.0, "none"))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_sets_what_it_names(name):
    found = InferenceSettings(flips=True, crf=None).with_overrides(**with_preset(name, {}))
    assert found.flips
    for setting, values in PRESETS[name].values.items():
        stored = getattr(found, setting)
        assert stored == values if isinstance(values, str) else {key: getattr(stored, key) for key in values} == values


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"proposals": 20}, {"max_proposals": 20, "min_size": 112, "combine": "product", "crf": 10}),
        ({"proposals": True, "crf": True}, {"max_proposals": 50, "crf": 10}),
        ({"proposals": {"min_size": 1}, "combine": "mean"}, {"max_proposals": 50, "min_size": 1, "combine": "mean"}),
        ({"crf": {"iterations": 3}, "tile": None}, {"crf": 3, "min_size": 112}),
        ({"proposals": False, "crf": False}, {"crf": 0}),
    ],
)
def test_what_stands_beside_a_preset_takes_precedence(overrides, expected):
    found = Predictor(Scores(), labels=LabelSpace(("a", "b", "c")), preset="edeconvnet-release", **overrides).settings
    actual = {"combine": found.combine, "crf": found.crf.iterations if found.uses_crf else 0}
    actual |= {} if found.proposals is None else {name: getattr(found.proposals, name) for name in ("max_proposals", "min_size")}
    assert {name: actual[name] for name in expected} == expected
    assert (found.proposals is None) == (overrides.get("proposals") is False)


def test_an_unknown_preset_is_one_line():
    with pytest.raises(RecipeError, match=r"no preset 'edeconvnet'.*expected one of edeconvnet-paper, edeconvnet-release"):
        with_preset("edeconvnet", {})
