"""Read the tags of a TIFF: its bands, bits and pages, without decoding a pixel.

Pillow takes an undeclared fourth band for transparency, reads the first of several pages, and
reports what it does not know as no image. Here a file is checked before.

TIFF 6.0 (1992); its Technical Note 1 for ``NewSubfileType``; BigTIFF is read too.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from upscore.data.encoded_image import EncodedImage
from upscore.errors import DataError

__all__ = ["TiffTags", "is_tiff", "read_tiff_tags", "unreadable_tiff_error"]

_MAX_ENTRIES = 2**18  # in all directories together
_MAX_STRIPS = 2**20  # or tiles: Pillow lists them all
_MAX_TILE = 2**27  # pixels
_VALUES_READ = 16  # of each tag
_SIZES = {1: "B", 3: "H", 4: "I", 16: "Q"}
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
_KINDS = {1: "unsigned", 2: "signed", 3: "floating-point"}
_COMPRESSIONS = (1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32946, 50000, 50001)
_EXPORT = "export it as an 8-bit PNG"


@dataclass(frozen=True)
class TiffTags:
    """The tags of the first page."""

    photometric: int  #: 0 white is zero, 1 black is zero, 2 RGB, 3 palette, 5 CMYK, 6 YCbCr, 8 CIELab
    bands: int  #: samples per pixel
    bits: tuple[int, ...]  #: of each band
    kind: int  #: 1 unsigned, 2 signed, 3 floating-point
    extra: tuple[int, ...]  #: the bands beyond the colours: 0 not declared, 1 and 2 transparency
    orientation: int  #: EXIF's, 1 to 8
    pages: int  #: full images; overviews and transparency masks do not count

    @property
    def band_left_out(self) -> bool:
        """Whether a fourth band follows red, green and blue that no tag declares as transparency, such as near infrared."""
        return self.photometric == 2 and self.bands == 4 and not self._alpha

    @property
    def _alpha(self) -> bool:
        return self.extra[:1] in ((1,), (2,), (999,))  # 999: of an older Corel Draw

    def __str__(self) -> str:
        bands = "1 band" if self.bands == 1 else f"{self.bands} bands"
        return f"{bands} of {max(self.bits)}-bit {_KINDS.get(self.kind, 'unknown')} values"


def is_tiff(data: bytes) -> bool:
    """Return whether a file begins as a TIFF does."""
    return data[:2] in (b"II", b"MM") and data[2:4] in (b"*\0", b"\0*", b"+\0", b"\0+")


def read_tiff_tags(file: EncodedImage) -> TiffTags:
    """Read the tags, and refuse a file that would be misread.

    Raises
    ------
    DataError
        Several pages; bands beyond the colours that no tag declares as transparency, except a
        fourth one after red, green and blue (``band_left_out``); an unsupported compression;
        more strips, tiles or directories than are sensible.
    """
    first: dict[int, tuple[int, ...]] = {}
    pages, entries, strips = 0, 0, 0
    for directory in _directories(file.data):
        entries += len(directory)
        if entries > _MAX_ENTRIES:
            raise file.error(f"the TIFF has more than {_MAX_ENTRIES} tags: it is damaged: export it again")
        if not pages:
            first = {tag: values for tag, (_, values) in directory.items()}
            strips = max((directory[tag][0] for tag in (273, 324) if tag in directory), default=0)
        kind, older = (directory.get(tag, (0, (0,)))[1] for tag in (254, 255))
        reduced = older[:1] == (2,) or bool(kind[:1] and kind[0] & 5)  # an overview, or a mask of transparency
        pages += not pages or not reduced
    tags = TiffTags(
        photometric=_first(first, 262, 0),
        bands=_first(first, 277, len(first.get(258, (1,))) or 1),
        bits=first.get(258) or (1,),
        kind=_first(first, 339, 1),
        extra=first.get(338, ()),
        orientation=_first(first, 274, 1),
        pages=pages,
    )
    if pages > 1:
        raise file.error(
            f"the TIFF holds {pages} pages, expected one image: "
            "write each page to a file of its own, for example with ImageMagick's 'magick stack.tif page-%03d.tif'"
        )
    if first and (fault := _fault(tags, first, strips)):
        raise file.error(fault)
    return tags


def _fault(tags: TiffTags, first: dict[int, tuple[int, ...]], strips: int) -> str:
    """Return why a TIFF of one page cannot be read as it is meant; ``""`` if it can."""
    compression = _first(first, 259, 1)
    colours = _COLOURS.get(tags.photometric, 1)
    beyond = tags.bands - colours
    if beyond > 1 or (beyond == 1 and not tags._alpha and not tags.band_left_out):
        return (
            f"the TIFF has {tags}, and its tags declare {'one' if beyond == 1 else beyond} of them neither as colour nor as alpha; "
            " expected grey or RGB, with or without alpha: extract the bands that are meant, for example "
            "'gdal_translate -b 1 -b 2 -b 3 -co PHOTOMETRIC=RGB in.tif out.tif'"
        )
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


def _directories(data: bytes) -> Iterator[dict[int, tuple[int, tuple[int, ...]]]]:
    """Yield each directory of the chain as {tag: (number of values, the first few)}; of a damaged one what can be read."""
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
            yield {tag: found for tag, found in (_entry(data, begin + i * width, order, big) for i in range(number)) if found is not None}
            (at,) = struct.unpack_from(order + pointer, data, begin + number * width)
    except struct.error:
        return


def _entry(data: bytes, at: int, order: str, big: bool) -> tuple[int, tuple[int, tuple[int, ...]] | None]:
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
