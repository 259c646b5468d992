"""Write datasets in any of several layouts.

To add a layout, write a file in ``upscore.data.writers`` with a record ``WRITER``, and add it to :data:`WRITERS`.
"""

from __future__ import annotations

from upscore.data.writer import Writer
from upscore.data.writers import coco, cvat, folder, geojson, label_studio, labelme, voc, yolo
from upscore.errors import DataError, nearest_name

__all__ = ["WRITERS", "find_writer"]

WRITERS: tuple[Writer, ...] = (
    folder.WRITER, coco.WRITER, labelme.WRITER, label_studio.WRITER, cvat.WRITER, yolo.WRITER, voc.WRITER, geojson.WRITER,
)  # fmt: skip
"""Every writer."""


def find_writer(name: str, *, predictions: bool = False) -> Writer:
    """Return the writer of a name, with ``predictions`` one that ``upscore predict --as`` offers; DataError where there is none.

    >>> find_writer("coco").description
    'COCO (JSON)'
    """
    names = [writer.name for writer in WRITERS if writer.predictions or not predictions]
    for writer in WRITERS:
        if writer.name == name and name in names:
            return writer
    raise DataError(f"no format '{name}' can be written{nearest_name(name, names)}, expected {', '.join(names)}")
