"""Laws of augmentation: label and image cannot part, randomness has one source, nothing is invented."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from upscore.data.transforms import FILL, Augmentation, rng_for
from upscore.errors import RecipeError
from upscore.types import IGNORE, Sample

augmentations = st.builds(
    lambda low, ratio, crop, flip, vertical_flip, rotation, elastic: Augmentation(
        scale=(low, low * ratio), crop=crop, flip=flip, vertical_flip=vertical_flip, rotation=rotation, elastic=elastic
    ),
    st.floats(0.2, 2.5),
    st.floats(1, 3),
    st.none() | st.tuples(st.integers(1, 150), st.integers(1, 150)),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([0.0, 10.0, 180.0]),
    st.sampled_from([0.0, 0.0, 3.0]),
)
sizes = st.tuples(st.integers(1, 200), st.integers(1, 200))


def coordinates(height: int, width: int) -> Sample:
    """An image that says where each pixel came from: red, label and weights its column, green its row, instances both."""
    y, x = np.mgrid[:height, :width]
    image = np.dstack([x, y, np.zeros_like(x)]).astype(np.uint8)
    return Sample("where", image, x.astype(np.uint8), (y * 1000 + x).astype(np.int32), x.astype(np.float32))


@settings(max_examples=150, deadline=None)
@given(size=sizes, augmentation=augmentations, seed=st.integers(0, 2**32))
@example(size=(100, 120), augmentation=Augmentation(scale=(0.5, 0.5), crop=(40, 40)), seed=1)
@example(size=(100, 120), augmentation=Augmentation(scale=(0.23, 0.23), rotation=30), seed=5)
@example(size=(90, 120), augmentation=Augmentation(scale=(2.3, 2.3), crop=(60, 61), flip=1, vertical_flip=1, rotation=45), seed=3)
def test_image_label_and_instances_come_from_the_same_place(size: tuple[int, int], augmentation: Augmentation, seed: int) -> None:
    sample = augmentation(coordinates(*size), rng=rng_for(seed, 0, "k"))
    label, instances, image = sample.label, sample.instances, sample.image
    assert label is not None
    assert instances is not None
    inside = (label != IGNORE) & (label > 1) & (label < size[1] - 2) & (instances // 1000 > 1) & (instances // 1000 < size[0] - 2)
    # Rows and columns of the nearest pixel, against those the interpolated image shows: half a
    # pixel for "nearest", half for rounding, and what averaging over a shrunk pixel may add.
    reach = 1 + 0.5 / min(augmentation.scale) * (min(augmentation.scale) < 0.5)
    # Fill that is blended in at rotated borders is no coordinate.
    inside &= cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0).astype(bool)
    assert np.array_equal(instances[inside] % 1000, label[inside])
    red, green = image[inside][:, 0].astype(float), image[inside][:, 1].astype(float)
    if (augmentation.rotation or augmentation.elastic) and min(augmentation.scale) < 0.5:
        reach += 1
    assert np.all(np.abs(red - label[inside]) <= reach)
    assert np.all(np.abs(green - instances[inside] // 1000) <= reach)
    assert sample.weights is not None
    assert np.all(np.abs(sample.weights[inside] - label[inside]) <= reach)


@pytest.mark.parametrize("rotation", [0.0, 1e-3])
@pytest.mark.parametrize("scale", [0.5, 0.75, 1.0, 1.6, 2.0])
@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("vertical_flip", [0.0, 1.0])
def test_pixel_centres_are_where_the_convention_puts_them(rotation: float, scale: float, flip: float, vertical_flip: float) -> None:
    # Mixed-up conventions (corners for centres, x * s for (x + 0.5) * s - 0.5) would be off by up to half a pixel.
    y, x = np.mgrid[:60, :60]
    original = Sample("ramp", np.dstack([4 * x, 4 * y, x]).astype(np.uint8), x.astype(np.uint8), y.astype(np.int32))
    augmentation = Augmentation(scale=(scale, scale), flip=flip, vertical_flip=vertical_flip, rotation=rotation)
    sample = augmentation(original, rng=rng_for(0, 0, "k"))
    assert sample.label is not None
    assert sample.instances is not None
    rows, columns = (((np.arange(side) + 0.5) / scale - 0.5) for side in sample.label.shape)
    columns = columns[::-1] if flip else columns
    rows = rows[::-1] if vertical_flip else rows
    for shown, label, expected in (
        (sample.image[20, :, 0], sample.label[20], columns),
        (sample.image[:, 20, 1], sample.instances[:, 20], rows),
    ):
        kept = (expected > 2) & (expected < 57)
        assert np.abs(shown / 4 - expected)[kept].max() < 0.2
        assert np.abs(label - expected)[kept].max() < 0.51


@settings(max_examples=100, deadline=None)
@given(size=sizes, augmentation=augmentations, seed=st.integers(0, 2**32))
def test_every_label_existed_and_padding_is_ignored_together(size: tuple[int, int], augmentation: Augmentation, seed: int) -> None:
    height, width = size
    rng = np.random.default_rng(seed)
    original = Sample("k", rng.integers(0, 256, (*size, 3), np.uint8), rng.integers(0, 5, size, np.uint8), np.ones(size, np.int32))
    sample = augmentation(original, rng=rng)
    assert sample.label is not None
    assert sample.instances is not None
    assert set(np.unique(sample.label)) <= {*np.unique(original.label).tolist(), IGNORE}
    assert np.array_equal(sample.label == IGNORE, sample.instances == 0)
    if augmentation.crop is not None:
        assert sample.label.shape == augmentation.crop
    elif augmentation.scale[0] == augmentation.scale[1]:
        assert sample.label.shape == tuple(max(1, round(side * augmentation.scale[0])) for side in (height, width))
    assert sample.image.shape == (*sample.label.shape, 3)
    assert sample.image.flags.c_contiguous
    assert sample.label.flags.c_contiguous
    if augmentation.rotation == 0 and augmentation.elastic == 0:
        assert np.all(sample.image[sample.label == IGNORE] == FILL)


def test_identity_returns_the_very_sample() -> None:
    sample = coordinates(20, 30)
    for augmentation in (Augmentation(), Augmentation(crop=(20, 30))):
        assert augmentation(sample, rng=rng_for(0, 0, "k")) is sample


def test_a_plain_crop_and_flip_copies_pixels() -> None:
    original = coordinates(60, 80)
    seen = set()
    for seed in range(40):
        sample = Augmentation(crop=(20, 30), flip=0.5, vertical_flip=0.5)(original, rng=rng_for(seed, 0, "k"))
        columns, rows = sample.image[0, :, 0].astype(int), sample.image[:, 0, 1].astype(int)
        left, top, flips = int(columns.min()), int(rows.min()), (columns[0] > columns[-1], rows[0] > rows[-1])
        expected = original.image[top : top + 20, left : left + 30]
        expected = expected[:, ::-1] if flips[0] else expected
        assert np.array_equal(sample.image, expected[::-1] if flips[1] else expected)
        seen.add((left, top, flips))
    assert len(seen) > 30
    assert len({flips for *_, flips in seen}) == 4


def test_a_crop_reaches_every_place() -> None:
    lefts = {int(Augmentation(crop=(4, 4))(coordinates(4, 8), rng=rng_for(seed, 0, "k")).image[0, 0, 0]) for seed in range(200)}
    assert lefts == {0, 1, 2, 3, 4}


@settings(max_examples=50, deadline=None)
@given(augmentation=augmentations, seed=st.integers(0, 1000), epoch=st.integers(0, 1000), key=st.text(max_size=20))
def test_randomness_is_a_function_of_seed_epoch_and_key(augmentation: Augmentation, seed: int, epoch: int, key: str) -> None:
    sample = coordinates(40, 50)
    state = np.random.get_state()[1].copy()  # type: ignore[union-attr, index]
    first, second = (augmentation(sample, rng=rng_for(seed, epoch, key)) for _ in range(2))
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(np.random.get_state()[1], state)  # type: ignore[arg-type, index]


def test_streams_differ_by_seed_epoch_and_key_and_never_change() -> None:
    draws = {rng_for(*place).integers(2**62) for place in [(0, 0, "a"), (1, 0, "a"), (0, 1, "a"), (0, 0, "b"), (0, 11, "a"), (0, 1, "1a")]}
    assert len(draws) == 6
    # A pinned value: were it to change, no run could be repeated with another version.
    assert rng_for(0, 0, "a").integers(2**62) == 3464143929028630547


def test_changing_colour_leaves_geometry_alone() -> None:
    sample = coordinates(50, 60)
    for seed in range(10):
        plain = Augmentation(scale=(0.5, 2), crop=(32, 32), flip=0.5)(sample, rng=rng_for(seed, 0, "k"))
        coloured = Augmentation(scale=(0.5, 2), crop=(32, 32), flip=0.5, brightness=0.4, hue=0.1)(sample, rng=rng_for(seed, 0, "k"))
        assert np.array_equal(plain.label, coloured.label)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), saturation=st.floats(0, 1), hue=st.floats(0, 0.5))
def test_hue_and_saturation_leave_grey_alone(seed: int, saturation: float, hue: float) -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    out = Augmentation(saturation=saturation, hue=hue)(Sample("k", grey), rng=rng_for(seed, 0, "k"))
    assert np.abs(out.image.astype(int) - grey).max() <= 1


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), brightness=st.floats(0.01, 1))
def test_brightness_multiplies(seed: int, brightness: float) -> None:
    image = np.random.default_rng(seed).integers(0, 120, (8, 8, 3), np.uint8)
    out = Augmentation(brightness=brightness)(Sample("k", image), rng=rng_for(seed, 0, "k")).image
    draw = rng_for(seed, 0, "k").random(9)[5]
    factor = 1 + brightness * (2 * draw - 1)
    assert np.abs(out - np.clip(image * factor, 0, 255)).max() <= 0.51


def test_contrast_turns_about_the_mean_grey() -> None:
    image = np.random.default_rng(0).integers(100, 150, (64, 64, 3), np.uint8)
    luma = np.array([0.299, 0.587, 0.114])
    spreads = set()
    for seed in range(20):
        out = Augmentation(contrast=0.5)(Sample("k", image), rng=rng_for(seed, 0, "k")).image
        assert abs((out @ luma).mean() - (image @ luma).mean()) < 0.5
        spreads.add(round(float(out.std() / image.std()), 1))
    assert min(spreads) < 0.8 < 1.2 < max(spreads)


@pytest.mark.parametrize("rotation", [0.0, 10.0])
def test_shrinking_far_averages_instead_of_skipping(rotation: float) -> None:
    # Averaging 64 values leaves an eighth of their spread; looking at four of them would leave half.
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    out = Augmentation(scale=(0.125, 0.125), rotation=rotation)(Sample("k", noise), rng=rng_for(0, 0, "k")).image
    assert out[8:24, 8:24].std() < 0.2 * noise.std()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.5, 2), flip=st.sampled_from([0.0, 0.5, 1.0]))
def test_hardly_turning_is_not_turning(seed: int, scale: float, flip: float) -> None:
    # The two ways of moving pixels, cut-and-resize and warp, must be one transform.
    original = coordinates(90, 70)
    still, turned = (
        Augmentation(scale=(scale, scale), crop=(80, 80), flip=flip, vertical_flip=flip, rotation=rotation)(
            original, rng=rng_for(seed, 0, "k")
        )
        for rotation in (0.0, 1e-7)
    )
    assert still.label is not None
    assert turned.label is not None
    both = (still.label != IGNORE) & (turned.label != IGNORE)
    # Nearest-pixel ties and the last partial pixel may fall either way.
    assert ((still.label == IGNORE) != (turned.label == IGNORE)).mean() < 0.06
    assert np.abs(still.label.astype(int) - turned.label)[both].max(initial=0) <= 1
    inner = cv2.erode(both.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=0).astype(bool)
    assert np.abs(still.image.astype(int) - turned.image)[inner].max(initial=0) <= 1


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(20, 120), st.integers(20, 120)),
    seed=st.integers(0, 10**6),
    scale=st.floats(0.5, 2),
    rotation=st.sampled_from([0.0, 40.0]),
    elastic=st.floats(0.5, 12),
    border=st.sampled_from(["ignore", "mirror"]),
)
def test_an_elastic_image_label_and_weights_follow_one_field(size, seed, scale, rotation, elastic, border) -> None:
    """Coordinates are encoded in all three: where the label says it came from, image and weights say too."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    original = Sample(
        "ramp",
        np.dstack([2 * x, 2 * y, x]).astype(np.uint8),
        y.astype(np.uint8),
        (1 + x).astype(np.int32),
        (x + 200 * y).astype(np.float32),
    )
    augmentation = Augmentation(scale=(scale, scale), flip=0.5, rotation=rotation, elastic=elastic, border=border)
    sample = augmentation(original, rng=rng_for(seed, 0, "k"))
    rows, columns = sample.label, sample.instances - 1
    edge = max(1, int(1 / scale))  # pixels that are averaged, and blend with what lies beyond
    inside = (rows != IGNORE) & (rows >= edge) & (rows < height - edge) & (columns >= edge) & (columns < width - edge)
    shown = sample.image[inside].astype(float) / 2
    assert np.all(np.abs(shown[:, 1] - rows[inside]) <= 0.8)  # half a pixel for nearest, a quarter for the 8 bits
    assert np.all(np.abs(shown[:, 0] - columns[inside]) <= 0.8)
    assert np.all(np.abs(sample.weights[inside] - columns[inside] - 200.0 * rows[inside]) <= 0.55 * 201)
    if border == "mirror":
        assert not np.any(rows == IGNORE)
        assert np.all(columns >= 0)


def test_elastic_displacements_are_normal_with_the_deviation_asked_for() -> None:
    """The centre is a knot of the grid: there each image shows what lay at a normal displacement, down and across independent."""
    y, x = np.mgrid[:121, :121]
    original = Sample("ramp", np.zeros((121, 121, 3), np.uint8), None, (1000 * y + x).astype(np.int32))
    centres = [int(Augmentation(elastic=10)(original, rng=rng_for(seed, 0, "k")).instances[60, 60]) for seed in range(300)]
    found = np.array([(centre // 1000 - 60, centre % 1000 - 60) for centre in centres])
    assert np.all(np.abs(found.mean(0)) < 5 * 10 / np.sqrt(300))
    assert np.all(np.abs(found.std(0) - 10) < 5 * 10 / np.sqrt(600))
    assert abs(np.corrcoef(found.T)[0, 1]) < 5 / np.sqrt(300)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.4, 2), flip=st.sampled_from([0.0, 1.0]), border=st.sampled_from(["ignore", "mirror"]))
def test_hardly_bending_is_not_bending(seed: int, scale: float, flip: float, border: str) -> None:
    original = coordinates(90, 70)
    still, bent = (
        Augmentation(scale=(scale, scale), crop=(80, 80), flip=flip, elastic=elastic, border=border)(original, rng=rng_for(seed, 0, "k"))
        for elastic in (0.0, 1e-7)
    )
    assert ((still.label == IGNORE) != (bent.label == IGNORE)).mean() < 0.06
    both = (still.label != IGNORE) & (bent.label != IGNORE)
    assert np.abs(still.label.astype(int) - bent.label)[both].max(initial=0) <= 1
    inner = cv2.erode(both.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=0).astype(bool)
    assert np.abs(still.image.astype(int) - bent.image)[inner].max(initial=0) <= 1 + (scale < 0.5)


def test_both_flips_have_their_probabilities_and_are_independent() -> None:
    sample = coordinates(3, 3)
    seen = [Augmentation(flip=0.3, vertical_flip=0.6)(sample, rng=rng_for(seed, 0, "k")).image for seed in range(1000)]
    flips = np.array([(image[0, 0, 0] == 2, image[0, 0, 1] == 2) for image in seen])
    assert np.all(np.abs(flips.mean(0) - (0.3, 0.6)) < 5 * 0.5 / np.sqrt(1000))
    assert abs(np.corrcoef(flips.T)[0, 1]) < 5 / np.sqrt(1000)


@pytest.mark.parametrize("rotation", [0.0, 20.0])
def test_a_vertical_flip_changes_nothing_else(rotation: float) -> None:
    sample = coordinates(60, 50)
    for seed in range(10):
        plain, flipped = (
            Augmentation(scale=(0.5, 2), flip=0.5, vertical_flip=vertical_flip, brightness=0.5, rotation=rotation, border="mirror")(
                sample, rng=rng_for(seed, 0, "k")
            )
            for vertical_flip in (0.0, 1.0)
        )
        if not rotation:
            assert np.array_equal(flipped.image, plain.image[::-1])
            assert np.array_equal(flipped.instances, plain.instances[::-1])
        assert flipped.image.shape == plain.image.shape
        assert flipped.image.mean() == pytest.approx(plain.image.mean(), abs=12)


def test_bending_leaves_everything_else_that_is_drawn_alone() -> None:
    sample = coordinates(60, 60)
    for seed in range(10):
        plain, bent = (
            Augmentation(scale=(0.5, 2), crop=(32, 32), flip=0.5, brightness=0.5, elastic=elastic)(sample, rng=rng_for(seed, 0, "k"))
            for elastic in (0.0, 1e-9)
        )
        both = (plain.label != IGNORE) & (bent.label != IGNORE)
        assert np.abs(plain.label.astype(int) - bent.label)[both].max(initial=0) <= 1
        assert abs(plain.image[both].astype(float).mean() - bent.image[both].mean()) < 1


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    crop=st.tuples(st.integers(1, 100), st.integers(1, 100)),
    seed=st.integers(0, 999),
)
def test_a_mirrored_border_is_numpys(size: tuple[int, int], crop: tuple[int, int], seed: int) -> None:
    """Beyond its edges an image goes on as ``np.pad`` has it, however often it must be turned over; nothing is filled or ignored."""
    original = coordinates(*size)
    augmentation = Augmentation(crop=crop, border="mirror")
    sample, ignored = (a(original, rng=rng_for(seed, 0, "k")) for a in (augmentation, Augmentation(crop=crop)))
    assert not (sample.label == IGNORE).any()
    rows, columns = np.nonzero(ignored.label != IGNORE)
    top, left = rows.min(), columns.min()
    held = np.s_[top : rows.max() + 1, left : columns.max() + 1]
    height, width = rows.max() + 1 - top, columns.max() + 1 - left
    around = ((top, crop[0] - top - height), (left, crop[1] - left - width))
    for plane, inner in (
        (sample.label, ignored.label[held]),
        (sample.instances, ignored.instances[held]),
        (sample.weights, ignored.weights[held]),
    ):
        assert np.array_equal(plane, np.pad(inner, around, "symmetric"))
    assert np.array_equal(sample.image, np.pad(ignored.image[held], (*around, (0, 0)), "symmetric"))


def test_rotation_turns_the_way_and_as_far_as_it_says() -> None:
    sample = coordinates(201, 201)
    for seed in range(20):
        out = Augmentation(rotation=40)(sample, rng=rng_for(seed, 0, "k"))
        angle = math.radians(40 * (2 * rng_for(seed, 0, "k").random(9)[4] - 1))
        # 50 pixels right of the centre shows what lay at that angle in the image.
        assert abs(int(out.image[100, 150, 0]) - (100 + 50 * math.cos(angle))) < 1.1
        assert abs(int(out.image[100, 150, 1]) - (100 + 50 * math.sin(angle))) < 1.1


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": (0, 1)},
        {"scale": (2, 1)},
        {"scale": (1, 1e9)},
        {"crop": (0, 5)},
        {"scale": (1, 16.1)},
        {"crop": (5, 16385)},
        {"flip": 1.5},
        {"vertical_flip": -0.5},
        {"rotation": -1},
        {"hue": 0.6},
        {"contrast": 2},
        {"elastic": -1},
        {"elastic_grid": 1},
        {"border": "wrap"},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match=rf"^{next(iter(wrong))} is .*expected"):
        Augmentation(**wrong)  # type: ignore[arg-type]
