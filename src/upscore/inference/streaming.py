"""Reading and writing in threads beside the computation: in order, and in bounded memory.

::

    items ─► read (threads) ─► compute (this thread) ─► write (threads) ─► results, in the order of the items

The thread that asks for results also starts all work and counts what is under way, so that nothing needs a lock.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["MAX_BYTES", "MAX_ITEMS", "stream"]

Item = TypeVar("Item")
Value = TypeVar("Value")
Result = TypeVar("Result")
Output = TypeVar("Output")

MAX_ITEMS = 8
"""Items under way: being read, waiting, computed or written."""

MAX_BYTES = 2**28
"""What items under way may weigh together; one that weighs more is under way alone."""

THREADS = min(4, os.cpu_count() or 1)
"""That read, and as many that write."""


def stream(
    items: Iterable[Item],
    *,
    read: Callable[[Item], Value],
    compute: Callable[[Item, Value], Result],
    write: Callable[[Result], Output],
    weigh: Callable[[Item], int],
    max_items: int = MAX_ITEMS,
    max_bytes: int = MAX_BYTES,
) -> Generator[Output, None, None]:
    """Take each item through three steps, several items at a time; yields what ``write`` returned, in the order of the items.

    Whatever a step raises is raised here and ends the stream, as closing it does: what is not computed yet
    is given up, what is computed is still written, and no thread is left.

    Parameters
    ----------
    items : iterable
        Taken one by one, as there is room.
    read, write : callable
        Run in threads, several at a time.
    compute : callable
        Runs in the thread that asks for results, one item at a time, in order.
    weigh : callable
        Bytes that an item takes from when it is read until it is written.
    max_items, max_bytes : int
        What may be under way.
    """
    coming = iter(items)
    item = next(coming, None)
    reading: deque[tuple[Item, int, Future[Value]]] = deque()
    writing: deque[tuple[int, Future[Output]]] = deque()
    held = 0
    with ThreadPoolExecutor(THREADS, "write") as writers, ThreadPoolExecutor(THREADS, "read") as readers:
        try:
            while item is not None or reading or writing:
                while item is not None and len(reading) + len(writing) < max_items:
                    weight = weigh(item)
                    if held and held + weight > max_bytes:
                        break
                    held += weight
                    reading.append((item, weight, readers.submit(read, item)))
                    item = next(coming, None)
                if writing and (writing[0][1].done() or not reading):
                    weight, written = writing.popleft()
                    held -= weight
                    yield written.result()
                elif reading:
                    current, weight, value = reading.popleft()
                    result = compute(current, value.result())
                    writing.append((weight, writers.submit(write, result)))
        finally:
            for _, _, value in reading:
                value.cancel()
