"""Another engine in the network's place, through every command's path; sinks that fail; sources that are read in windows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from upscore.data.mask_files import read_label
from upscore.data.png_files import write_image
from upscore.errors import BundleError, OutputError
from upscore.evaluation.evaluate import evaluate
from upscore.evaluation.proposal_sweep import sweep_proposals
from upscore.evaluation.tune import tune
from upscore.inference import sinks
from upscore.inference.pipeline import Member, build_pipeline, segment_image
from upscore.inference.predict_files import predict_files
from upscore.inference.predictor import Predictor
from upscore.inference.segmenter import NetworkSegmenter, Segmenter, SegmenterWrapper
from upscore.inference.sinks import LabelMapSink, OverlayFileSink, PNGSink, ProbsFileSink, ProbsSink
from upscore.inference.sources import ArraySource
from upscore.inference.tile_grid import Window
from upscore.input_spec import RGB
from upscore.ops.geometry import Geometry
from upscore.settings import CRFSettings, InferenceSettings, ProposalSettings
from upscore.types import LabelSpace, Sample

LABELS = LabelSpace(("dark", "red", "blue"), ((20, 20, 20), (120, 60, 60), (60, 60, 120)))


class NumPyEngine:
    """Mean colours of 4×4 blocks, in NumPy: no torch module anywhere, and an attribute ``model`` that must not be touched."""

    geometry = Geometry().conv(4, 4)
    stride = 4
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []

    @property
    def model(self) -> object:
        raise AssertionError("only the five members of Segmenter are there")

    def scores(self, images: Tensor) -> Tensor:
        values = images.numpy()
        self.sizes.append(values.shape[-2:])
        count, bands, height, width = values.shape
        padded = np.pad(values, ((0, 0), (0, 0), (0, -height % 4), (0, -width % 4)), mode="edge")
        blocks = padded.reshape(count, bands, padded.shape[2] // 4, 4, padded.shape[3] // 4, 4).mean((3, 5))
        fine = blocks.repeat(4, 2).repeat(4, 3)[..., :height, :width]
        return torch.from_numpy(np.stack([np.full_like(fine[:, 0], 0.5), fine[:, 0], fine[:, 2]], 1) * 8).float()

    def __call__(self, images: Tensor) -> Tensor:
        return self.scores(images).softmax(1)


class TorchTwin(nn.Module):
    """The same computation as a module."""

    geometry, stride = NumPyEngine.geometry, 4

    def forward(self, images: Tensor) -> Tensor:
        return NumPyEngine().scores(images)


def make_image(height: int = 70, width: int = 90, seed: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (-(-height // 6), -(-width // 6), 3), dtype=np.uint8)
    return small.repeat(6, 0).repeat(6, 1)[:height, :width]


class Scenes:
    """A dataset of four images, labelled by their colours."""

    labels, name, split, path = LABELS, "scenes", "val", ""
    warnings: tuple[str, ...] = ()
    keys = tuple("abcd")

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Sample:
        image = make_image(seed=index)
        label = np.where(image[..., 0] > image[..., 2], 1, 2).astype(np.uint8)
        return Sample(self.keys[index], image, np.where(image.max(2) < 128, 0, label).astype(np.uint8))


BOXES = {"max_proposals": 5, "proposer": "windows", "crop_side": 32, "batch_size": 2}
SETTINGS = [
    {},
    {"tile": 24},
    {"tile": 24, "flips": True, "scales": (1.0, 0.5)},
    {"crf": {"iterations": 1}},
    {"proposals": BOXES},
    {"proposals": BOXES, "crf": {"iterations": 1}, "flips": True},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_another_engine_gives_what_the_network_gives(settings: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("UPSCORE_CACHE", str(tmp_path / "cache"))
    engine: Segmenter = NumPyEngine()
    ours, theirs = Predictor(engine, labels=LABELS, **settings), Predictor(TorchTwin(), labels=LABELS, **settings)
    image = make_image()
    np.testing.assert_array_equal(ours.predict(image, probs=True).probs, theirs.predict(image, probs=True).probs)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    assert torch.equal(ours.predict_probs(tensor), theirs.predict_probs(tensor))
    assert (evaluate(ours, Scenes()).matrix.counts == evaluate(theirs, Scenes()).matrix.counts).all()
    assert ours.source == "live NumPyEngine"
    if ours.settings.uses_crf:
        np.testing.assert_array_equal(ours.compare(image).before.label_map, theirs.compare(image).before.label_map)
    if ours.settings.proposals is not None:
        sweeps = [sweep_proposals(predictor, Scenes(), counts=(1, 3)) for predictor in (ours, theirs)]
        assert sweeps[0].curve() == sweeps[1].curve()
    if not ours.settings.uses_crf:
        assert tune(ours, Scenes(), trials=1).whole == tune(theirs, Scenes(), trials=1).whole
    write_image(tmp_path / "shots" / "a.png", image)
    (row,) = predict_files(ours, tmp_path / "shots", tmp_path / "out", overlay=True, probs=True)
    assert row.error is None
    np.testing.assert_array_equal(read_label(tmp_path / "out" / "a.png"), theirs.predict(image).label_map)
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["model"] == "live NumPyEngine"


def test_tiles_of_another_engine_are_bounded_and_equal_the_whole():
    engine, image = NumPyEngine(), make_image(101, 203)
    whole = Predictor(engine, labels=LABELS, tile="whole").predict(image, probs=True)
    engine.sizes.clear()
    tiled = Predictor(engine, labels=LABELS, tile=20).predict(image, probs=True)
    assert max(max(size) for size in engine.sizes) <= 20 + 2 * (engine.geometry.margin() + 4)
    np.testing.assert_allclose(tiled.probs, whole.probs, atol=1e-6)


def test_wrappers_have_the_geometry_stride_and_device_of_what_they_wrap():
    engine = NumPyEngine()
    coarse = NetworkSegmenter(nn.Conv2d(3, 3, 1))  # of unknown geometry
    members = [Member(engine, ProposalSettings(**BOXES)), Member(engine)]
    settings = InferenceSettings(flips=True, scales=(1.0, 0.5), tile=24, crf=CRFSettings())
    pipeline = build_pipeline(members, settings, size=(70, 90), classes=3, proposer=lambda own: lambda image: None)

    def wrappers(segmenter: Segmenter) -> list[Segmenter]:
        inner = segmenter.inner if isinstance(segmenter, SegmenterWrapper) else ()
        return [segmenter, *(deeper for one in inner for deeper in wrappers(one))]

    names = [type(segmenter).__name__ for segmenter in wrappers(pipeline.segmenter)]
    expected = ["MeanEnsemble", "ProposalSegmenter", "TTASegmenter", "NumPyEngine", "TiledSegmenter", "TTASegmenter", "NumPyEngine"]
    assert names == expected  # the order of the drawing
    for segmenter in wrappers(pipeline.segmenter):
        assert (segmenter.geometry, segmenter.stride, segmenter.device) == (engine.geometry, 4, torch.device("cpu"))
    mixed = SegmenterWrapper(engine, coarse)
    assert (mixed.geometry, mixed.stride) == (None, 32)
    wide = NetworkSegmenter(TorchTwin())
    wide.geometry, wide.stride = Geometry().conv(3, 2).conv(21, 3), 6
    for both in (SegmenterWrapper(engine, wide), SegmenterWrapper(wide, engine)):
        assert (both.geometry, both.stride) == (wide.geometry, 12)


class Failing:
    """A sink that fails at its second window, and remembers what was done to it."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def write(self, window: Window, probs: Tensor) -> None:
        self.events.append("write")
        if len(self.events) == 2:
            raise OSError("full")

    def close(self) -> None:
        self.events.append("close")

    def abandon(self) -> None:
        self.events.append("abandon")


def test_every_sink_is_abandoned_when_one_fails_and_nothing_is_left(tmp_path: Path):
    predictor, source, failing = Predictor(NumPyEngine(), labels=LABELS, tile=24), ArraySource(make_image()), Failing()
    probs = ProbsFileSink(tmp_path / "a.probs.npy", 3, source.size)
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(OSError, match="full"):
        predictor.segment(source, [probs, failing])
    assert failing.events == ["write", "write", "abandon"]
    assert list(tmp_path.iterdir()) == []


def test_sinks_of_the_network_get_what_the_crf_has_not_refined():
    predictor, source = Predictor(NumPyEngine(), labels=LABELS, crf={"iterations": 2}), ArraySource(make_image())
    before, after = (ProbsSink(np.empty((3, *source.size), np.float32)) for _ in range(2))
    done = predictor.segment(source, [after], network_sinks=[before])
    plain = Predictor(NumPyEngine(), labels=LABELS).predict(source.pixels, probs=True)
    np.testing.assert_allclose(before.probs, plain.probs, atol=1e-6)
    assert np.abs(after.probs - before.probs).max() > 0.05
    assert done.crf_seconds > 0


def test_a_file_of_probabilities_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sink = ProbsFileSink(tmp_path / "deep" / "a.npy", 2, (3, 4))
    sink.write(Window(0, 0, 3, 4), torch.full((2, 3, 4), 0.5))
    assert not (tmp_path / "deep" / "a.npy").exists()
    sink.close()
    assert (np.load(tmp_path / "deep" / "a.npy") == 0.5).all()
    again = ProbsFileSink(tmp_path / "deep" / "a.npy", 2, (3, 4))
    again.abandon()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.npy"]
    last = ProbsFileSink(tmp_path / "deep" / "b.npy", 2, (3, 4))
    monkeypatch.setattr(sinks.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OutputError, match=r"b\.npy: cannot be written \(No space"):
        last.close()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.npy"]


def test_the_png_has_the_labels_and_knows_the_confidence(tmp_path: Path):
    source = ArraySource(make_image())
    png = PNGSink(tmp_path / "a.png", LABELS, source.size)
    overlay = OverlayFileSink(tmp_path / "a", png, LABELS, source)
    expected = Predictor(NumPyEngine(), labels=LABELS).predict(source.pixels, probs=True)
    Predictor(NumPyEngine(), labels=LABELS, tile=24).segment(source, [png, overlay])
    assert list(tmp_path.iterdir()) == []
    png.close()
    overlay.close()
    np.testing.assert_array_equal(read_label(tmp_path / "a.png"), expected.label_map)
    assert png.confidence == pytest.approx(expected.probs.max(0).mean(), abs=1e-6)
    assert overlay.path == tmp_path / "a.overlay.jpg"
    assert overlay.path.is_file()


class WindowedSource:
    """A source that can only be read in windows, and says how large they were."""

    name, spec, warnings = "windowed", RGB, ("it was read in windows",)

    def __init__(self, image: np.ndarray) -> None:
        self._image, self.size, self.read_sizes = image, image.shape[:2], []

    def read(self, window: Window) -> np.ndarray:
        self.read_sizes.append((window.bottom - window.top, window.right - window.left))
        return self._image[window.slices].copy()


@pytest.mark.parametrize("settings", [{}, {"crf": {"iterations": 1}}])
def test_a_source_is_read_window_by_window(settings: dict[str, object]):
    image = make_image(120, 200)
    source, label_map = WindowedSource(image), LabelMapSink((120, 200))
    predictor = Predictor(NumPyEngine(), labels=LABELS, tile=20, **settings)
    assert predictor.segment(source, [label_map]).warnings == ("it was read in windows",)
    np.testing.assert_array_equal(label_map.label_map, predictor.predict(image).label_map)
    tiles = [size for size in source.read_sizes if size != (120, 200)]
    assert len(tiles) > 10
    assert max(map(max, tiles)) < 60


def test_classes_that_do_not_fit_are_found_out_before_anything_is_written():
    label_map = LabelMapSink((70, 90))
    pipeline = build_pipeline(
        [Member(NumPyEngine())], InferenceSettings(), size=(70, 90), classes=4, proposer=lambda own: lambda image: None
    )
    with pytest.raises(BundleError, match="3 classes, but its labels name 4"):
        segment_image(ArraySource(make_image()), pipeline, [label_map])
