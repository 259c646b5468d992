"""Text of unknown origin made safe to show: on one line, of bounded length, without terminal control codes.

Names of classes and files, keys of a YAML file and the messages of other libraries end in
errors, tables, CSV files and pages. They may hold line breaks, escape codes, bidirectional
controls, or a megabyte. Every :class:`~upscore.errors.UpscoreError`
passes through :func:`one_line`; whatever else is shown passes through :func:`visible`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection

__all__ = ["MAX_LINE", "MAX_WORD", "describe_duration", "listed", "literal", "one_line", "reason", "shortened", "visible"]

MAX_LINE = 2000
"""Characters of the longest message that is shown in full."""

MAX_WORD = 400
"""Characters of the longest run without a space, such as a path or a number, that is shown in full."""

_MAX_CHECKED = 2**22  # characters that are checked one by one
_HIDDEN = ("Cc", "Cs", "Zl", "Zp")  # control characters, lone surrogates, separators of lines and paragraphs
_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def visible(text: str) -> str:
    r"""Return ``text`` with control characters, line breaks, lone surrogates and bidirectional controls as escapes.

    >>> visible("road\x1b[2J\ncar")
    'road\\x1b[2J\\ncar'
    >>> visible("Straße, 도로, 🛣")
    'Straße, 도로, 🛣'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in _HIDDEN or character in _BIDIRECTIONAL
        else character
        for character in text
    )


def shortened(text: str, max_length: int = 120) -> str:
    """Return ``text`` with its middle left out beyond ``max_length`` characters, and its length.

    >>> shortened("9" * 5000, 12)
    '99999999…9999 (5,000 characters)'
    """
    if len(text) <= max_length:
        return text
    tail = max_length // 3
    return f"{text[: max_length - tail]}…{text[len(text) - tail :]} ({len(text):,} characters)"


def listed(items: Collection[object], max_items: int = 3) -> str:
    """Return the first ``max_items`` of ``items``, and how many there are beyond them.

    >>> listed("abcde"), listed([1, 2])
    ('a, b, c and 2 more', '1, 2')
    """
    shown = ", ".join(str(item) for item in list(items)[:max_items])
    return shown + (f" and {len(items) - max_items} more" if len(items) > max_items else "")


def one_line(text: str) -> str:
    """Return ``text`` as a message: one line of about :data:`MAX_LINE` characters at most, everything in it visible."""
    if len(text) > _MAX_CHECKED:
        text = shortened(text, 4 * MAX_LINE)
    if len(text) > MAX_WORD:
        text = " ".join(shortened(word, MAX_WORD) for word in text.split(" "))
    return shortened(visible(text), MAX_LINE)


def reason(error: object, max_length: int = 120) -> str:
    """Return the message of another library's error on one line of about ``max_length`` characters at most; its type where it has none.

    >>> reason(ValueError("found\\n   a tab"))
    'found a tab'
    >>> reason(KeyError())
    'KeyError'
    """
    try:
        message = " ".join(str(error).split())
    except ValueError:  # it holds a number that is too long to be written out
        message = ""
    return shortened(message, max_length) or type(error).__name__


def literal(value: object, max_length: int = 120) -> str:
    """Return ``repr(value)`` with its middle left out beyond ``max_length`` characters; its type where it cannot be written out.

    >>> literal([0.5, "road"])
    "[0.5, 'road']"
    >>> literal(16**5000)
    'a number of more than 4,300 digits'
    """
    try:
        return shortened(repr(value), max_length)
    except (ValueError, RecursionError):
        return "a number of more than 4,300 digits" if isinstance(value, int) else f"a {type(value).__name__} that cannot be shown"


def describe_duration(seconds: float) -> str:
    """Return a duration in one unit, without more digits than an estimate has.

    >>> describe_duration(2400), describe_duration(70), describe_duration(8 * 3600)
    ('40 minutes', '70 seconds', '8 hours')
    """
    for size, unit, limit in ((1, "second", 90), (60, "minute", 90 * 60), (3600, "hour", 36 * 3600), (86400, "day", float("inf"))):
        if seconds < limit:
            count = max(1, round(seconds / size))
            return f"{count:,} {unit}{'s' * (count != 1)}"
    raise AssertionError("no number is above infinity")
