"""Laws of images of any bands: each band is treated as it would be alone, and RGB of 8 bits as it always was."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from upscore.data.band_statistics import measure_bands
from upscore.data.loading import collate
from upscore.data.readers.shapes import open_shapes
from upscore.data.transforms import Augmentation, fill_values, rng_for
from upscore.errors import DataError
from upscore.inference.image_tensors import image_to_tensor, tensor_to_images
from upscore.input_spec import DTYPES, RGB, InputSpec
from upscore.types import LabelSpace, Sample

COLOURS = InputSpec(("red", "green", "blue", "infrared"), "uint16", (0.3, 0.4, 0.5, 0.2), (0.1, 0.1, 0.1, 0.05))


def random_image(spec: InputSpec, size: tuple[int, int] = (23, 31), seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).random((*size, len(spec))) * (
        200 if spec.dtype == "uint8" else 60000 if spec.dtype == "uint16" else 3
    )
    return values.astype(spec.dtype)


@settings(max_examples=60, deadline=None)
@given(
    bands=st.sampled_from([1, 2, 3, 4, 5, 9]),
    dtype=st.sampled_from(DTYPES),
    rotation=st.sampled_from([0.0, 45.0]),
    elastic=st.sampled_from([0.0, 2.0]),
    border=st.sampled_from(["ignore", "mirror"]),
    seed=st.integers(0, 1000),
)
def test_a_band_moves_as_it_would_alone(bands: int, dtype: str, rotation: float, elastic: float, border: str, seed: int) -> None:
    spec = InputSpec.unnamed(bands, dtype).with_statistics([0.1 * (i + 1) for i in range(bands)], [0.1] * bands)
    image = random_image(spec, seed=seed)
    moved = Augmentation(scale=(0.4, 2.0), crop=(20, 25), flip=0.5, rotation=rotation, elastic=elastic, border=border, input=spec)
    together = moved(Sample("k", image), rng=rng_for(seed, 0, "k")).image
    assert together.shape == (20, 25, bands)
    assert together.dtype == dtype
    for band in range(bands):
        one = replace(moved, input=InputSpec((spec.bands[band],), dtype, (spec.mean[band],), (spec.std[band],)))
        alone = one(Sample("k", np.ascontiguousarray(image[..., [band]])), rng=rng_for(seed, 0, "k")).image
        # OpenCV's weights of interpolation have steps of a 32nd, for some numbers of channels.
        # Its resizing of integers rounds otherwise for some numbers of channels, by one step.
        tolerance = (np.nanmax(image) - np.nanmin(image)) / 32 if elastic or rotation else 1 if dtype != "float32" else 1e-5
        assert np.abs(together[..., band].astype(float) - alone[..., 0]).max() <= tolerance


@pytest.mark.parametrize("dtype", DTYPES)
def test_three_bands_move_as_rgb_does(dtype: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    moved = Augmentation(scale=(0.7, 1.4), crop=(30, 30), flip=0.5)
    expected = moved(Sample("k", rgb), rng=rng_for(0, 0, "k")).image.astype(float)
    unit = {"uint8": 1, "uint16": 257, "float32": 1 / 255}[dtype]
    spec = InputSpec(dtype=dtype, mean=tuple(v / 255 for v in fill_values(RGB)), std=(1, 1, 1))
    found = replace(moved, input=spec)(Sample("k", (rgb * np.float32(unit)).astype(dtype)), rng=rng_for(0, 0, "k")).image
    assert np.abs(found / unit - expected).max() <= 1.5


def test_colours_of_sixteen_bits_vary_as_those_of_eight_and_other_bands_do_not_mix_with_them() -> None:
    rgb = np.random.default_rng(0).integers(60, 160, (20, 20, 3), np.uint8)
    infrared = np.random.default_rng(1).integers(5000, 15000, (20, 20, 1), np.uint16)
    varied = Augmentation(brightness=0.2, contrast=0.2, saturation=0.3, hue=0.05)
    expected = varied(Sample("k", rgb), rng=rng_for(3, 0, "k")).image.astype(float)
    image = np.concatenate([rgb.astype(np.uint16) * 257, infrared], axis=2)
    found = replace(varied, input=COLOURS)(Sample("k", image), rng=rng_for(3, 0, "k")).image
    assert np.abs(found[..., :3] / 257 - expected).max() <= 1
    # The fourth band: an affine map of its values, the same everywhere.
    slope, offset = np.polyfit(infrared.ravel().astype(float), found[..., 3].ravel().astype(float), 1)
    assert np.abs(slope * infrared[..., 0] + offset - found[..., 3]).max() <= 1
    only_hue = Augmentation(saturation=0.5, hue=0.2, input=COLOURS)(Sample("k", image), rng=rng_for(3, 0, "k")).image
    assert np.array_equal(only_hue[..., 3], image[..., 3])
    assert not np.array_equal(only_hue[..., :3], image[..., :3])


def test_brightness_adds_deviations_to_bands_that_are_no_colours() -> None:
    spec = InputSpec(("height",), "float32", (500.0,), (10.0,))
    image = np.random.default_rng(0).normal(500, 10, (30, 30, 1)).astype(np.float32)
    image[0, 0] = np.nan
    shifts = []
    for seed in range(40):
        found = Augmentation(brightness=0.2, input=spec)(Sample("k", image), rng=rng_for(seed, 0, "k")).image
        assert np.isnan(found[0, 0, 0])
        shift = np.nanmean(found) - np.nanmean(image)
        assert np.nanstd(found - image) < 1e-3
        shifts.append(shift)
    assert max(map(abs, shifts)) <= 0.2 * 2 * 10 + 1e-3
    assert max(shifts) > 3
    assert min(shifts) < -3


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_image_becomes_a_tensor_and_an_image_again(dtype: str) -> None:
    spec = InputSpec.unnamed(5, dtype)
    image = random_image(spec)
    tensor = image_to_tensor(image)
    assert tensor.shape == (5, 23, 31)
    if dtype != "float32":
        image[0, 0] = {"uint8": 255, "uint16": 65535}[dtype]
        assert image_to_tensor(image)[:, 0, 0].tolist() == [1.0] * 5
    assert np.array_equal(tensor_to_images(image_to_tensor(image), spec), image)
    batch = collate([Sample("a", image), Sample("b", image[:10, :9])], spec)
    assert torch.equal(batch.images[0], image_to_tensor(image))
    assert torch.equal(batch.images[1, :, :10, :9], image_to_tensor(image[:10, :9]))


class Images:
    """A dataset of images, without masks."""

    name, split, labels, warnings = "given", "train", LabelSpace(("a", "b")), ()

    def __init__(self, images: list[np.ndarray], spec: InputSpec) -> None:
        self.images, self.input = images, spec
        self.keys = [str(i) for i in range(len(images))]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.keys[index], self.images[index])


@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics_are_those_of_all_pixels_together(dtype: str) -> None:
    spec = InputSpec.unnamed(3, dtype)
    images = [random_image(spec, size, seed) for seed, size in enumerate([(3, 5), (20, 30), (1, 1)])]
    if dtype == "float32":
        images = [image + np.float32([0, 1e4, -5]) for image in images]  # far from zero: sums of squares would lose the deviation
        images[1][4:9, :, 0] = np.nan
    pixels = np.concatenate([image.reshape(-1, 3) for image in images]).astype(np.float64) / spec.unit
    found = measure_bands(Images(images, spec))
    np.testing.assert_allclose(found.mean, np.nanmean(pixels, 0), rtol=1e-6)
    np.testing.assert_allclose(found.std, np.nanstd(pixels, 0), rtol=1e-5)


def test_a_band_of_one_value_is_not_amplified_and_an_empty_one_refused() -> None:
    spec = InputSpec(("a", "b"), "float32")
    image = np.dstack([np.full((4, 5), 7.25), np.arange(20).reshape(4, 5)]).astype(np.float32)
    assert measure_bands(Images([image], spec)).std[0] == 1.0
    image[..., 1] = np.nan
    with pytest.raises(DataError, match="the band 'b' has no value in any image"):
        measure_bands(Images([image], spec))


def test_the_bands_of_shapes_hold_the_information_of_rgb() -> None:
    rgb = open_shapes("val", size=(40, 50), count=2)[1].image.astype(float)
    for bands, dtype in ((4, "uint16"), (8, "float32"), (3, "float32")):
        data = open_shapes("val", size=(40, 50), count=2, bands=bands, dtype=dtype)
        image = data[1].image
        data.input.check(image)
        pixels = np.hstack([image.reshape(-1, bands).astype(float), np.ones((2000, 1))])
        recovered = pixels @ np.linalg.lstsq(pixels, rgb.reshape(-1, 3), rcond=None)[0]
        assert np.abs(recovered - rgb.reshape(-1, 3)).max() < 0.6
    single = open_shapes("val", size=(40, 50), count=2, bands=1, dtype="uint16")[1].image[..., 0]
    grey = cv2.cvtColor(rgb.astype(np.uint8), cv2.COLOR_RGB2GRAY)
    assert np.corrcoef(single.ravel(), grey.ravel())[0, 1] > 0.9999
