"""Signals that ask a run to stop: noted when they come, heeded where nothing is half done.

Ctrl-C raises an exception wherever Python happens to be: inside a step, between the weights and
their mean, while a file is written. A run that saved its state there would go on otherwise than an
unbroken one. So here a signal only sets a flag, and the loop stops at the end of the step.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from upscore.errors import RunInterrupted

__all__ = ["Interrupts", "heeded"]

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C, the request to end (``kill``, clusters, containers), and a terminal that is gone; those that the system has."""


class Interrupts:
    """What has been asked of a run so far.

    Attributes
    ----------
    asked : int
        Number of the first signal that came; 0 while there is none.
    """

    def __init__(self) -> None:
        self.asked = 0


@contextlib.contextmanager
def heeded(*, insist: bool = True, waiting: str = "", forward: Callable[[int], None] = lambda number: None) -> Iterator[Interrupts]:
    """Note signals instead of being broken off by them, until the block ends; then what held before holds again.

    Only Python's main thread is told of signals; in another one nothing is changed. Signals that are
    ignored (``nohup``) stay ignored, and a handler of the caller's own stays in its place,
    but for Ctrl-C.

    Parameters
    ----------
    insist : bool
        A second signal raises at once, wherever Python is.
    waiting : str
        Written to standard error when the first one comes; nothing when empty.
    forward : callable
        Called with the number of each signal.

    Raises
    ------
    RunInterrupted
        A second signal came.
    """
    interrupts, owner = Interrupts(), os.getpid()
    replaced: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def note(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a process forked from this one has its handlers too
            return
        forward(number)
        if not interrupts.asked:
            interrupts.asked = number
            if waiting:
                with contextlib.suppress(OSError):  # a terminal that is gone
                    os.write(2, f"\n{waiting}\n".encode())  # no buffer that the interrupted line may hold
        elif insist:
            raise RunInterrupted("interrupted twice: stopped at once; what came after the last checkpoint is lost", number=number)

    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if handler is signal.SIG_DFL or (number == signal.SIGINT and callable(handler)):
                replaced[number] = handler
                signal.signal(number, note)
    try:
        yield interrupts
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)
