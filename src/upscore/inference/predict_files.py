"""Folders of images in, label maps, overlays, probabilities and one account of them out.

For an image ``street/0001.jpg`` of a folder ``shots`` given on the command line::

    out/street/0001.png           label map: palette PNG, exactly the image's size
    out/street/0001.overlay.jpg   the label map over the image          (overlay=True)
    out/street/0001.probs.npy     (K, H, W) float16, can be memory-mapped (probs=True)
    out/predictions.json          what became of every image

Every file appears whole or not at all. An image that cannot be read is reported and the
rest go on; a place that cannot be written ends the work, for it would end all of it.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from upscore.data.image_files import read_image_with_metadata, write_image, write_label_map
from upscore.errors import OutputError, UpscoreError
from upscore.files import write_atomically
from upscore.inference.file_discovery import Found, NamedImage, discover_images
from upscore.inference.predictor import Predictor
from upscore.ops.out_of_memory import is_out_of_memory
from upscore.types import Prediction

__all__ = ["Found", "LabelledImage", "NamedImage", "discover_images", "predict_files"]

OVERLAY_NOTE = "overlay written as a PNG: a JPEG has at most 65500 pixels a side"
"""What is noted of an image whose overlay is no JPEG."""

_OVERLAY_PIXELS = 2**20
_JPEG_MOST = 65500  # libjpeg's own limit, a little below the format's


@dataclass(frozen=True)
class LabelledImage:
    """What became of one image; the rows of ``predictions.json``.

    Parameters
    ----------
    file : str
        The image's path.
    size : (int, int), optional
        Height and width in pixels; none if it could not be read.
    shares : dict of str to float
        Each class's share of the pixels, by name.
    confidence : float, optional
        Mean over the pixels of the greatest class probability, 0 to 1.
    outputs : dict of str to str
        Files written, relative to the output folder, by kind: labels, overlay, probs.
    error : str, optional
        Why there are none.
    notes : list of str
        What should be known of how it was read and labelled: an alpha channel, that there were no proposals.
    """

    file: str
    size: tuple[int, int] | None = None
    shares: dict[str, float] = field(default_factory=dict)
    confidence: float | None = None
    outputs: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    notes: list[str] = field(default_factory=list)


def predict_files(
    predictor: Predictor,
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | Found,
    out: str | os.PathLike[str],
    *,
    overlay: bool = False,
    probs: bool = False,
) -> Generator[LabelledImage, None, None]:
    """Label images and write the results; yields one row for each, as it is done.

    Everything that can be known beforehand (what is meant, whether ``out`` can be written)
    is checked before the first image. ``predictions.json`` is written at the end, also
    when the work is broken off; its ``failed`` counts the images that could not be labelled, its
    ``left_out`` the files of folders and patterns that were not taken for images, and its ``notes`` say which.

    Parameters
    ----------
    predictor : Predictor
        Labels them.
    paths
        As for :func:`discover_images`, or what it found with ``out`` excluded.
    out : path
        Folder for the results; made if need be. Files of the same name are replaced.
    overlay : bool
        Write ``.overlay.jpg`` (``.overlay.png`` for an image with more than 65500 pixels a side, which no JPEG can hold).
    probs : bool
        Write ``.probs.npy``, (K, H, W) float16, not compressed, so that it can be written
        and read in pieces: 2 × K bytes a pixel.

    Yields
    ------
    LabelledImage
        With ``error`` set where an image could not be labelled.

    Raises
    ------
    DataError
        As :func:`discover_images`.
    OutputError
        The output folder, or a file in it, cannot be written, or a result would replace an image that is to be labelled.
    """
    folder = Path(out)
    found = paths if isinstance(paths, Found) else discover_images(paths, exclude=folder)
    _check_nothing_replaced(found, folder)
    _check_writable(folder)
    return _label_all(predictor, found, folder, overlay=overlay, probs=probs)


def _label_all(predictor: Predictor, found: Found, folder: Path, *, overlay: bool, probs: bool) -> Generator[LabelledImage, None, None]:
    rows: list[LabelledImage] = []
    try:
        for image in found.images:
            try:
                row = _label(predictor, image, folder, overlay=overlay, probs=probs)
            except OutputError:
                raise
            except UpscoreError as error:
                row = LabelledImage(str(image.path), error=str(error))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                less = "close other programs, leave out overlays and probabilities, or cut it into smaller images"
                what = f"{image.path}: out of memory while it was read or its labels were written: {less}"
                row = LabelledImage(str(image.path), error=what)
            rows.append(row)
            yield row
    finally:
        failed = sum(row.error is not None for row in rows)
        account = {
            "model": predictor.source,
            "classes": list(predictor.labels.names),
            "settings": predictor.settings.model_dump(mode="json"),
            "images": len(found.images),
            "labelled": len(rows) - failed,
            "failed": failed,
            "left_out": found.left_out,
            "notes": list(found.notes),
            "predictions": [asdict(row) for row in rows],
        }
        write_atomically(folder / "predictions.json", _as_json(account))


def _as_json(account: dict[str, object]) -> bytes:
    # File names may hold bytes that are no text; they are kept as escapes.
    return (json.dumps(account, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _label(predictor: Predictor, image: NamedImage, folder: Path, *, overlay: bool, probs: bool) -> LabelledImage:
    read = read_image_with_metadata(image.path)
    pixels = read.pixels
    height, width = pixels.shape[:2]
    label_map = np.empty((height, width), np.uint8)
    outputs = {"labels": f"{image.name}.png"}
    total, notes = 0.0, [*read.warnings]
    with _probabilities_file(folder / f"{image.name}.probs.npy", (len(predictor.labels), height, width), wanted=probs) as kept:
        for window, part in predictor.iterate(pixels, name=str(image.path), note=notes.append):
            greatest, label = part.max(0)
            label_map[window.slices] = label.to(torch.uint8).cpu().numpy()
            total += float(greatest.sum(dtype=torch.float64 if part.device.type != "mps" else None))
            if kept is not None:
                kept[(slice(None), *window.slices)] = part.cpu().numpy()
    if probs:
        outputs["probs"] = f"{image.name}.probs.npy"
    prediction = Prediction(label_map, predictor.labels, key=str(image.path))
    write_label_map(folder / outputs["labels"], label_map, predictor.labels)
    if overlay:
        outputs["overlay"] = _write_overlay(folder, f"{image.name}.overlay", _lay_over(prediction, pixels))
        if outputs["overlay"].endswith(".png"):
            notes.append(OVERLAY_NOTE)
    return LabelledImage(str(image.path), (height, width), prediction.class_fractions(), total / (height * width), outputs, notes=notes)


def _write_overlay(folder: Path, name: str, overlay: npt.NDArray[np.uint8]) -> str:
    """Write an overlay as a JPEG, or as a PNG where a side is too long for one; return the file's name."""
    if max(overlay.shape[:2]) <= _JPEG_MOST:
        done, encoded = cv2.imencode(".jpg", overlay[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
        if done:
            write_atomically(folder / f"{name}.jpg", encoded.tobytes())
            return f"{name}.jpg"
    write_image(folder / f"{name}.png", overlay)
    return f"{name}.png"


def _lay_over(prediction: Prediction, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the overlay, made some pixels at a time: the mixing is done in floating point."""
    mixed = np.empty(image.shape, np.uint8)
    label_map, source, target = prediction.label_map.reshape(1, -1), image.reshape(1, -1, 3), mixed.reshape(1, -1, 3)
    for begin in range(0, label_map.size, _OVERLAY_PIXELS):
        part = slice(begin, begin + _OVERLAY_PIXELS)
        target[:, part] = Prediction(label_map[:, part], prediction.labels).overlay(source[:, part])
    return mixed


@contextmanager
def _probabilities_file(path: Path, shape: tuple[int, int, int], *, wanted: bool) -> Iterator[npt.NDArray[np.float16] | None]:
    """Give an array on disk to fill; it takes its name when it is full, and is gone if that fails."""
    if not wanted:
        yield None
        return
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Room is taken up at once: a memory map that outgrows the disk would end the process.
        with temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
            begin = file.tell()
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, begin + 2 * int(np.prod(shape)))
            else:
                file.truncate(begin + 2 * int(np.prod(shape)))
        array = np.memmap(temporary, np.float16, mode="r+", offset=begin, shape=shape)
        yield array
        array.flush()
        del array
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}): free some space or choose another place") from None
    finally:
        temporary.unlink(missing_ok=True)


def _check_nothing_replaced(found: Found, folder: Path) -> None:
    """Refuse to write a result over an image that is to be labelled."""
    images = {os.path.realpath(image.path): image.path for image in found.images}
    inside = os.path.realpath(folder)
    for image in found.images:
        for ending in (".png", ".overlay.jpg", ".overlay.png"):
            if (replaced := images.get(os.path.join(inside, f"{image.name}{ending}"))) is not None:
                raise OutputError(f"{replaced}: the labels of '{image.path}' would replace this image: choose another output folder")


def _check_writable(folder: Path) -> None:
    probe = folder / f".{secrets.token_hex(8)}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise OutputError(f"{folder}: results cannot be written there ({reason}): choose another folder") from None
