"""Text of unknown origin made fit to show: on one line, of bounded length, with nothing that a terminal would obey.

Names of classes and files, keys of a YAML file and the words of foreign errors end in
messages, tables, CSV files and pages. They may hold line breaks, escape codes, marks that
turn the direction of writing, or a megabyte. Every :class:`~upscore.errors.UpscoreError`
passes through :func:`one_line`; whatever else is shown passes through :func:`visible`.
"""

from __future__ import annotations

import unicodedata

__all__ = ["MAX_LINE", "MAX_WORD", "literal", "one_line", "reason", "shortened", "visible"]

MAX_LINE = 2000
"""Characters of the longest message that is shown whole."""

MAX_WORD = 400
"""Characters of the longest run without a space, such as a path or a number, that is shown whole."""

_MAX_WALKED = 2**22  # characters that are looked at one by one
_HIDDEN = ("Cc", "Cs", "Zl", "Zp")  # control characters, lone surrogates, separators of lines and paragraphs
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def visible(text: str) -> str:
    r"""Return ``text`` with control characters, line breaks, lone surrogates and marks of direction as escapes.

    >>> visible("road\x1b[2J\ncar")
    'road\\x1b[2J\\ncar'
    >>> visible("Straße, 도로, 🛣")
    'Straße, 도로, 🛣'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in _HIDDEN or character in _DIRECTIONS
        else character
        for character in text
    )


def shortened(text: str, most: int = 120) -> str:
    """Return ``text`` with its middle left out where it has more than ``most`` characters, and how many it has.

    >>> shortened("9" * 5000, 12)
    '99999999…9999 (5,000 characters)'
    """
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail]}…{text[len(text) - tail :]} ({len(text):,} characters)"


def one_line(text: str) -> str:
    """Return ``text`` as a message: one line of at most some :data:`MAX_LINE` characters, everything in it visible."""
    if len(text) > _MAX_WALKED:
        text = shortened(text, 4 * MAX_LINE)
    if len(text) > MAX_WORD:
        text = " ".join(shortened(word, MAX_WORD) for word in text.split(" "))
    return shortened(visible(text), MAX_LINE)


def reason(error: object, most: int = 120) -> str:
    """Return the words of a foreign error on one line, with their middle left out beyond ``most`` characters; its kind where it has none.

    >>> reason(ValueError("found\\n   a tab"))
    'found a tab'
    >>> reason(KeyError())
    'KeyError'
    """
    try:
        words = " ".join(str(error).split())
    except ValueError:  # it holds a number that is too long to be written out
        words = ""
    return shortened(words, most) or type(error).__name__


def literal(value: object, most: int = 120) -> str:
    """Return ``repr(value)`` with its middle left out beyond ``most`` characters; its kind where it cannot be written out.

    >>> literal([0.5, "road"])
    "[0.5, 'road']"
    >>> literal(16**5000)
    'a number of more than 4,300 digits'
    """
    try:
        return shortened(repr(value), most)
    except (ValueError, RecursionError):
        return "a number of more than 4,300 digits" if isinstance(value, int) else f"a {type(value).__name__} that cannot be shown"
