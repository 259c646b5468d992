"""How many inputs of each kind are tried, what may become of one, and what it is made of.

The suite tries fifty of each kind, always the same. ``make fuzz`` tries as many as
``UPSCORE_FUZZ_EXAMPLES`` says, and others every time.
"""

from __future__ import annotations

import os
import signal
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, example, settings
from hypothesis import strategies as st

from upscore.errors import UpscoreError
from upscore.text import MAX_LINE

EXAMPLES = int(os.environ.get("UPSCORE_FUZZ_EXAMPLES", "50"))

fuzz = settings(
    max_examples=EXAMPLES,
    derandomize="UPSCORE_FUZZ_EXAMPLES" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
"""For every test of generated inputs."""

_LONGEST = 120  # seconds; a hang, not slowness, on a machine that is shared

NUMBERS = (
    "9" * 5000, "-" + "9" * 5000, "0x" + "f" * 5000, "0o" + "7" * 5000, "0" + "7" * 5000, "0b" + "1" * 5000, "1" + "_0" * 2500,
    "1" + ":59" * 2000, "18446744073709551616", "-9223372036854775809", "1e999", "-1e999", "nan", ".nan", "inf", ".inf", "NaN",
    "Infinity", "1e-999", "0x", "1_", "--1", "1.", ".1", "٣", "01", "-0", "1:30", "2020-01-01", "0000-00-00", "12:60:99",
)  # fmt: skip
"""What stands where a number is expected."""

WORDS = (
    "", "\0", "\x1b[2J", "\x1b]0;x\x07", "\n", "\r", "\t", "\u2028", "\u202e", "\ufeff", "\ud800", "\udcff", "é", "도로", "a\u0301", "🛣️",
    "[bold]x[/bold]", "<script>", "=cmd()", ":smile:", "%s%n", "{0}", "../../..", "/dev/zero", "C:\\x", "~", "-", "--", ".", "x" * 300,
    "x" * 20_000, "a/" * 3000, "true", "null", "'", '"', "`", "\\", "\\ud800", "\\x1b", "$(x)",
)  # fmt: skip
"""What stands where a name or a path is expected."""


@contextmanager
def taken_or_refused() -> Iterator[None]:
    """Let an input be taken, or refused in one bounded line that hides nothing; anything else, and a hang, is a fault."""

    def give_up(*_: object) -> None:
        raise AssertionError(f"it took more than {_LONGEST} seconds")

    timed = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
    before = signal.signal(signal.SIGALRM, give_up) if timed else None
    if timed:
        signal.setitimer(signal.ITIMER_REAL, _LONGEST)
    try:
        yield
    except UpscoreError as error:
        check_line(str(error))
    finally:
        if timed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def check_line(line: str) -> None:
    """Check that a message is one bounded line that hides nothing."""
    assert 0 < len(line) <= MAX_LINE + 60
    assert not [character for character in line if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")]
    assert "\u202e" not in line
    assert "Traceback" not in line


def each_of(values: Iterable[Any]) -> Callable[[Any], Any]:
    """Add an example for every one of ``values`` to a test of one argument."""

    def decorate(test: Any) -> Any:
        for value in values:
            test = example(value)(test)
        return test

    return decorate


@st.composite
def altered(draw: st.DrawFn, valid: bytes, chunks: tuple[bytes, ...]) -> bytes:
    """Return ``valid`` with a few spans of it deleted, repeated, overwritten or flipped, ``chunks`` put in, or its end cut off."""
    data = valid
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 16))
        kind = draw(st.sampled_from(("insert", "replace", "delete", "repeat", "flip", "bytes", "cut")))
        head, span, tail = data[:start], data[start : start + length], data[start + length :]
        if kind in ("insert", "replace") and chunks:
            data = head + draw(st.sampled_from(chunks)) + (span if kind == "insert" else b"") + tail
        elif kind == "delete":
            data = head + tail
        elif kind == "repeat":
            data = head + span * min(draw(st.sampled_from((2, 3, 100, 10_000))), 20_000 // max(1, length)) + tail
        elif kind == "flip":
            data = head + bytes(byte ^ draw(st.integers(1, 255)) for byte in span[:1]) + span[1:] + tail
        elif kind == "bytes":
            data = head + draw(st.binary(max_size=16)) + tail
        elif kind == "cut":
            data = head
    return data


def encoded(words: Iterable[str]) -> tuple[bytes, ...]:
    """Return words as the bytes of a file, those that are no text too."""
    return tuple(word.encode("utf-8", "surrogatepass") for word in words)
