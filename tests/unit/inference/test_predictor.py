from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from upscore.data.png_files import write_image
from upscore.errors import BundleError, DataError, GeometryError, RecipeError
from upscore.inference import pipeline, tile_choice
from upscore.inference.predictor import Predictor
from upscore.models.bundle import Bundle
from upscore.models.factory import create_model
from upscore.ops.geometry import Geometry
from upscore.settings import InferenceSettings
from upscore.types import LabelSpace

LABELS = LabelSpace(("dark", "red", "blue"))
ARGUMENTS = {"backbone": "vgg16", "width": 1 / 32}


class Brightest(nn.Module):
    """Labels each pixel by itself: red, blue, or dark where neither passes a half."""

    geometry = Geometry()

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[int, int]] = []
        self.scale = nn.Parameter(torch.tensor(50.0))

    def forward(self, images: Tensor) -> Tensor:
        self.calls.append((images.shape[-2], images.shape[-1]))
        return self.scale * torch.cat([torch.full_like(images[:, :1], 0.5), images[:, :1], images[:, 2:]], 1)


def make_image(height: int = 20, width: int = 30) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def small_bundle(seed: int = 0, labels: LabelSpace = LABELS, **inference: object) -> Bundle:
    torch.manual_seed(seed)
    model = create_model("fcn32s", num_classes=len(labels), **ARGUMENTS)
    nn.init.normal_(model.decoder.score_fr.weight, std=0.1)
    return Bundle.of("fcn32s", ARGUMENTS, model, labels, inference=InferenceSettings(**inference), card={"epoch": 3})


def test_colours_are_red_green_blue():
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 0], image[1, 2] = (255, 0, 0), (0, 0, 255)
    prediction = Predictor(Brightest(), labels=LABELS).predict(image)
    assert prediction.label_map.tolist() == [[1, 0, 0], [0, 0, 2]]
    assert prediction.label_map.dtype == np.uint8
    assert prediction.probs is None
    assert prediction.labels == LABELS


def test_arrays_paths_and_tensors_agree(tmp_path: Path):
    image = make_image()
    write_image(tmp_path / "a.png", image)
    predictor = Predictor(Brightest(), labels=LABELS)
    whole = predictor.predict(image, probs=True)
    read = predictor.predict(tmp_path / "a.png", probs=True)
    assert read.key == str(tmp_path / "a.png")
    np.testing.assert_array_equal(read.label_map, whole.label_map)
    np.testing.assert_array_equal(read.probs, whole.probs)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    np.testing.assert_allclose(predictor.predict_probs(tensor)[0].numpy(), whole.probs, atol=1e-6)
    np.testing.assert_array_equal(whole.probs.argmax(0), whole.label_map)


def test_the_chain_is_what_the_settings_say():
    image = make_image(64, 96)
    model = Brightest()
    Predictor(model, labels=LABELS, tile=32, margin=8, flips=True, scales=(1.0, 0.5)).predict(image)
    assert len(model.calls) == 2 * 3 * 2 * 2
    model.calls.clear()
    Predictor(model, labels=LABELS, tile="whole").predict(image)
    assert model.calls == [(64, 96)]


def test_auto_cuts_only_what_is_large(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(tile_choice.WHOLE_PIXELS, "cpu", 300 * 300)
    model = Brightest()
    predictor = Predictor(model, labels=LABELS, margin=10)
    predictor.predict(make_image(300, 300))
    assert model.calls == [(300, 300)]
    model.calls.clear()
    large = make_image(290, 700)
    labels = predictor.predict(large).label_map
    assert len(model.calls) > 1
    assert max(height * width for height, width in model.calls) <= 300 * 300
    np.testing.assert_array_equal(labels, Predictor(model, labels=LABELS, tile="whole").predict(large).label_map)
    model.calls.clear()
    Predictor(model, labels=LABELS, margin=10, scales=(2.0,)).predict(make_image(300, 300))
    assert len(model.calls) > 1  # what counts is the image the network sees


class Sees(Brightest):
    """Also adds the mean of all pixels to red, as a network does that looks everywhere."""

    geometry = Geometry(receptive_field=float("inf"))
    stride = 32

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        logits[:, 1] += images.mean((1, 2, 3), keepdim=True)[:, 0]
        return logits


def test_networks_that_look_at_the_whole_image_get_overlapping_tiles_and_it_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(tile_choice.WHOLE_PIXELS, "cpu", 300 * 300)
    model = Sees()
    predictor = Predictor(model, labels=LABELS)
    small = predictor.predict(make_image(290, 300))
    assert (model.calls, small.warnings) == ([(290, 300)], ())
    model.calls.clear()
    large = make_image(310, 700)
    cut = predictor.predict(large, probs=True)
    assert len(model.calls) > 2
    assert max(height * width for height, width in model.calls) <= (288 + 32) ** 2
    assert cut.warnings == (pipeline.BLENDED.format(tile=288),)
    whole = Predictor(model, labels=LABELS, tile="whole").predict(large, probs=True)
    assert whole.warnings == ()
    assert 0 < np.abs(cut.probs - whole.probs).max() < 0.02
    tensor = torch.from_numpy(large).permute(2, 0, 1)[None].float() / 255
    np.testing.assert_allclose(predictor.predict_probs(tensor)[0].numpy(), cut.probs, atol=1e-6)
    assert Predictor(model, labels=LABELS, crf={"iterations": 1}).compare(large).before.warnings == cut.warnings


def test_small_tiles_of_networks_that_look_at_the_whole_image_are_refused_with_ways_out_that_work():
    model, large = Sees(), make_image(280, 600)
    unknown = nn.Conv2d(3, 3, 3, padding=1)
    for network in (model, unknown):
        with pytest.raises(GeometryError, match=r"tile 256 or more.*'auto' or 'whole'.*margin"):
            Predictor(network, labels=LABELS, tile=64).predict(large)
        for ways in ({"tile": 256}, {"tile": "auto"}, {"tile": "whole"}, {"tile": 64, "margin": 4}):
            assert Predictor(network, labels=LABELS, **ways).predict(large).label_map.shape == (280, 600)
    assert Predictor(model, labels=LABELS, tile=8).predict(make_image()).warnings == ()  # the whole image is no more than a tile


def test_the_crf_hears_blended_tiles_as_they_are(monkeypatch: pytest.MonkeyPatch):
    """Windows that the CRF refines begin and end anywhere; what it hears there is what iterate gives."""
    monkeypatch.setattr("upscore.inference.crf_postprocess.MAX_WINDOW_PIXELS", 150 * 150)
    large = make_image(400, 700)
    settings = {"tile": 256}
    plain = Predictor(Sees(), labels=LABELS, **settings).predict(large).label_map
    refined = Predictor(Sees(), labels=LABELS, crf={"gaussian_sigma": 1, "bilateral_sigma": 1, "iterations": 1}, **settings)
    np.testing.assert_array_equal(refined.compare(large).before.label_map, plain)


def test_a_live_model_is_only_borrowed():
    model = Brightest().train()
    predictor = Predictor(model, labels=LABELS)
    before = predictor.predict(make_image()).label_map
    assert model.training
    with torch.no_grad():
        model.scale.neg_()
    assert (predictor.predict(make_image()).label_map != before).any()


def test_bundles_bring_their_settings_and_card(tmp_path: Path):
    bundle = small_bundle(tile=64, flips=True)
    bundle.save(tmp_path / "bundle")
    for given in (bundle, tmp_path / "bundle", str(tmp_path / "bundle")):
        predictor = Predictor(given, device="cpu", flips=None, scales=(1.0, 0.5))
        assert predictor.settings == InferenceSettings(tile=64, flips=True, scales=(1.0, 0.5))
        assert predictor.card == {"epoch": 3}
        assert predictor.predict(make_image()).label_map.shape == (20, 30)
    assert predictor.source == str(tmp_path / "bundle")


def test_several_bundles_are_averaged():
    image = make_image()
    bundles = [small_bundle(seed) for seed in (1, 2)]
    alone = [Predictor(bundle, device="cpu").predict(image, probs=True).probs for bundle in bundles]
    together = Predictor(bundles, device="cpu").predict(image, probs=True).probs
    np.testing.assert_allclose(together, (alone[0] + alone[1]) / 2, atol=1e-6)
    assert abs(alone[0] - alone[1]).max() > 1e-3
    with pytest.raises(BundleError, match="sky"):
        Predictor([bundles[0], small_bundle(labels=LabelSpace(("dark", "red", "sky")))], device="cpu")


@pytest.mark.parametrize(
    ("override", "message"),
    [({"tiles": 3}, "did you mean 'tile'"), ({"tile": 0}, "tile"), ({"precision": "fp8"}, "precision"), ({"scales": (0,)}, "scale")],
)
def test_impossible_overrides_are_refused(override: dict[str, object], message: str):
    with pytest.raises(RecipeError, match=message):
        Predictor(Brightest(), labels=LABELS, **override)


def test_settings_from_strings_and_from_bundles():
    assert InferenceSettings().with_overrides(tile="512").tile == 512
    assert InferenceSettings(tile=3).with_overrides(tile=None).tile == 3
    for stored in ({"tile": -1}, {"pickle": "x"}, [1]):
        with pytest.raises(BundleError, match="inference settings"):
            InferenceSettings.from_stored(stored)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3)])
def test_other_arrays_are_refused(shape: tuple[int, ...]):
    with pytest.raises(DataError, match="expected an image"):
        Predictor(Brightest(), labels=LABELS).predict(np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match="float64"):
        Predictor(Brightest(), labels=LABELS).predict(np.zeros((4, 4, 3)))


def breaks(change: Callable[[Tensor], Tensor]) -> nn.Module:
    class Broken(Brightest):
        def forward(self, images: Tensor) -> Tensor:
            return change(super().forward(images))

    return Broken()


def test_networks_that_do_not_fit_are_found_out():
    with pytest.raises(BundleError, match="2 classes, but its labels name 3"):
        Predictor(breaks(lambda logits: logits[:, :2]), labels=LABELS).predict(make_image())
    with pytest.raises(BundleError, match="not numbers"):
        Predictor(breaks(lambda logits: logits * float("nan")), labels=LABELS).predict(make_image())


def take_too_much(logits: Tensor) -> Tensor:
    return torch.empty(2**58)


OUT_OF_MEMORY = [
    take_too_much,  # torch on a processor, in its own words
    lambda logits: np.empty(2**60, np.uint8),
    lambda logits: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    lambda logits: RuntimeError("MPS backend out of memory (MPS allocated: 18.13 GB)"),
    lambda logits: MemoryError(),
]


@pytest.mark.parametrize("fails", OUT_OF_MEMORY)
@pytest.mark.parametrize(("settings", "said"), [
    ({}, "in one pass, scales 1, without flips, in fp32: try --tile 256; or a device with more memory"),
    ({"tile": 128, "flips": True, "scales": (1, 2)}, "in tiles of 128, scales 1, 2, with flips, in fp32: try --tile 64; or scales of at "),
    ({"proposals": {"proposer": "windows", "crop_side": 32, "batch_size": 4}}, "4 proposals of 32×32 at a time.* proposals.batch_size"),
])  # fmt: skip
def test_out_of_memory_is_one_line_that_names_what_to_change(fails: Callable[[Tensor], object], settings: dict[str, object], said: str):
    def change(logits: Tensor) -> Tensor:
        result = fails(logits)
        raise result if isinstance(result, BaseException) else AssertionError("memory without end")

    predictor = Predictor(breaks(change), labels=LABELS, **settings)
    image = make_image(540, 530)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    for call in (lambda: predictor.predict(image, name="a.png"), lambda: predictor.predict_probs(tensor)):
        with pytest.raises(RecipeError, match=f"out of memory while labelling 540×530 pixels on cpu, {said}") as error:
            call()
        assert "\n" not in str(error.value)
    with pytest.raises(RecipeError, match=r"^a\.png: out of memory"):
        Predictor(breaks(change), labels=LABELS, crf=True, **settings).compare(image, name="a.png")


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def change(logits: Tensor) -> Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="multiplied"):
        Predictor(breaks(change), labels=LABELS).predict(make_image())


def test_a_smaller_tile_is_a_way_out_of_too_little_memory():
    """The remedy is followed as it is given."""

    def change(logits: Tensor) -> Tensor:
        if logits.shape[-1] * logits.shape[-2] > 300 * 300:
            raise MemoryError
        return logits

    predictor, image = Predictor(breaks(change), labels=LABELS), make_image(540, 530)
    with pytest.raises(RecipeError) as error:
        predictor.predict(image)
    tile = int(re.findall(r"--tile (\d+)", str(error.value))[0])
    assert Predictor(breaks(change), labels=LABELS, tile=tile).predict(image).label_map.shape == (540, 530)


IMAGES = torch.from_numpy(make_image()).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (IMAGES * 255, "from 0 to 255.*divide them by 255"),
        ((IMAGES - 0.45) / 0.225, "as they are before normalisation"),
        (IMAGES * 2 - 1, "as they are before normalisation"),
        (IMAGES * 1.2 - 0.1, r"\.clamp\(0, 1\)"),
        ((IMAGES * 255).byte(), "type torch.uint8.*divide bytes by 255"),
        ((IMAGES * 255).long(), "type torch.int64"),
        (IMAGES > 0.5, "type torch.bool"),
        (IMAGES * 1j, "type torch.complex64"),
        (IMAGES.where(IMAGES > 0.01, torch.nan), "from nan to nan"),
        (IMAGES.where(IMAGES > 0.01, -torch.inf), "from -inf"),
        (IMAGES.permute(0, 2, 3, 1), r"permute\(0, 3, 1, 2\)"),
        (IMAGES[0], r"shape \(3, 20, 30\)"),
        (IMAGES[:, :1], r"shape \(1, 1, 20, 30\)"),
        (torch.cat([IMAGES, IMAGES[:, :1]], 1), r"shape \(1, 4, 20, 30\)"),
        (IMAGES[:0], r"shape \(0, 3, 20, 30\)"),
        (IMAGES[..., :0], r"shape \(1, 3, 20, 0\)"),
        (IMAGES.numpy(), "ndarray.*predict takes"),
    ],
)
@pytest.mark.parametrize("crf", [False, True])
def test_images_in_other_numbers_are_refused_with_what_to_do(images: Tensor, said: str, crf: bool):
    with pytest.raises(DataError, match=said):
        Predictor(Brightest(), labels=LABELS, crf=crf).predict_probs(images)


def test_what_messages_say_to_do_with_images_works():
    predictor = Predictor(Brightest(), labels=LABELS)
    expected = predictor.predict_probs(IMAGES)
    for remedied in (IMAGES * 255 / 255, (IMAGES * 255).byte() / 255, IMAGES.permute(0, 2, 3, 1).permute(0, 3, 1, 2)):
        torch.testing.assert_close(predictor.predict_probs(remedied), expected, atol=1e-4, rtol=0)
    assert predictor.predict_probs((IMAGES * 1.2 - 0.1).clamp(0, 1)).isfinite().all()
    assert predictor.predict_probs(IMAGES * (1 + 1e-3) - 5e-4).isfinite().all()  # rounding is no reason
    assert predictor.predict_probs(torch.zeros(2, 3, 1, 1)).shape == (2, 3, 1, 1)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (make_image().transpose(2, 0, 1), "channels come last"),
        (make_image() / 255, "type float64"),
        (make_image() > 100, "type bool"),
        (make_image()[..., 0], r"shape \(20, 30\)"),
        (np.zeros(3, np.uint8), r"shape \(3,\)"),
        (IMAGES, "found a tensor.*predict_probs"),
        ([[1, 2, 3]], "found a list of 1, .*predict_files"),
        (None, "found NoneType"),
        (b"image.png", "found bytes"),
    ],
    ids=str,
)
def test_what_is_no_image_is_refused_with_what_to_do(image: object, said: str):
    predictor = Predictor(Brightest(), labels=LABELS)
    with pytest.raises(DataError, match=said):
        predictor.predict(image)  # type: ignore[arg-type]
    if isinstance(image, np.ndarray):
        with pytest.raises(DataError, match=said):
            next(predictor.iterate(image))
        with pytest.raises(DataError, match=said):
            Predictor(Brightest(), labels=LABELS, crf=True).compare(image)
