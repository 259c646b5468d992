"""Text files from any editor: UTF-8, or UTF-16 and UTF-32 by their mark; anything else is one line that says so."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from upscore.errors import DataError
from upscore.files import read_file

__all__ = ["read_text"]

_MARKS = (  # UTF-32's little-endian mark begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BYTES_SEEN = 65_536  # enough to tell code pages apart
_EAST_ASIAN = (("GBK", "gbk"), ("CP949", "cp949"), ("Shift JIS", "cp932"), ("Big5", "big5"))
_EUROPEAN = (("CP1252", "cp1252"), ("CP1251", "cp1251"))
_SIDE_BY_SIDE = re.compile(rb"[\x80-\xff]{2}")


def read_text(file: Path, what: str, *, max_bytes: int) -> str:
    """Return the text of a regular file without its byte-order mark.

    Parameters
    ----------
    file : Path
        UTF-8, with or without a mark, or UTF-16 or UTF-32 with one.
    what : str
        What it should be, for errors: ``"YAML"``.
    max_bytes : int
        The longest file that is read.

    Raises
    ------
    DataError
        The file is missing, no regular file, too long or in another encoding.
    """
    data = read_file(file, most=max_bytes, what=what)
    mark, encoding = next(((mark, name) for mark, name in _MARKS if data.startswith(mark)), (b"", "utf-8"))
    try:
        return data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        byte = data[len(mark) + error.start]
        line = data[: len(mark) + error.start].count(b"\n") + 1
        found_here = f"byte 0x{byte:02X} in line {line} is not UTF-8" if not mark else f"it is marked as {encoding.upper()} and is not"
        raise DataError(
            f"{file}: cannot be read as {what}: {found_here}{'' if mark else _probably(data[:_BYTES_SEEN])}: open it in an editor and "
            f"save it with the encoding UTF-8"
        ) from None


def _probably(data: bytes) -> str:
    """Name the code pages that fit, to be appended; several may."""
    if data[1::2].count(0) > len(data) // 4 or data[::2].count(0) > len(data) // 4:
        return " (probably UTF-16 without its mark)"
    double = bool(_SIDE_BY_SIDE.search(data))  # in European text letters with marks stand alone
    fitting = [name for name, codec in (_EAST_ASIAN if double else _EUROPEAN) if _fits(data, codec)]
    fitting = fitting if double else fitting[:1]
    return f" (probably {' or '.join(fitting)}, a Windows code page)" if fitting else ""


def _fits(data: bytes, codec: str) -> bool:
    try:
        codecs.getincrementaldecoder(codec)().decode(data)
    except UnicodeDecodeError:
        return False
    return True
