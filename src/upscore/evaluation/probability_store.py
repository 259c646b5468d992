"""A network's probabilities of a whole dataset, in a temporary file."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO

import numpy as np
import numpy.typing as npt

from upscore.errors import OutputError

__all__ = ["ProbabilityStore", "open_probability_store"]


class ProbabilityStore:
    """The probabilities of every image in one file, (K, H, W) float16 each; the file is large enough for all, and open in mode r+."""

    def __init__(self, file: IO[bytes], classes: int, sizes: Sequence[tuple[int, ...]]) -> None:
        self.file, self.classes, self.sizes = file, classes, sizes
        lengths = [2 * classes * height * width for height, width in sizes]
        self.offsets = [0, *np.cumsum(lengths, dtype=np.int64).tolist()]

    def __getitem__(self, index: int) -> npt.NDArray[np.float16]:
        """Return an image's probabilities as a view of the file, to read and to write."""
        return np.memmap(self.file, np.float16, "r+", self.offsets[index], (self.classes, *self.sizes[index]))


@contextmanager
def open_probability_store(classes: int, sizes: Sequence[tuple[int, ...]], report: Callable[[str], None]) -> Iterator[ProbabilityStore]:
    """Open a store in a temporary file, which is removed in any case.

    ``report`` is called with a line on how much space it takes, and where. Raises OutputError where there is not enough.
    """
    needed = sum(2 * classes * height * width for height, width in sizes)
    report(f"the network's probabilities take {_format_size(needed)} in {tempfile.gettempdir()} while tuning runs")
    with ExitStack() as stack:
        try:
            if (free := shutil.disk_usage(tempfile.gettempdir()).free) < needed:
                raise OSError(f"{_format_size(free)} free")
            file = stack.enter_context(tempfile.TemporaryFile())
            # Space is allocated at once: a memory map that outgrows the disk would end the process.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, needed)
            else:
                file.truncate(needed)
        except OSError as error:
            raise OutputError(
                f"{tempfile.gettempdir()}: no space for {_format_size(needed)} of probabilities ({error.strerror or error}): "
                "free some, or set TMPDIR to another folder"
            ) from None
        yield ProbabilityStore(file, classes, sizes)


def _format_size(count: int) -> str:
    """Return a number of bytes with its unit."""
    unit, name = (1e9, "GB") if count >= 1e8 else (1e6, "MB") if count >= 1e5 else (1e3, "kB")
    return f"{count / unit:.{2 if count >= 1e8 else 1}f} {name}"
