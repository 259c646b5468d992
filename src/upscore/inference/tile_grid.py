"""How an image is divided: windows that cover it once, each with the crop that is read to compute it; or spans that overlap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from upscore.errors import GeometryError

__all__ = ["Span", "Tile", "Window", "plan_spans", "plan_tiles", "widen"]


class Window(NamedTuple):
    """A rectangle of pixels: rows ``top`` to ``bottom - 1``, columns ``left`` to ``right - 1``."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index an (H, W) array with."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def moved(self, down: int, right: int) -> Window:
        """Return the window so many pixels further down and to the right."""
        return Window(self.top + down, self.left + right, self.bottom + down, self.right + right)


class Tile(NamedTuple):
    """The pixels a tile labels (``window``) and those that are read to label them (``crop``)."""

    window: Window
    crop: Window

    @property
    def inside(self) -> tuple[slice, slice]:
        """Where the window lies within the crop."""
        top, left = self.window.top - self.crop.top, self.window.left - self.crop.left
        return slice(top, top + self.window.bottom - self.window.top), slice(left, left + self.window.right - self.window.left)


class Span(NamedTuple):
    """One of the overlapping spans of an axis: it predicts positions ``begin`` to ``next + fades_out - 1``.

    The first ``fades_in`` of these overlap the span before it, the last ``fades_out`` the one
    after it, which begins at ``next``. No position belongs to more than two spans. To compute it, positions
    ``first`` to ``last - 1`` are read.
    """

    begin: int
    next: int
    fades_in: int
    fades_out: int
    first: int
    last: int

    @property
    def end(self) -> int:
        """The position after its last."""
        return self.next + self.fades_out


def plan_tiles(height: int, width: int, *, tile: int, margin: int, stride: int, multiple: int = 1) -> Iterator[Tile]:
    """Divide an image of ``height`` × ``width`` pixels into tiles, row by row; their windows cover every pixel exactly once.

    Parameters
    ----------
    tile : int
        Longest side of a tile in pixels, rounded up to a multiple of ``stride``.
        Tiles are then made as equal as the stride allows, so that none is a sliver.
    margin : int
        Minimum context in pixels around a tile, less at the image's edges.
    stride : int
        Crops begin on multiples of it, and end a multiple of it before the image's end,
        so that a mirrored crop is aligned with the mirrored image too.
    multiple : int
        Multiple to which the segmenter first pads its images at the end
        (:func:`upscore.inference.tta.tta_context`); ``stride`` is a multiple of it.

    Raises
    ------
    GeometryError
        A size is not positive, or ``stride`` is not a multiple of ``multiple``.
    """
    if min(height, width, tile, stride, multiple) < 1 or margin < 0 or stride % multiple:
        raise GeometryError(
            f"found image {height}×{width}, tile {tile}, margin {margin}, stride {stride}, multiple {multiple}: "
            "expected positive sizes, margin at least 0 and a stride that is a multiple of multiple"
        )
    columns = list(_plan_axis(width, tile=tile, margin=margin, stride=stride, multiple=multiple))
    for (top, bottom), (upper, lower) in _plan_axis(height, tile=tile, margin=margin, stride=stride, multiple=multiple):
        for (left, right), (first, last) in columns:
            yield Tile(Window(top, left, bottom, right), Window(upper, first, lower, last))


def plan_spans(size: int, *, span: int, stride: int, multiple: int = 1) -> list[Span]:
    """Divide an axis of ``size`` pixels into overlapping spans; a single span where the axis is no longer than one.

    Neighbours overlap by a quarter of ``span``, rounded up to a multiple of ``stride``. ``span`` is the longest in pixels, a multiple
    of ``stride``, at least twice it; spans are then made as equal as the stride allows. ``stride`` and ``multiple`` are as in
    :func:`plan_tiles`: spans begin on multiples of the stride, and end a multiple of it before the end. GeometryError where a value
    is outside its range.
    """
    if min(size, stride, multiple) < 1 or stride % multiple or span % stride or span < 2 * stride:
        raise GeometryError(
            f"found an axis of {size}, spans of {span}, stride {stride}, multiple {multiple}: expected positive sizes, "
            "a stride that is a multiple of multiple and spans that are a multiple of the stride, twice it at least"
        )
    if size <= span:
        return [Span(0, size, 0, 0, 0, size)]
    overlap = _ceil(-(-span // 4), stride)
    count = -(-(size - overlap) // (span - overlap))
    side = _ceil(-(-(size + (count - 1) * overlap) // count), stride)
    step = side - overlap
    begins = [begin for begin in range(0, size, step) if begin == 0 or begin + overlap < size]
    spans = []
    for begin in begins:
        final = begin == begins[-1]
        # The final one is read from further back, so that it is no sliver.
        read = (min(begin, max(0, size - side)), size) if final else (begin, begin + side)
        first, last = _widen_axis(*read, size, margin=0, stride=stride, multiple=multiple)
        spans.append(Span(begin, size if final else begin + step, overlap if begin else 0, 0 if final else overlap, first, last))
    return spans


def widen(window: Window, height: int, width: int, *, margin: int, stride: int, multiple: int = 1) -> Window:
    """Return the crop that must be read for the pixels of ``window``: with ``margin`` around it, aligned with ``stride``.

    Arguments are those of :func:`plan_tiles`.
    """
    first, last = _widen_axis(window.top, window.bottom, height, margin=margin, stride=stride, multiple=multiple)
    left, right = _widen_axis(window.left, window.right, width, margin=margin, stride=stride, multiple=multiple)
    return Window(first, left, last, right)


def _plan_axis(size: int, *, tile: int, margin: int, stride: int, multiple: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield ((begin, end) of the window, (begin, end) of the crop) along one axis."""
    count = _ceil(size, _ceil(tile, stride)) // _ceil(tile, stride)
    side = _ceil(-(-size // count), stride)
    for begin in range(0, size, side):
        end = min(begin + side, size)
        yield (begin, end), _widen_axis(begin, end, size, margin=margin, stride=stride, multiple=multiple)


def _widen_axis(begin: int, end: int, size: int, *, margin: int, stride: int, multiple: int) -> tuple[int, int]:
    padded = _ceil(size, multiple)
    first = max(0, begin - margin) // stride * stride
    last = padded - max(0, padded - end - margin) // stride * stride
    return first, min(last, size)


def _ceil(size: int, multiple: int) -> int:
    """Return ``size`` rounded up to a multiple of ``multiple``."""
    return -(-size // multiple) * multiple
