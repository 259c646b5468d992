"""Folders of images in, label maps, overlays, probabilities and one account of them out.

For an image ``street/0001.jpg`` of a folder ``shots`` given on the command line::

    out/street/0001.png           label map: palette PNG, exactly the image's size
    out/street/0001.overlay.jpg   the classes over the image, a legend   (overlay=True)
    out/street/0001.probs.npy     (K, H, W) float16, can be memory-mapped (probs=True)
    out/objects.json              the objects of all images in COCO's format (objects=ObjectSettings())
    out/labelme/street/0001.json  the classes as an annotation tool's own shapes (prelabels=PreLabelSettings("labelme"))
    out/predictions.json          what became of every image

Every file appears whole or not at all. An image that cannot be read is reported and the
rest go on; an output folder that cannot be written to ends the work, for it would end all of it.
Images are decoded, and results encoded, in threads beside the network (:mod:`upscore.inference.streaming`).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from upscore.data.image_files import find_stored_input, inspect_image
from upscore.data.tiff import list_pages
from upscore.errors import DataError, OutputError, UpscoreError
from upscore.inference.file_discovery import DiscoveredImages, NamedImage, discover_images
from upscore.inference.object_detection import OBJECT_BYTES_A_PIXEL, ObjectSettings, choose_origin, segment_objects
from upscore.inference.objects_file import OBJECTS, ObjectsFile
from upscore.inference.prediction_account import LabelledImage, list_labelled, read_labelled, write_account
from upscore.inference.predictor import Predictor
from upscore.inference.prelabels import PRELABELS, TRACING_BYTES_A_PIXEL, PreLabelFiles, PreLabelSettings
from upscore.inference.sinks import OverlayFileSink, PNGSink, ProbsFileSink, Sink
from upscore.inference.sources import ImageSource, open_source
from upscore.inference.streaming import stream
from upscore.input_spec import RGB, InputSpec
from upscore.objects.coco_file import describe_object
from upscore.objects.detected import DetectedObject
from upscore.ops.out_of_memory import is_out_of_memory
from upscore.types import Prediction

__all__ = [
    "DiscoveredImages",
    "LabelledImage",
    "NamedImage",
    "count_pixels",
    "discover_images",
    "expand_pages",
    "list_labelled",
    "predict_files",
]

OVERLAY_WARNING = "overlay written as a PNG: a JPEG has at most 65500 pixels a side"
"""The warning of an image whose overlay is no JPEG."""

BYTES_A_PIXEL = 13
"""An image's label map, and its overlay while it is encoded; the image itself comes on top."""


def predict_files(
    predictor: Predictor,
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | DiscoveredImages,
    out: str | os.PathLike[str],
    *,
    overlay: bool = False,
    probs: bool = False,
    objects: ObjectSettings | None = None,
    prelabels: PreLabelSettings | None = None,
    resume: bool = False,
    progress: Callable[[Path, int, int], None] | None = None,
) -> Generator[LabelledImage, None, None]:
    """Label images and write the results; yields one row for each, in order, when its files are written.

    Everything that can be known beforehand (what is meant, whether ``out`` can be written)
    is checked before the first image. ``predictions.json`` is written at the end, also
    when the work is broken off: it lists every image whose files were written. Its ``failed`` counts the images that
    could not be labelled, its ``left_out`` the files of folders and patterns that were not taken for images, and its
    ``warnings`` name them.

    Parameters
    ----------
    predictor : Predictor
        Labels them.
    paths
        As for :func:`discover_images`, or what it found with ``out`` excluded.
    out : path
        Folder for the results; made if need be. Files of the same name are replaced.
    overlay : bool
        Write ``.overlay.jpg`` (``.overlay.png`` where it has more than 65500 pixels a side with its legend, which no JPEG can hold):
        :func:`upscore.overlay.draw_overlay` with a legend.
    probs : bool
        Write ``.probs.npy``, (K, H, W) float16, not compressed, so that it can be written
        and read in parts: 2 × K bytes a pixel.
    objects : ObjectSettings, optional
        Find the objects of each image too, as :func:`upscore.inference.object_detection.segment_objects`: ``objects.json`` holds those of
        all images (:mod:`upscore.objects.coco_file`), and overlays show their boxes. It is written at the end, like ``predictions.json``.
    prelabels : PreLabelSettings, optional
        Write the label maps as shapes for an annotation tool too (:mod:`upscore.inference.prelabels`). Those of all images are written at
        the end, also when the work is broken off; with ``resume``, those of images that are left out are made from their label maps.
    resume : bool
        Leave out the images that the ``predictions.json`` of ``out`` lists as labelled, with all these files, and list them again. It
        must be of the same network and settings. Objects that were found with other settings are found again.
    progress : callable, optional
        Called with (path, pixels done, pixels in all) of the image that is being labelled, after each tile.

    Yields
    ------
    LabelledImage
        With ``error`` set where an image could not be labelled. Images that are left out are not among them.

    Raises
    ------
    DataError, OutputError
        As :func:`discover_images`; or the output folder, or a file in it, cannot be written, or a result would replace an image that is
        to be labelled; or ``predictions.json`` is of another network or other settings than those to resume with.
    """
    folder = Path(out)
    found = paths if isinstance(paths, DiscoveredImages) else discover_images(paths, exclude=folder)
    found = expand_pages(found, predictor.input)
    _check_nothing_replaced(found, folder)
    _check_writable(folder)
    if objects is not None:
        objects = replace(objects, origin=choose_origin(predictor, objects))
    work = _FilePrediction(predictor, folder, overlay, probs, objects, prelabels, progress)
    return _label_all(work, found, read_labelled(folder, work.origin) if resume else {})


def _label_all(work: _FilePrediction, found: DiscoveredImages, earlier: dict[str, LabelledImage]) -> Generator[LabelledImage, None, None]:
    labels = work.predictor.labels
    objects = None if work.objects is None else ObjectsFile(work.folder, labels, work.objects)
    prelabels = None
    if work.prelabels is not None:
        prelabels = PreLabelFiles(work.folder, labels, work.prelabels, found.images, work.predictor.source)
    if objects is not None and earlier:
        objects.restore()
    for labelled_before in earlier.values():
        labelled_before.outputs.pop(PRELABELS, None)  # they are made anew from the label map
    rows = {
        image: row
        for image in found.images
        if (row := earlier.get(str(image.path))) and work.is_complete(image, row) and (objects is None or objects.holds(row.file))
    }

    def write(labelled: _Labelled) -> LabelledImage:
        rows[labelled.image] = row = work.write(labelled)
        if objects is not None and row.size is not None:
            objects.hold(row.file, row.size, [describe_object(each) for each in labelled.objects])
        if prelabels is not None and row.size is not None:
            prelabels.hold(row, labelled.label_map)
        return row

    try:
        if objects is not None:
            objects.begin(row.file for row in rows.values())
        if prelabels is not None:
            for image, row in list(rows.items()):
                if prelabels.restore(row):
                    prelabels.write([row.file])
                else:
                    del rows[image]
        left = [image for image in found.images if image not in rows]
        with closing(stream(left, read=work.read, compute=work.label, write=write, weigh=work.weigh)) as labelled:
            for row in labelled:
                if objects is not None:
                    objects.write([row.file])
                if prelabels is not None:
                    prelabels.write([row.file])
                yield row
    finally:
        with ExitStack() as ending:  # each is done whether the others fail or not, the last one first
            if objects is not None:
                ending.callback(objects.close)
            ending.callback(write_account, work.folder, _account(work, found, [rows[image] for image in found.images if image in rows]))
            if prelabels is not None:
                ending.callback(prelabels.close)


def _account(work: _FilePrediction, found: DiscoveredImages, rows: Sequence[LabelledImage]) -> dict[str, object]:
    failed = sum(row.error is not None for row in rows)
    return {
        **work.origin,
        "images": len(found.images),
        "labelled": len(rows) - failed,
        "failed": failed,
        "left_out": found.left_out,
        "warnings": list(found.warnings),
        "predictions": [asdict(row) for row in rows],
    }


def count_pixels(image: NamedImage, spec: InputSpec = RGB) -> int:
    """Return the pixels of an image of the bands of ``spec`` by its header; 1 where that cannot be read."""
    try:
        height, width = inspect_image(image.path, spec).size
    except Exception:  # labelling it reports why
        return 1
    return height * width


class _Labelled(NamedTuple):
    """An image on its way: its labels and the sinks that hold them, or why there are none."""

    image: NamedImage
    error: str | None
    sinks: tuple[Sink, ...] = ()
    warnings: tuple[str, ...] = ()
    objects: Sequence[DetectedObject] = ()

    @property
    def label_map(self) -> npt.NDArray[np.uint8]:
        """The label map (H, W), where there is no error."""
        (sink, *_) = self.sinks
        assert isinstance(sink, PNGSink)
        return sink.label_map


Value = TypeVar("Value")


@dataclass(frozen=True, eq=False)
class _FilePrediction:
    """The three steps of each image; see :func:`predict_files` for the fields."""

    predictor: Predictor
    folder: Path
    overlay: bool
    probs: bool
    objects: ObjectSettings | None = None
    prelabels: PreLabelSettings | None = None
    progress: Callable[[Path, int, int], None] | None = None

    @property
    def origin(self) -> dict[str, object]:
        """What the results depend on besides the images, as JSON."""
        return {
            "model": self.predictor.source,
            "classes": list(self.predictor.labels.names),
            "settings": self.predictor.settings.model_dump(mode="json"),
        }

    def is_complete(self, image: NamedImage, row: LabelledImage) -> bool:
        """Return whether an earlier row of an image has every file that is asked for, under the name it has now."""
        kinds = {"labels", *(["overlay"] if self.overlay else []), *(["probs"] if self.probs else [])}
        kinds |= set() if self.objects is None else {"objects"}
        named = row.outputs.get("labels") == f"{image.name}.png"
        return named and kinds <= row.outputs.keys() and all((self.folder / path).is_file() for path in row.outputs.values())

    def weigh(self, image: NamedImage) -> int:
        """Return the bytes an image takes while it is under way."""
        spec = self.predictor.input
        each = BYTES_A_PIXEL + (0 if self.objects is None else OBJECT_BYTES_A_PIXEL)
        each += 0 if self.prelabels is None else TRACING_BYTES_A_PIXEL
        return (each + len(spec) * np.dtype(spec.dtype).itemsize) * count_pixels(image, spec)

    def read(self, image: NamedImage) -> ImageSource | str:
        """Return the decoded image, or why there is none."""
        return _attempt(image, lambda: open_source(image.path, self.predictor.input))

    def label(self, image: NamedImage, source: ImageSource | str) -> _Labelled:
        """Return the labels, not written yet."""
        if isinstance(source, str):
            return _Labelled(image, source)
        labelled = _attempt(image, lambda: self._label(image, source))
        return _Labelled(image, labelled) if isinstance(labelled, str) else labelled

    def _label(self, image: NamedImage, source: ImageSource) -> _Labelled:
        stem, labels = self.folder / image.name, self.predictor.labels
        label_map = PNGSink(stem.with_name(f"{stem.name}.png"), labels, source.size)
        sinks: list[Sink] = [label_map]
        if self.probs:
            sinks.append(ProbsFileSink(stem.with_name(f"{stem.name}.probs.npy"), len(labels), source.size))
        if self.overlay:
            sinks.append(OverlayFileSink(stem, label_map, labels, source))
        show = self.progress
        report = None if show is None else lambda done, total: show(image.path, done, total)
        if self.objects is None:
            return _Labelled(image, None, tuple(sinks), self.predictor.segment(source, sinks, progress=report).warnings)
        objects, segmentation = segment_objects(self.predictor, source, self.objects, sinks, progress=report)
        for sink in sinks:
            if isinstance(sink, OverlayFileSink):
                sink.objects = objects
        return _Labelled(image, None, tuple(sinks), segmentation.warnings, objects)

    def write(self, labelled: _Labelled) -> LabelledImage:
        """Write the files and return the row; every file of an image whose writing fails is abandoned, if it is not written yet."""
        row = labelled.error if labelled.error is not None else _attempt(labelled.image, lambda: self._write(labelled))
        return LabelledImage(str(labelled.image.path), error=row) if isinstance(row, str) else row

    def _write(self, labelled: _Labelled) -> LabelledImage:
        try:
            for sink in labelled.sinks:
                sink.close()
        except BaseException:
            for sink in labelled.sinks:
                sink.abandon()
            raise
        label_map, warnings = labelled.sinks[0], list(labelled.warnings)
        assert isinstance(label_map, PNGSink)
        name = labelled.image.name
        outputs = {"labels": f"{name}.png"} | ({} if self.objects is None else {"objects": OBJECTS})
        for sink in labelled.sinks:
            if isinstance(sink, ProbsFileSink):
                outputs["probs"] = f"{name}.probs.npy"
            elif isinstance(sink, OverlayFileSink):
                outputs["overlay"] = f"{name}.overlay.{'jpg' if sink.is_jpeg else 'png'}"
                warnings += [] if sink.is_jpeg else [OVERLAY_WARNING]
        prediction = Prediction(label_map.label_map, self.predictor.labels)
        return LabelledImage(
            str(labelled.image.path),
            label_map.label_map.shape,
            prediction.class_fractions(),
            label_map.confidence,
            outputs,
            warnings=warnings,
        )


def _attempt(image: NamedImage, step: Callable[[], Value]) -> Value | str:
    """Return what ``step`` does, or why this image cannot be labelled; what concerns every image is raised."""
    try:
        return step()
    except OutputError:
        raise
    except UpscoreError as error:
        return str(error)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        less = "close other programs, leave out overlays and probabilities, or divide it into smaller images"
        return f"{image.path}: out of memory while it was read or its labels were written: {less}"


def expand_pages(found: DiscoveredImages, spec: InputSpec) -> DiscoveredImages:
    """Return the images with each page of a TIFF as an image of its own, unless its pages together are the bands of ``spec``."""
    images: list[NamedImage] = []
    warnings = list(found.warnings)
    for image in found.images:
        pages = list_pages(image.path)
        if len(pages) == 1 or _holds_bands(image.path, spec):
            images.append(image)
            continue
        warnings.append(f"{image.path}: {len(pages)} pages, each of which is an image of its own")
        images += [NamedImage(page, image.name / page.name) for page in pages]
    return replace(found, images=tuple(images), warnings=tuple(warnings))


def _holds_bands(path: Path, spec: InputSpec) -> bool:
    try:
        return not spec.is_rgb and find_stored_input(path).fits(spec)
    except DataError:
        return False


def _check_nothing_replaced(found: DiscoveredImages, folder: Path) -> None:
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
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise OutputError(f"{folder}: results cannot be written there ({why}): choose another folder") from None
