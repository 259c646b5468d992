"""Which images without masks to label next, written as tasks with the network's predictions to correct.

::

    next/
    ├── next.json     the chosen images in order: how uncertain the network is of each, and how far it is from those before it
    └── labelme/      the images with the predictions, or label-studio/ or another format
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from upscore.data.dataset import Dataset
from upscore.data.pixel_digests import digest_image, digest_pixels, read_digests
from upscore.data.write_dataset import find_writer
from upscore.data.writer import AnnotatedImage
from upscore.errors import DataError, UpscoreError
from upscore.files import refuse_full, replace_folder
from upscore.inference.file_discovery import DiscoveredImages, NamedImage, discover_images
from upscore.inference.predictor import Predictor
from upscore.inference.sources import open_source
from upscore.review.diversity import choose_diverse
from upscore.review.review_files import as_json, write_tasks
from upscore.review.uncertainty import UncertaintySink
from upscore.text import listed

__all__ = ["ChosenImage", "NextImages", "choose_next", "write_next"]

LIST = "next.json"


@dataclass(frozen=True)
class ChosenImage:
    """One image to label next."""

    image: NamedImage
    uncertainty: float  #: of the network, 0 to 1, as :class:`upscore.review.uncertainty.UncertaintySink`
    distance: float  #: of its descriptor to the nearest of those chosen before it; inf for the first
    nearest: Path | None  #: that one


@dataclass(frozen=True, eq=False)
class NextImages:
    """The images to label next, and what became of the others."""

    predictor: Predictor
    chosen: tuple[ChosenImage, ...]  #: in the order in which they were chosen
    examined: int  #: images that could have been chosen
    labelled: tuple[Path, ...] = ()  #: images that have a mask already
    repeated: tuple[Path, ...] = ()  #: images with the pixels of another one
    unreadable: tuple[str, ...] = field(default=())  #: why images cannot be read
    messages: tuple[str, ...] = ()


def choose_next(
    predictor: Predictor,
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | DiscoveredImages,
    count: int,
    *,
    labelled: Sequence[Dataset] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> NextImages:
    """Choose images to label next: those that a network is uncertain of, and that differ from one another.

    One image is in memory at a time. How they are chosen: :func:`upscore.review.diversity.choose_diverse`.

    Parameters
    ----------
    predictor : Predictor
        The network.
    images : path, sequence of path, or DiscoveredImages
        As :func:`upscore.inference.file_discovery.discover_images` takes them.
    count : int
        How many to choose, at least 1; all where there are fewer.
    labelled : sequence of Dataset
        Images that have masks. Images with the same pixels are left out, and so are those that the network was trained on, as far as the
        bundle's card tells.
    progress : callable
        Called with (images examined, number of images).

    Raises
    ------
    DataError
        ``count`` is below 1; no image is left to choose.
    """
    if count < 1:
        raise DataError(f"found {count} images to choose, expected at least 1")
    found = images if isinstance(images, DiscoveredImages) else discover_images(images)
    known = frozenset[bytes]().union(*map(read_digests, predictor.cards)) | _digests(labelled)
    seen: set[bytes] = set()
    have_masks, repeated, unreadable = list[Path](), list[Path](), list[str]()
    candidates: list[NamedImage] = []
    uncertainty, descriptors = list[float](), list[npt.NDArray[np.float64]]()
    for done, image in enumerate(found.images, start=1):
        try:
            source = open_source(image.path, predictor.input)
            digest = digest_pixels(source.pixels)
            if digest in known:
                have_masks.append(image.path)
            elif digest in seen:
                repeated.append(image.path)
            else:
                sink = UncertaintySink(len(predictor.labels), source.size)
                predictor.segment(source, [sink])
                seen.add(digest)
                candidates.append(image)
                uncertainty.append(sink.uncertainty())
                descriptors.append(sink.descriptor())
        except DataError as error:
            unreadable.append(str(error))
        progress(done, len(found.images))
    if not candidates:
        others = f", first {unreadable[0]}" if unreadable else ""
        raise DataError(
            f"found no image to label: of {len(found.images)}, {len(have_masks)} have masks already, and {len(unreadable)} cannot be "
            f"read{others}; expected at least one"
        )
    choices = choose_diverse(np.array(uncertainty), np.array(descriptors), count)
    chosen = [
        ChosenImage(candidates[c.index], uncertainty[c.index], c.distance, None if c.nearest < 0 else candidates[c.nearest].path)
        for c in choices
    ]
    messages = [*found.warnings]
    if have_masks:
        messages.append(f"{len(have_masks)} images have masks already and were left out ({listed(have_masks)})")
    if repeated:
        messages.append(f"{len(repeated)} images have the pixels of another one and were left out ({listed(repeated)})")
    if unreadable:
        messages.append(f"{len(unreadable)} images cannot be read and were left out, first {unreadable[0]}")
    if len(chosen) < count:
        messages.append(f"all {len(chosen)} images were chosen, fewer than the {count} asked for")
    return NextImages(predictor, tuple(chosen), len(candidates), tuple(have_masks), tuple(repeated), tuple(unreadable), tuple(messages))


def write_next(
    found: NextImages, folder: str | os.PathLike[str], *, tool: str = "labelme",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:  # fmt: skip
    """Write the chosen images, with the network's predictions to correct, in the format of a labelling tool; return its folder.

    Each image is labelled by the network once more. ``next.json`` in ``folder`` lists them. What an earlier call wrote is not replaced,
    since it may have been corrected. ``progress`` is called with (images written, number of images).

    Raises
    ------
    DataError
        ``tool`` is none of :data:`upscore.data.write_dataset.WRITERS` that hold predictions.
    OutputError
        The folder is not empty, or cannot be written.
    """
    find_writer(tool, predictions=True)
    folder = Path(folder)
    refuse_full(folder, what="the images to label")
    with replace_folder(folder, what="folder of images to label", holds=()) as partial:
        write_tasks(_annotated(found, progress), partial, found.predictor.labels, [tool], model=found.predictor.source, name=folder.name)
        (partial / LIST).write_bytes(as_json(_described(found, tool)))
    return folder.absolute() / tool


def _annotated(found: NextImages, progress: Callable[[int, int], None]) -> Iterator[AnnotatedImage]:
    for done, chosen in enumerate(found.chosen, start=1):
        source = open_source(chosen.image.path, found.predictor.input)
        prediction = found.predictor.predict(source.pixels, name=source.name).label_map
        name = f"{chosen.image.name}{chosen.image.path.suffix}"
        yield AnnotatedImage(name, prediction=prediction, score=1 - chosen.uncertainty, file=chosen.image.path, pixels=source.pixels)
        progress(done, len(found.chosen))


def _described(found: NextImages, tool: str) -> dict[str, object]:
    return {
        "run": found.predictor.source,
        "format": tool,
        "examined": found.examined,
        "labelled_already": [str(path) for path in found.labelled],
        "repeated": [str(path) for path in found.repeated],
        "unreadable": list(found.unreadable),
        "images": [
            {
                "rank": rank,
                "file": str(chosen.image.path),
                "uncertainty": round(chosen.uncertainty, 4),
                "distance": None if chosen.nearest is None else round(chosen.distance, 4),
                "nearest": None if chosen.nearest is None else str(chosen.nearest),
                "reason": _reason(chosen),
            }
            for rank, chosen in enumerate(found.chosen, start=1)
        ],
    }


def _reason(chosen: ChosenImage) -> str:
    uncertain = f"its most uncertain pixels have {chosen.uncertainty:.0%} of the largest entropy"
    return uncertain if chosen.nearest is None else f"{uncertain}, and it differs by {chosen.distance:.2f} from all images before it"


def _digests(labelled: Sequence[Dataset]) -> frozenset[bytes]:
    digests = set()
    for dataset in labelled:
        for index in range(len(dataset)):
            try:
                digests.add(digest_image(dataset, index))
            except UpscoreError:  # what cannot be read is no image that could be chosen
                continue
    return frozenset(digests)
