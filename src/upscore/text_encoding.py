"""Decode text files from any editor: UTF-8, or UTF-16 and UTF-32 by their byte-order mark."""

from __future__ import annotations

import codecs
import re

__all__ = ["decode_text"]

_MARKS = (  # UTF-32's little-endian mark begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BYTES_CHECKED = 65_536  # enough to distinguish code pages
_EAST_ASIAN = (("GBK", "gbk"), ("CP949", "cp949"), ("Shift JIS", "cp932"), ("Big5", "big5"))
_EUROPEAN = (("CP1252", "cp1252"), ("CP1251", "cp1251"))
_TWO_HIGH_BYTES = re.compile(rb"[\x80-\xff]{2}")


def decode_text(data: bytes) -> str:
    r"""Return the text of ``data`` without its byte-order mark, every line break as a line feed.

    A ValueError is raised for other encodings; its message is a reason for the caller to put behind the file's name, and names the
    encodings that are likely.

    >>> decode_text("road\r\ncar".encode("utf-16"))
    'road\ncar'
    """
    mark, encoding = next(((mark, name) for mark, name in _MARKS if data.startswith(mark)), (b"", "utf-8"))
    try:
        return data[len(mark) :].decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        if mark:
            found = f"it is marked as {encoding.upper()} and is not"
        else:
            line = data.count(b"\n", 0, error.start) + 1
            found = f"byte 0x{data[error.start]:02X} in line {line} is not UTF-8{_likely_encodings(data[:_BYTES_CHECKED])}"
        raise ValueError(f"{found}: open it in an editor and save it with the encoding UTF-8") from None


def _likely_encodings(data: bytes) -> str:
    """Return the code pages that fit, as a phrase to append; "" if none does."""
    if data[1::2].count(0) > len(data) // 4 or data[::2].count(0) > len(data) // 4:
        return " (probably UTF-16 without its mark)"
    east_asian = bool(_TWO_HIGH_BYTES.search(data))  # in European text accented letters stand alone
    fitting = [name for name, codec in (_EAST_ASIAN if east_asian else _EUROPEAN) if _fits(data, codec)]
    fitting = fitting if east_asian else fitting[:1]
    return f" (probably {' or '.join(fitting)}, a Windows code page)" if fitting else ""


def _fits(data: bytes, codec: str) -> bool:
    try:
        codecs.getincrementaldecoder(codec)().decode(data)
    except UnicodeDecodeError:
        return False
    return True
