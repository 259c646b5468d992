"""Read the tags of a TIFF: its bands, bits and pages, without decoding a pixel.

Pillow takes an undeclared fourth band for transparency, reads the first of several pages, and
reports what it does not know as no image. Here a file is checked before; what is no grey or colour
image of 8 bits is decoded by :mod:`upscore.data.stored_bands`.

TIFF 6.0 (1992); its Technical Note 1 for ``NewSubfileType``; BigTIFF is read too.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from upscore.data.encoded_image import EncodedImage, page_path
from upscore.errors import DataError

__all__ = [
    "TiffTags",
    "count_pages",
    "is_tiff",
    "list_pages",
    "read_tiff_tags",
    "refuse_other_bands",
    "refuse_tags_beyond",
    "unreadable_tiff_error",
]

_MAX_ENTRIES = 2**18  # in all directories together
_MAX_STRIPS = 2**20  # or tiles: Pillow lists them all
_MAX_TILE = 2**27  # pixels
_VALUES_READ = 16  # of each tag
_SIZES = {1: "B", 3: "H", 4: "I", 16: "Q"}
_ALL_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
_KINDS = {1: "unsigned", 2: "signed", 3: "floating-point"}
_COMPRESSIONS = (1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32946, 50000, 50001)
_EXPORT = "export it as an 8-bit PNG"


@dataclass(frozen=True)
class TiffTags:
    """The tags of the first page, or of the one that is meant."""

    photometric: int  #: 0 white is zero, 1 black is zero, 2 RGB, 3 palette, 5 CMYK, 6 YCbCr, 8 CIELab
    bands: int  #: samples per pixel
    bits: tuple[int, ...]  #: of each band
    kind: int  #: 1 unsigned, 2 signed, 3 floating-point
    extra: tuple[int, ...]  #: the bands beyond the colours: 0 not declared, 1 and 2 transparency
    orientation: int  #: EXIF's, 1 to 8
    pages: int  #: full images; overviews and transparency masks do not count; 1 where one is meant
    size: tuple[int, int] = (0, 0)  #: height and width as stored
    index: int = 0  #: of the page among all directories of the file
    offsets: tuple[int, ...] = ()  #: where the directory of each page begins in the file; of the one that is meant alone

    @property
    def colours(self) -> int:
        """How many of the bands are colours, by the photometric interpretation."""
        return min(_COLOURS.get(self.photometric, 1), self.bands)

    @property
    def has_alpha(self) -> bool:
        """Whether the one band beyond the colours is declared as transparency."""
        return self.bands == self.colours + 1 and self.extra[:1] in ((1,), (2,), (999,))  # 999: of an older Corel Draw

    @property
    def is_plain(self) -> bool:
        """Whether this is a grey or colour image of up to 8 bits, with or without transparency, and nothing else."""
        return self.kind == 1 and max(self.bits) <= 8 and (self.bands == self.colours or self.has_alpha)

    def __str__(self) -> str:
        bands = "1 band" if self.bands == 1 else f"{self.bands} bands"
        return f"{bands} of {max(self.bits)}-bit {_KINDS.get(self.kind, 'unknown')} values"


def is_tiff(data: bytes) -> bool:
    """Return whether a file begins as a TIFF does."""
    return data[:2] in (b"II", b"MM") and data[2:4] in (b"*\0", b"\0*", b"+\0", b"\0+")


def read_tiff_tags(file: EncodedImage) -> TiffTags:
    """Read the tags; DataError where a compression is not read, or there are more directories, strips or tiles than sensible."""
    first: dict[int, tuple[int, ...]] = {}
    pages, entries, strips, position, offsets = 0, 0, 0, 0, list[int]()
    for index, (at, directory) in enumerate(_directories(file.data)):
        entries += len(directory)
        if entries > _MAX_ENTRIES:
            raise file.error(f"the TIFF has more than {_MAX_ENTRIES} tags: it is damaged: export it again")
        is_page = not pages or not _is_reduced(directory)
        pages += is_page
        if is_page and file.page in (0, pages):
            offsets.append(at)
        if is_page and pages == max(1, file.page):
            first, position = {tag: values for tag, (_, values) in directory.items()}, index
            strips = max((directory[tag][0] for tag in (273, 324) if tag in directory), default=0)
    if file.page > pages:
        raise file.error(f"the TIFF has {pages} pages, expected page {file.page} among them")
    tags = TiffTags(
        photometric=_first(first, 262, 0),
        bands=_first(first, 277, len(first.get(258, (1,))) or 1),
        bits=first.get(258) or (1,),
        kind=_first(first, 339, 1),
        extra=first.get(338, ()),
        orientation=_first(first, 274, 1),
        pages=1 if file.page else pages,
        size=(_first(first, 257, 0), _first(first, 256, 0)),
        index=position,
        offsets=tuple(offsets),
    )
    if first and (fault := _fault(first, strips)):
        raise file.error(fault)
    return tags


def count_pages(path: Path) -> int:
    """Return how many pages a TIFF has; 1 for a file of another name, and for one that cannot be read. Its pixels are not read."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return 1
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if not is_tiff(data[:4]):
                return 1
            pages = entries = 0
            for _, directory in _directories(data):
                entries += len(directory)
                if entries > _MAX_ENTRIES:
                    return 1
                pages += not pages or not _is_reduced(directory)
            return max(1, pages)
    except (OSError, ValueError):
        return 1


def list_pages(path: Path) -> list[Path]:
    """Return a path for each page of a TIFF of several; that of any other file itself."""
    pages = count_pages(path)
    return [path] if pages == 1 else [page_path(path, number) for number in range(1, pages + 1)]


def _is_reduced(directory: dict[int, tuple[int, tuple[int, ...]]]) -> bool:
    """Return whether a directory is an overview or a mask of transparency."""
    kind, older = (directory.get(tag, (0, (0,)))[1] for tag in (254, 255))
    return older[:1] == (2,) or bool(kind[:1] and kind[0] & 5)


def refuse_other_bands(file: EncodedImage, tags: TiffTags) -> None:
    """Raise a DataError for several pages, and for bands beyond grey or colours that are no transparency."""
    if tags.pages > 1:
        raise file.error(
            f"the TIFF holds {tags.pages} pages, expected one image: "
            "name one page as 'stack.tif/page-0001', or write each to a file of its own"
        )
    beyond = tags.bands - tags.colours
    if beyond > 1 or (beyond == 1 and not tags.has_alpha):
        raise file.error(
            f"the TIFF has {tags}, and its tags declare {'one' if beyond == 1 else beyond} of them neither as colour nor as alpha; "
            "expected grey or RGB, with or without alpha: extract the bands that are meant, for example "
            "'gdal_translate -b 1 -b 2 -b 3 -co PHOTOMETRIC=RGB in.tif out.tif'"
        )


def _fault(first: dict[int, tuple[int, ...]], strips: int) -> str:
    """Return why the strips or tiles of a TIFF cannot be read; ``""`` if they can."""
    compression = _first(first, 259, 1)
    if compression not in _COMPRESSIONS:
        return f"the TIFF's compression {compression} is not read: write it again with LZW or Deflate, or as a PNG"
    if strips > _MAX_STRIPS:
        return f"the TIFF is divided into {strips} strips or tiles, expected at most {_MAX_STRIPS}: write it again with larger ones"
    if _first(first, 322, 1) * _first(first, 323, 1) > _MAX_TILE:
        return f"the TIFF has tiles of {_first(first, 323, 1)}×{_first(first, 322, 1)} pixels: it is damaged: export it again"
    return ""


def unreadable_tiff_error(file: EncodedImage, tags: TiffTags) -> DataError:
    """Return the error for a TIFF whose arrangement of values Pillow does not know."""
    return file.error(f"the TIFF has {tags}, which is not read, expected 1 to 32 bits in a usual arrangement: {_EXPORT}")


def _first(tags: dict[int, tuple[int, ...]], tag: int, default: int) -> int:
    values = tags.get(tag)
    return values[0] if values else default


def refuse_tags_beyond(file: EncodedImage, tags: TiffTags) -> None:
    """Raise a DataError where a page's tag has an unknown type, or values that lie beyond the file's end: decoders make room for them."""
    data, order = file.data, "<" if file.data[:2] == b"II" else ">"
    big = 43 in data[2:4]
    count, width, entry, room = ("Q", 20, "HHQ", 8) if big else ("H", 12, "HHI", 4)
    (first,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    entries = []
    for offset in {first, *tags.offsets}:
        (number,) = struct.unpack_from(order + count, data, offset)
        entries += [offset + struct.calcsize(count) + i * width for i in range(number)]
    for at in entries:
        tag, form, values = struct.unpack_from(order + entry, data, at)
        size = values * _ALL_SIZES.get(form, 2**62)
        begin = at + struct.calcsize("=" + entry)
        if size > room:
            (begin,) = struct.unpack_from(order + ("Q" if big else "I"), data, begin)
        if begin + size > len(data):
            raise file.error(
                f"the TIFF's tag {tag} has {values} values of type {form}, beyond the file's end: it is damaged: export it again"
            )


def _directories(data: bytes | mmap.mmap) -> Iterator[tuple[int, dict[int, tuple[int, tuple[int, ...]]]]]:
    """Yield each directory of the chain: its offset, and {tag: (number of values, the first few)} as far as it is whole."""
    order = "<" if data[:2] == b"II" else ">"
    big = 43 in data[2:4]
    pointer, count, width = ("Q", "Q", 20) if big else ("I", "H", 12)
    try:
        (at,) = struct.unpack_from(order + pointer, data, 8 if big else 4)
        seen = set()
        while at and at not in seen:
            seen.add(at)
            (number,) = struct.unpack_from(order + count, data, at)
            begin = at + struct.calcsize(count)
            if number > _MAX_ENTRIES or begin + number * width > len(data):
                return
            yield (
                at,
                {tag: found for tag, found in (_entry(data, begin + i * width, order, big) for i in range(number)) if found is not None},
            )
            (at,) = struct.unpack_from(order + pointer, data, begin + number * width)
    except struct.error:
        return


def _entry(data: bytes | mmap.mmap, at: int, order: str, big: bool) -> tuple[int, tuple[int, tuple[int, ...]] | None]:
    """Return a tag and its (number of values, the first few integers); None for a tag of an unsupported type."""
    tag, form, number = struct.unpack_from(order + ("HHQ" if big else "HHI"), data, at)
    if form not in _SIZES:
        return tag, None
    size, room = struct.calcsize(order + _SIZES[form]), 8 if big else 4
    begin = at + (12 if big else 8)
    if number * size > room:
        (begin,) = struct.unpack_from(order + ("Q" if big else "I"), data, begin)
    count = min(number, _VALUES_READ)
    if begin + count * size > len(data):
        return tag, (number, ())
    return tag, (number, struct.unpack_from(f"{order}{count}{_SIZES[form]}", data, begin))
