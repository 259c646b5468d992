"""Signals that ask a run to stop: they are recorded when they come, and the run stops where no step is half done.

Ctrl-C raises an exception wherever Python happens to be: inside a step, between the weights and
their mean, while a file is written. A run that saved its state there would continue otherwise than an
uninterrupted one. So here a signal only sets a flag, and the loop stops at the end of the step.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from upscore.errors import RunInterrupted

__all__ = ["SIGNALS", "Interrupts", "recording_signals"]

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C, the request to end (``kill``, clusters, containers), and a closed terminal; those that the system has."""


class Interrupts:
    """The signals that a run received: ``asked`` is the number of the first that came, 0 while there is none."""

    asked: int = 0


@contextlib.contextmanager
def recording_signals(
    *, insist: bool = True, message: str = "", forward: Callable[[int], None] = lambda number: None
) -> Iterator[Interrupts]:
    """Record signals instead of being interrupted by them, until the block ends; then the handlers of before are restored.

    Only Python's main thread receives signals; in any other thread nothing is changed. Signals that are
    ignored (``nohup``) stay ignored, and the caller's own handlers stay installed, except that of Ctrl-C.
    ``forward`` is called with the number of each signal; ``message``, unless empty, is written to standard error when the first one comes;
    with ``insist`` a second one raises RunInterrupted at once, wherever Python is.
    """
    interrupts, owner = Interrupts(), os.getpid()
    replaced: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def record(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a process forked from this one has its handlers too
            return
        forward(number)
        if not interrupts.asked:
            interrupts.asked = number
            if message:
                with contextlib.suppress(OSError):  # a closed terminal
                    os.write(2, f"\n{message}\n".encode())  # not through a buffer that the interrupted line may be using
        elif insist:
            raise RunInterrupted("interrupted twice: stopped at once; what came after the last checkpoint is lost", number=number)

    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if handler is signal.SIG_DFL or (number == signal.SIGINT and callable(handler)):
                replaced[number] = handler
                signal.signal(number, record)
    try:
        yield interrupts
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)
