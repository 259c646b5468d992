"""Laws of an image labelled box by box."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from upscore.errors import RecipeError
from upscore.inference.proposal_aggregation import ProposalSegmenter, boxes_for, over_boxes, scores_over_boxes
from upscore.inference.segmenter import NetworkSegmenter
from upscore.models.factory import create_model
from upscore.ops.box_crop import resize
from upscore.proposals import Boxes, EdgeBoxes, SlidingWindows, enlarge_boxes, whole_image
from upscore.settings import ProposalSettings

SIDE = 32


def network(seed=0):
    torch.manual_seed(seed)
    model = create_model("full-resolution", num_classes=4, depth=2, width=5).eval().double()
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter)
    return model


def scoring(model):
    return NetworkSegmenter(model).scores


def chosen(**values):
    return ProposalSettings(crop_side=SIDE, **values)


def make_image(seed, size=(40, 56)):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (3, *size)).astype(np.float64) / 255)


@st.composite
def boxes_meeting(draw, height=40, width=56, most=8):
    count = draw(st.integers(1, most))
    corners = []
    for _ in range(count):
        left, top = draw(st.integers(-9, width - 1)), draw(st.integers(-9, height - 1))
        corners.append([left, top, draw(st.integers(max(left, 0) + 1, width + 9)), draw(st.integers(max(top, 0) + 1, height + 9))])
    return Boxes(corners)


class Fake:
    """Scores that depend on each crop alone, of any sign."""

    def __call__(self, images):
        return torch.stack([images.mean(1) - 0.4, images[:, 0] - images[:, 1], 0.3 - images[:, 2]], 1).float() * 5


@pytest.mark.parametrize("aggregate", ["max", "mean"])
def test_one_box_that_is_the_image_is_the_plain_network(aggregate):
    model, image = network(), make_image(0, (SIDE, SIDE))
    plain = NetworkSegmenter(model)(image[None])[0]
    boxed = over_boxes(scoring(model), image, whole_image(SIDE, SIDE), chosen(aggregate=aggregate))
    torch.testing.assert_close(boxed, plain, rtol=0, atol=1e-6)
    segmenter = ProposalSegmenter(
        NetworkSegmenter(model), lambda image: whole_image(*image.shape[:2]), chosen(enlarge=1.0, aggregate=aggregate)
    )
    torch.testing.assert_close(segmenter(image[None])[0], plain, rtol=0, atol=1e-6)


def canvases(image, boxes):
    """Each box's scores at its place, and where it lies, one by one in float64."""
    height, width = image.shape[-2:]
    planes, places = [], []
    for left, top, right, bottom in boxes.corners.tolist():
        padded = torch.zeros(3, bottom - top, right - left, dtype=image.dtype)
        y0, y1, x0, x1 = max(0, top), min(height, bottom), max(0, left), min(width, right)
        padded[:, y0 - top : y1 - top, x0 - left : x1 - left] = image[:, y0:y1, x0:x1]
        scores = resize(Fake()(resize(padded, (SIDE, SIDE))[None])[0].double(), (bottom - top, right - left))
        plane, place = torch.zeros(3, height, width, dtype=torch.float64), torch.zeros(height, width, dtype=bool)
        plane[:, y0:y1, x0:x1] = scores[:, y0 - top : y1 - top, x0 - left : x1 - left]
        place[y0:y1, x0:x1] = True
        planes.append(plane)
        places.append(place)
    return torch.stack(planes), torch.stack(places)


@given(boxes_meeting(), st.sampled_from(["max", "mean"]), st.booleans(), st.integers(1, 5))
@settings(max_examples=60)
def test_maps_are_put_together_as_the_paper_says(boxes, aggregate, clip, batch):
    image = make_image(1)
    planes, places = canvases(image, boxes)
    if clip:
        planes = planes.clamp_min(0)
    if aggregate == "mean":
        expected = planes.sum(0) / places.sum(0).clamp_min(1)
    else:
        expected = planes.masked_fill(~places[:, None], -torch.inf).amax(0).masked_fill(~places.any(0), 0)
    found = over_boxes(Fake(), image, boxes, chosen(aggregate=aggregate, clip=clip, batch_size=batch))
    torch.testing.assert_close(found, expected.softmax(0).float(), rtol=0, atol=1e-5)


@given(boxes_meeting(), st.randoms(), st.sampled_from(["max", "mean"]))
@settings(max_examples=30)
def test_order_and_batches_do_not_matter(boxes, random, aggregate):
    image, order = make_image(2), list(range(len(boxes)))
    random.shuffle(order)
    one = over_boxes(Fake(), image, boxes, chosen(aggregate=aggregate, batch_size=3))
    other = over_boxes(Fake(), image, boxes[np.array(order)], chosen(aggregate=aggregate, batch_size=1))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@given(boxes_meeting(most=6))
@settings(max_examples=30)
def test_the_maximum_over_some_is_at_most_that_over_all(boxes):
    """Where some of the boxes cover, no class's score can fall when more come."""
    kept = []

    class Recording(Fake):
        def __call__(self, images):
            maps = super().__call__(images)
            kept.append(maps)
            return maps

    image, some = make_image(3), boxes[: max(1, len(boxes) // 2)]
    planes, places = canvases(image, boxes)
    part = planes[: len(some)].masked_fill(~places[: len(some), None], -torch.inf).amax(0)
    whole = planes.masked_fill(~places[:, None], -torch.inf).amax(0)
    assert (part <= whole).all()
    covered = places[: len(some)].any(0)
    found = over_boxes(Recording(), image, some, chosen())
    torch.testing.assert_close(found[:, covered], part.softmax(0)[:, covered].float(), rtol=0, atol=1e-5)
    assert sum(map(len, kept)) == len(some)


@given(boxes_meeting(most=6), st.sampled_from(["max", "mean"]))
@settings(max_examples=30)
def test_the_canvas_on_the_way_is_that_of_the_first_boxes(boxes, aggregate):
    image, everywhere = make_image(3), range(1, len(boxes) + 1)
    grown = list(scores_over_boxes(Fake(), image, boxes, chosen(aggregate=aggregate, batch_size=4), at=everywhere))
    assert [count for count, _ in grown] == list(everywhere)
    for count, canvas in grown:
        ((_, expected),) = scores_over_boxes(Fake(), image, boxes[:count], chosen(aggregate=aggregate, batch_size=4))
        torch.testing.assert_close(canvas, expected, rtol=0, atol=1e-6)
    if aggregate == "max":
        _, places = canvases(image, boxes)
        for (count, earlier), (_, later) in itertools.pairwise(grown):
            covered = places[:count].any(0)
            assert (earlier[:, covered] <= later[:, covered]).all()


@pytest.mark.parametrize("clip", [False, True])
def test_where_no_box_lies_every_class_is_equal_and_the_first_is_taken(clip):
    found = over_boxes(Fake(), make_image(4), Boxes([[10, 10, 30, 30]]), chosen(clip=clip))
    assert (found[:, :10] == 1 / 3).all()
    assert (found[:, :10].argmax(0) == 0).all()
    torch.testing.assert_close(found.sum(0), torch.ones(40, 56))


def test_a_image_without_proposals_is_labelled_whole():
    model, flat = network(), torch.full((1, 3, 40, 56), 0.5, dtype=torch.float64)
    segmenter = ProposalSegmenter(NetworkSegmenter(model), EdgeBoxes(), chosen())
    alone = over_boxes(scoring(model), flat[0], whole_image(40, 56), chosen())
    torch.testing.assert_close(segmenter(flat)[0], alone, rtol=0, atol=0)


def test_the_best_of_enough_size_are_used_and_enlarged():
    seen = []

    class Counting(Fake):
        def scores(self, images):
            seen.append(len(images))
            return self(images)

    boxes = Boxes([[0, 0, 5, 20], [3, 3, 30, 30], [5, 5, 40, 35], [1, 1, 20, 20]], [4, 1, 3, 2])
    image = make_image(5)
    found = ProposalSegmenter(Counting(), lambda image: boxes, chosen(max_proposals=2, min_size=10, enlarge=1.2))(image[None])[0]
    assert seen == [2]
    expected = over_boxes(Fake(), image, enlarge_boxes(boxes[np.array([2, 3])], 1.2), chosen())
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert boxes_for(image, lambda image: boxes, chosen(max_proposals=9, min_size=10))[0].objectness.tolist() == [3, 2, 1]


def test_images_of_a_batch_do_not_meet():
    segmenter = ProposalSegmenter(NetworkSegmenter(network()), SlidingWindows(9), chosen(batch_size=4))
    images = torch.stack([make_image(6), make_image(7)])
    together = segmenter(images)
    assert together.dtype == torch.float32
    for image, probs in zip(images, together, strict=True):
        torch.testing.assert_close(segmenter(image[None])[0], probs, rtol=0, atol=0)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_proposals": 0},
        {"crop_side": 0},
        {"batch_size": 2.5},
        {"min_size": -1},
        {"aggregate": "median"},
        {"alpha": 1.0},
        {"beta": 0.0},
        {"min_area": 0.0},
        {"candidates": 0},
        {"enlarge": float("nan")},
        {"enlarge": 0.5},
        {"crop_side": 2048, "batch_size": 2},
    ],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings)) if len(settings) == 1 else "a batch_size of at most 1"):
        ProposalSettings(**settings)


@pytest.mark.parametrize("boxes", [Boxes([]), Boxes([[60, 0, 70, 9]]), Boxes([[0, 0, 9, 9], [-9, -9, 0, 0]])])
def test_boxes_outside_the_image_are_refused(boxes):
    with pytest.raises(RecipeError, match="none outside"):
        over_boxes(Fake(), make_image(8), boxes, chosen())
