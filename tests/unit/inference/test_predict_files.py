from __future__ import annotations

import json
import os
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from upscore.data.image_files import ALPHA_WARNING, DARK_WARNING, read_image, read_image_with_metadata
from upscore.data.mask_files import read_label
from upscore.data.png_files import write_image, write_label_map
from upscore.errors import DataError, OutputError
from upscore.inference import predict_files as module
from upscore.inference import sinks, sources
from upscore.inference.predict_files import discover_images, predict_files
from upscore.inference.predictor import Predictor
from upscore.input_spec import InputSpec
from upscore.ops.geometry import Geometry
from upscore.types import LabelSpace

LABELS = LabelSpace(("dark", "red", "blue"), ((20, 20, 20), (120, 60, 60), (60, 60, 120)))


class Brightest(nn.Module):
    """Labels each pixel by itself: red, blue, or dark where neither passes a half."""

    geometry = Geometry()

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return 5 * torch.cat([torch.full_like(images[:, :1], 0.5), images[:, :1], images[:, 2:]], 1)


PREDICTOR = Predictor(Brightest(), labels=LABELS)


def make_image() -> np.ndarray:
    blocks = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8)
    return np.repeat(np.repeat(blocks, 10, axis=0), 10, axis=1)


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = tmp_path / "shots"
    for name in ("a.png", "b/a.png", "b/c.PNG"):
        write_image(folder / name, make_image())
    (folder / "notes.txt").write_text("no image")
    (folder / "._a.png").write_text("a file manager's")
    return folder


def names(paths: object, **options: object) -> list[str]:
    return [str(one.name) for one in discover_images(paths, **options).images]


def test_folders_files_and_patterns(shots: Path):
    assert names(shots) == ["a", "b/a", "b/c"]
    assert names([shots / "b" / "a.png"]) == ["a"]
    assert names(str(shots / "**" / "*.png")) == ["a", "b/a"]
    assert names(shots, exclude=shots / "b") == ["a"]


def test_a_image_named_twice_is_labelled_once(shots: Path):
    assert names([shots, shots / "a.png", str(shots / "*.png")]) == ["a", "b/a", "b/c"]


def test_equal_names_are_told_apart(shots: Path, tmp_path: Path):
    write_image(tmp_path / "other" / "a.png", make_image())
    (shots / "A.jpg").write_bytes(b"")
    found = names([shots, tmp_path / "other"])
    assert len({name.casefold() for name in found}) == len(found) == 5
    assert found == ["A_jpg", "a_png", "b/a", "b/c", "a_png-2"]


def test_names_stay_below_the_output_folder(shots: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(shots / "b")
    for given in ("../*.png", "../a.png", "../b/../*.png", ".", ".."):
        for name in names(given):
            assert ".." not in Path(name).parts
            assert not Path(name).is_absolute()


@pytest.mark.parametrize("given", ["nowhere", "nowhere/*.png", "empty", [], "shots/*.txt", "nul\0byte"])
def test_nothing_found_is_an_error(given: object, shots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        discover_images(given)


def test_links_in_a_circle_end(shots: Path):
    os.symlink(shots, shots / "b" / "again")
    assert names(shots) == ["a", "b/a", "b/c"]


def test_everything_is_written(shots: Path, tmp_path: Path):
    predictor = Predictor(Brightest(), labels=LABELS, tile=8)
    out = tmp_path / "out"
    rows = list(predict_files(predictor, shots, out, overlay=True, probs=True))
    assert [row.error for row in rows] == [None] * 3
    expected = predictor.predict(shots / "a.png", probs=True)
    np.testing.assert_array_equal(read_label(out / "a.png"), expected.label_map)
    with Image.open(out / "a.png") as written:
        assert written.mode == "P"
    probs = np.load(out / "b" / "a.probs.npy", mmap_mode="r")
    assert (probs.dtype, probs.shape) == (np.float16, (3, 20, 30))
    np.testing.assert_allclose(probs, expected.probs, atol=1e-3)
    mixed = read_image(out / "b" / "c.overlay.jpg").astype(int)
    assert abs(mixed - expected.overlay(make_image(), legend=True)).mean() < 12
    account = json.loads((out / "predictions.json").read_text())
    assert (account["labelled"], account["failed"], account["classes"]) == (3, 0, list(LABELS.names))
    first = account["predictions"][0]
    assert first["file"] == str(shots / "a.png")
    assert first["size"] == [20, 30]
    assert first["class_fractions"] == pytest.approx(expected.class_fractions())
    assert first["confidence"] == pytest.approx(expected.probs.max(0).mean(), abs=1e-5)
    assert first["outputs"] == {"labels": "a.png", "probs": "a.probs.npy", "overlay": "a.overlay.jpg"}
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]


@pytest.mark.parametrize(("width", "ending"), [(65_500, ".jpg"), (65_501, ".png"), (65_536, ".png")])
def test_overlays_that_jpeg_cannot_hold_are_png(width: int, ending: str, tmp_path: Path):
    write_image(tmp_path / "thin.png", np.full((1, width, 3), 200, np.uint8))
    (row,) = predict_files(Predictor(Brightest(), labels=LABELS), tmp_path / "thin.png", tmp_path / "out", overlay=True)
    assert row.outputs["overlay"] == f"thin.overlay{ending}"
    height, found, _ = read_image(tmp_path / "out" / row.outputs["overlay"]).shape
    assert (height > 1, found) == (True, width)


def test_a_second_run_does_not_label_the_first_ones_results(shots: Path):
    predictor = Predictor(Brightest(), labels=LABELS)
    for _ in range(2):
        assert len(list(predict_files(predictor, shots, shots / "out", overlay=True))) == 3


def test_one_bad_image_is_reported_and_the_rest_go_on(shots: Path, tmp_path: Path):
    (shots / "b" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    rows = list(predict_files(Predictor(Brightest(), labels=LABELS), shots, tmp_path / "out", probs=True))
    assert [row.error is None for row in rows] == [True, False, True]
    assert "a.png" in rows[1].error
    account = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert (account["images"], account["labelled"], account["failed"]) == (3, 2, 1)
    assert not (tmp_path / "out" / "b" / "a.png").exists()


def test_an_unwritable_place_is_known_before_any_work(shots: Path, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    model = Brightest()
    with pytest.raises(OutputError, match="file"):
        predict_files(Predictor(model, labels=LABELS), shots, tmp_path / "file")
    assert model.calls == 0


def test_a_place_that_fills_up_ends_the_work_and_leaves_no_parts(shots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sinks.os, "posix_fallocate", full)
    rows = predict_files(Predictor(Brightest(), labels=LABELS), shots, tmp_path / "out", probs=True)
    with pytest.raises(OutputError, match="No space"):
        list(rows)
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["predictions.json"]


def test_a_file_that_cannot_be_written_ends_the_work_and_leaves_no_parts(shots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(path: Path, *_: object) -> None:
        raise OutputError(f"{path}: cannot be written (No space left on device)")

    monkeypatch.setattr(sinks, "write_label_map", full)
    with pytest.raises(OutputError, match="No space"):
        list(predict_files(Predictor(Brightest(), labels=LABELS), shots, tmp_path / "out", overlay=True, probs=True))
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["predictions.json"]
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["labelled"] == 0


def test_rows_come_in_the_order_of_the_files_whatever_takes_long(tmp_path: Path):
    names = [f"{number:02}.png" for number in range(12)]
    for number, name in enumerate(names):
        write_image(tmp_path / "shots" / name, make_image().repeat(1 + 5 * (number % 3 == 0), 0))
    (tmp_path / "shots" / "04.png").write_bytes(b"no image")
    rows = list(predict_files(PREDICTOR, tmp_path / "shots", tmp_path / "out", overlay=True))
    assert [Path(row.file).name for row in rows] == names
    account = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [Path(row["file"]).name for row in account["predictions"]] == names
    assert [bool(row.error) for row in rows] == [name == "04.png" for name in names]
    for row in rows:
        assert row.error or read_label(tmp_path / "out" / row.outputs["labels"]).shape == tuple(row.size)


def test_breaking_off_still_accounts_for_what_was_done(shots: Path, tmp_path: Path):
    rows = predict_files(Predictor(Brightest(), labels=LABELS), shots, tmp_path / "out")
    next(rows)
    rows.close()
    account = json.loads((tmp_path / "out" / "predictions.json").read_text())
    written = sorted(path.name for path in (tmp_path / "out").rglob("*.png"))
    assert (account["images"], account["labelled"]) == (3, len(written))  # some beyond the first may be under way
    assert sorted(Path(row["outputs"]["labels"]).name for row in account["predictions"]) == written
    assert account["predictions"][0]["file"] == str(shots / "a.png")
    assert not list((tmp_path / "out").rglob("*.part"))


def test_large_images_are_under_way_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By their pixels, not their bytes: a plain PNG of 4 megapixels is a small file."""
    for number, size in enumerate([(30, 40), (2000, 2000), (2000, 2000), (30, 40), (30, 40), (2000, 2000)]):
        write_image(tmp_path / "shots" / f"{number}.png", np.zeros((*size, 3), np.uint8))
    held, most, lock = [0], [0], threading.Lock()

    def open_counted(path: Path, spec: InputSpec) -> sources.ArraySource:
        source = sources.open_source(path, spec)
        with lock:
            held[0] += source.pixels.size
            most[0] = max(most[0], held[0])
        return source

    def write_counted(path: Path, label_map: np.ndarray, labels: LabelSpace) -> None:
        write_label_map(path, label_map, labels)
        with lock:
            held[0] -= 3 * label_map.size

    monkeypatch.setattr(module, "open_source", open_counted)
    monkeypatch.setattr(sinks, "write_label_map", write_counted)
    monkeypatch.setattr(module, "stream", partial(module.stream, max_bytes=(module.BYTES_A_PIXEL + 3) * 2000 * 2000))
    assert len(list(predict_files(PREDICTOR, tmp_path / "shots", tmp_path / "out"))) == 6
    assert most[0] == 3 * 2000 * 2000


def test_names_that_are_no_text_survive(tmp_path: Path):
    name = os.fsdecode(b"caf\xe9.png")
    write_image(tmp_path / "shots" / "a.png", make_image())
    os.rename(tmp_path / "shots" / "a.png", tmp_path / "shots" / name)
    (row,) = predict_files(Predictor(Brightest(), labels=LABELS), tmp_path / "shots", tmp_path / "out")
    assert row.error is None
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["labelled"] == 1


def test_results_do_not_depend_on_the_tiles(shots: Path, tmp_path: Path):
    torch.manual_seed(0)
    for tile in (4, "whole"):
        list(predict_files(Predictor(Brightest(), labels=LABELS, tile=tile), shots, tmp_path / str(tile), probs=True))
    one, other = (json.loads((tmp_path / tile / "predictions.json").read_text())["predictions"] for tile in ("4", "whole"))
    for a, b in zip(one, other, strict=True):
        assert a.pop("confidence") == pytest.approx(b.pop("confidence"), abs=1e-6)
        assert a == b


@pytest.mark.parametrize("place", ["network", "reading"])
def test_an_image_that_memory_does_not_suffice_for_is_reported_and_the_rest_go_on(
    place: str, shots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def small_only(image: np.ndarray) -> np.ndarray:
        if len(image) > 100:
            raise MemoryError
        return image

    class Small(Brightest):
        def forward(self, images: Tensor) -> Tensor:
            if place == "network":
                small_only(images[0, 0])
            return super().forward(images)

    write_image(shots / "b" / "a.png", np.zeros((101, 3, 3), np.uint8))
    if place == "reading":
        monkeypatch.setattr(
            sources,
            "read_image_with_metadata",
            lambda path, spec: small_only(read_image(path)) is not None and read_image_with_metadata(path),
        )
    rows = list(predict_files(Predictor(Small(), labels=LABELS), shots, tmp_path / "out"))
    assert [row.error is None for row in rows] == [True, False, True]
    assert rows[1].error.startswith(f"{shots / 'b' / 'a.png'}: out of memory while")
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["failed"] == 1


def test_what_was_left_out_is_in_the_account(shots: Path, tmp_path: Path):
    list(predict_files(Predictor(Brightest(), labels=LABELS), shots, tmp_path / "out"))
    account = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert account["left_out"] == 2
    assert account["warnings"] == [
        f"{shots}: 1 file was left out as not named like an image that can be read: 1 .txt",
        f"{shots}: 1 hidden image was left out (names that begin with a dot): '._a.png'",
    ]


def test_an_image_to_label_is_never_replaced_by_labels(shots: Path):
    before = (shots / "a.png").read_bytes()
    with pytest.raises(OutputError, match=r"a\.png: the labels of .*a\.png' would replace this image: choose another"):
        predict_files(Predictor(Brightest(), labels=LABELS), shots / "a.png", shots)
    (shots / "x.jpg").write_bytes(before)
    with pytest.raises(OutputError, match="would replace this image"):
        predict_files(Predictor(Brightest(), labels=LABELS), [shots / "x.jpg", shots / "b" / ".." / "a.png"], shots / "b" / "..")
    assert (shots / "a.png").read_bytes() == before
    rows = list(predict_files(Predictor(Brightest(), labels=LABELS), shots / "x.jpg", shots))
    assert [row.error for row in rows] == [None]


def test_an_output_folder_whose_name_is_no_text(shots: Path, tmp_path: Path):
    out = tmp_path / os.fsdecode(b"caf\xe9")
    (row, *_) = list(predict_files(Predictor(Brightest(), labels=LABELS), shots, out, overlay=True, probs=True))
    assert (out / row.outputs["overlay"]).is_file()
    assert json.loads((out / "predictions.json").read_bytes().decode("utf-8"))["labelled"] == 3


@pytest.mark.parametrize("shape", [(1, 65510), (65510, 1), (1, 65501), (1, 65500)])
def test_an_image_longer_than_any_jpeg_is_laid_over_in_a_png(shape: tuple[int, int], tmp_path: Path):
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
    write_image(tmp_path / "long.png", image)
    (row,) = predict_files(PREDICTOR, tmp_path / "long.png", tmp_path / "out", overlay=True)
    assert row.error is None
    assert read_label(tmp_path / "out" / row.outputs["labels"]).shape == shape
    expected = PREDICTOR.predict(image).overlay(image, legend=True)
    assert read_image(tmp_path / "out" / row.outputs["overlay"]).shape == expected.shape
    long = max(shape) > 65500
    assert row.outputs["overlay"] == f"long.overlay.{'png' if long else 'jpg'}"
    assert row.warnings == ([module.OVERLAY_WARNING] if long else [])
    if long:
        assert np.array_equal(read_image(tmp_path / "out" / row.outputs["overlay"]), expected)


def test_what_the_reader_decided_is_noted_of_a_prediction(tmp_path: Path):
    clear = np.full((6, 8, 4), 99, np.uint8)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    Image.fromarray(np.full((6, 8), 4095, np.uint16)).save(tmp_path / "dark.png")
    Image.fromarray(clear[..., :3]).save(tmp_path / "plain.png")
    notes = {"clear.png": [ALPHA_WARNING], "dark.png": [DARK_WARNING], "plain.png": []}
    rows = {Path(row.file).name: row for row in predict_files(PREDICTOR, tmp_path, tmp_path / "out")}
    assert {name: row.warnings for name, row in rows.items()} == notes
    for name, expected in notes.items():
        assert list(PREDICTOR.predict(tmp_path / name).warnings) == expected


def test_circles_of_links_and_names_that_no_file_can_have_are_no_accident(tmp_path: Path):
    (tmp_path / "a.png").symlink_to("a.png")
    (tmp_path / "b.png").touch()
    (tmp_path / "out").symlink_to("out")
    found = discover_images(tmp_path, exclude=tmp_path / "out")
    assert [image.path for image in found.images] == [tmp_path / "b.png"]
    assert discover_images(tmp_path / "b.png", exclude="a\0b").images
    for name in ("x" * 10**6, "a\0b", "*" * 10**5, "\ud800", ""):
        with pytest.raises(DataError):
            discover_images(name)


def test_progress_is_that_of_each_image_tile_by_tile(shots: Path, tmp_path: Path):
    seen = []
    list(
        predict_files(
            Predictor(Brightest(), labels=LABELS, tile=8), shots / "a.png", tmp_path / "out", progress=lambda *at: seen.append(at)
        )
    )
    assert {path for path, _, _ in seen} == {shots / "a.png"}
    done = [pixels for _, pixels, _ in seen]
    assert done == sorted(set(done))
    assert (len(done) > 4, done[-1]) == (True, 20 * 30)
    assert {total for _, _, total in seen} == {20 * 30}


def stop_after(count, shots, out, **values):
    """Predict until so many images are done, and stop."""
    with closing(predict_files(Predictor(Brightest(), labels=LABELS), shots, out, **values)) as rows:
        for _ in range(count):
            next(rows)


def test_what_was_interrupted_goes_on_with_the_rest(shots: Path, tmp_path: Path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(module, "stream", partial(module.stream, max_items=1))
    stop_after(2, shots, out, overlay=True)
    account = json.loads((out / "predictions.json").read_text())
    assert (account["images"], account["labelled"], len(account["predictions"])) == (3, 2, 2)
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    predictor = Predictor(Brightest(), labels=LABELS)
    (row,) = predict_files(predictor, shots, out, overlay=True, resume=True)
    whole = tmp_path / "whole"
    expected = list(predict_files(predictor, shots, whole, overlay=True))
    assert row == expected[2]
    assert json.loads((out / "predictions.json").read_text()) == json.loads((whole / "predictions.json").read_text())
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert list(predict_files(predictor, shots, out, overlay=True, resume=True)) == []


def test_an_image_is_labelled_again_whose_files_are_gone_or_fewer(shots: Path, tmp_path: Path):
    out, predictor = tmp_path / "out", Predictor(Brightest(), labels=LABELS)
    list(predict_files(predictor, shots, out))
    (out / "a.png").unlink()
    assert [Path(row.file).name for row in predict_files(predictor, shots, out, resume=True)] == ["a.png"]
    assert len(list(predict_files(predictor, shots, out, overlay=True, resume=True))) == 3
    (shots / "a.png").write_bytes(b"broken")
    (out / "a.png").unlink()
    assert [bool(row.error) for row in predict_files(predictor, shots, out, overlay=True, resume=True)] == [True]
    assert [bool(row.error) for row in predict_files(predictor, shots, out, overlay=True, resume=True)] == [True], "it is tried again"


def test_only_what_is_the_same_prediction_goes_on(shots: Path, tmp_path: Path):
    out = tmp_path / "out"
    list(predict_files(Predictor(Brightest(), labels=LABELS), shots, out))
    with pytest.raises(OutputError, match=r"predictions\.json: differs from this prediction in its settings: leave --resume out"):
        predict_files(Predictor(Brightest(), labels=LABELS, flips=True), shots, out, resume=True)
    with pytest.raises(OutputError, match="differs from this prediction in its classes"):
        predict_files(Predictor(Brightest(), labels=LabelSpace(("a", "b", "c"))), shots, out, resume=True)
    for content in ("", "[]", "{}", '{"predictions": 3}', "\0"):
        (out / "predictions.json").write_text(content)
        with pytest.raises(OutputError, match="is no account of predictions"):
            predict_files(Predictor(Brightest(), labels=LABELS), shots, out, resume=True)
    assert len(list(predict_files(Predictor(Brightest(), labels=LABELS), shots, tmp_path / "new", resume=True))) == 3
