"""What a writer of datasets is: a record with a name, and a function that begins a dataset, which images are then added to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from upscore.input_spec import Image
from upscore.objects.shapes import TracedShape
from upscore.types import LabelSpace

__all__ = ["AnnotatedImage", "DatasetWriter", "Writer", "WriterOptions", "Written"]


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """One image, with the classes of its pixels; at least one of ``truth`` and ``prediction`` is given."""

    name: str  #: its path below the folder of its split, with slashes and the suffix: "street/0001.jpg"
    truth: npt.NDArray[np.uint8] | None = None  #: (H, W) class, or 255 where ignored
    prediction: npt.NDArray[np.uint8] | None = None  #: (H, W) class, as a network predicts it
    instances: npt.NDArray[np.integer] | None = None  #: (H, W) the number of the object of each pixel of the truth, 0 for none
    score: float | None = None  #: of the prediction, 0 to 1
    file: Path | None = None  #: the image, which is copied bit for bit, or referred to; None where only its pixels are known
    pixels: Image | None = None  #: (H, W, bands), which are stored where the file is not copied
    split: str = ""  #: train, val or test; empty in a folder that is not divided

    @property
    def label_map(self) -> npt.NDArray[np.uint8]:
        """The truth, or without one the prediction."""
        found = self.truth if self.truth is not None else self.prediction
        assert found is not None, "an annotated image has a truth or a prediction"
        return found

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.label_map.shape[0], self.label_map.shape[1]


@dataclass(frozen=True)
class WriterOptions:
    """How a dataset is written."""

    tolerance: float = 0.0  #: by which polygons may differ from the edges of pixels, in pixels; 0 is exact
    copy_images: bool = True  #: store the images in the dataset too; otherwise annotations refer to the files as they lie
    name: str = ""  #: the dataset's folder, as it is called in the end; the name of the folder that is written to where it is empty
    root: Path | None = None  #: what the paths of images that are not copied are relative to, for Label Studio; None is the current folder
    model: str = ""  #: what made the predictions


class Written(NamedTuple):
    """Where an image was written to, below the folder of the dataset."""

    annotation: str  #: the file that holds its annotation
    image: str = ""  #: the image; empty where it was not copied


class DatasetWriter(Protocol):
    """Writes one dataset, image by image; memory holds one of them."""

    warnings: Counter[str]  #: what the format cannot hold, as sentences without the number that they begin with, and the number

    def trace(self, label_map: npt.NDArray[np.uint8], instances: npt.NDArray[np.integer] | None = None) -> list[TracedShape] | None:
        """Return the shapes of a label map, those of its objects apart; None where the format holds pixels. May be called in any thread."""

    def add(self, image: AnnotatedImage, shapes: Sequence[TracedShape] | None = None) -> Written:
        """Write an image; ``shapes`` are those of its label map, if they were traced before.

        A DataError is raised where the format cannot hold the image, and an OutputError where a file cannot be written.
        """

    def close(self) -> None:
        """Write what describes the whole; files that hold several images take their names now."""

    def abandon(self) -> None:
        """Remove the files that hold several images and have no name yet."""


@dataclass(frozen=True)
class Writer:
    """One layout of datasets that can be written."""

    name: str  #: as ``--to`` takes it
    description: str  #: what is written, as a phrase
    lacks: str  #: what the format cannot hold, as a phrase; empty where it holds all
    open: Callable[[Path, LabelSpace, WriterOptions], DatasetWriter]
    """open(folder, labels, options); a DataError is raised where the format cannot hold a name of a class."""
    predictions: bool = True  #: whether ``upscore predict --as`` offers it
