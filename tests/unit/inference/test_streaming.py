"""Reading and writing beside the computation: order, bounds, errors, and no thread that is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from upscore.inference.streaming import stream


class Watch:
    """Three steps that count what is under way; each item is a number that takes as many milliseconds to read and to write."""

    def __init__(self, fails: dict[str, int] | None = None) -> None:
        self.fails = fails or {}
        self.lock = threading.Lock()
        self.held: set[int] = set()
        self.peaks: list[list[int]] = []
        self.computed: list[int] = []
        self.written: list[int] = []
        self.threads: set[str] = set()

    def _step(self, step: str, item: int) -> None:
        self.threads.add(f"{step} {threading.current_thread().name}")
        if self.fails.get(step) == item:
            raise KeyError(f"{step} {item}")

    def read(self, item: int) -> int:
        with self.lock:
            self.held.add(item)
            self.peaks.append(sorted(self.held))
        time.sleep(item / 1000)
        self._step("read", item)
        return item

    def compute(self, item: int, value: int) -> int:
        assert item == value
        self._step("compute", item)
        self.computed.append(item)
        return item

    def write(self, item: int) -> int:
        time.sleep(item / 1000)
        self._step("write", item)
        with self.lock:
            self.held.discard(item)
            self.written.append(item)
        return -item

    def run(self, items: list[int], *, weigh: Callable[[int], int] = lambda item: 1, **limits: int):
        return stream(items, read=self.read, compute=self.compute, write=self.write, weigh=weigh, **limits)


SLOW_FIRST = [20, 3, 15, 1, 9, 2, 2, 11, 4, 1, 1, 6]


def no_threads() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name.startswith(("read", "write"))]


def test_results_come_in_the_order_of_the_items():
    watch = Watch()
    items = [10 * item + number for number, item in enumerate(SLOW_FIRST)]
    assert list(watch.run(items)) == [-item for item in items]
    assert watch.computed == items
    assert watch.written != items  # some were written out of turn, or this shows nothing
    main = threading.current_thread().name
    assert f"compute {main}" in watch.threads
    assert not {f"read {main}", f"write {main}"} & watch.threads
    assert no_threads()


def test_nothing_is_no_work():
    assert list(Watch().run([])) == []


@pytest.mark.parametrize("max_items", [1, 2, 5])
def test_no_more_items_are_under_way_than_allowed(max_items: int):
    watch = Watch()
    list(watch.run(list(range(1, 20)), max_items=max_items))
    assert max(map(len, watch.peaks)) <= max_items
    assert max_items == 1 or max(map(len, watch.peaks)) > 1


def test_what_is_under_way_weighs_no_more_than_allowed_and_what_weighs_more_is_alone():
    watch = Watch()
    items = [3, 4, 2, 30, 5, 1, 6, 2]
    assert list(watch.run(items, weigh=lambda item: item, max_bytes=9)) == [-item for item in items]
    assert all(sum(peak) <= 9 or peak == [30] for peak in watch.peaks)
    assert any(len(peak) > 1 for peak in watch.peaks)


@pytest.mark.parametrize("step", ["read", "compute", "write"])
@pytest.mark.parametrize("item", [1, 4, 12])
def test_an_error_in_any_step_ends_it_and_leaves_no_thread(step: str, item: int):
    watch = Watch({step: item})
    seen: list[int] = []
    with pytest.raises(KeyError, match=f"{step} {item}"):
        seen.extend(-result for result in watch.run(list(range(1, 13))))
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) < item
    assert no_threads()
    assert set(watch.computed) - set(watch.written) <= {item}  # what was computed is written


def test_closing_gives_up_what_is_not_computed_and_writes_what_is():
    watch = Watch()
    running = watch.run(list(range(1, 30)))
    assert next(running) == -1
    running.close()
    assert no_threads()
    assert sorted(watch.written) == watch.computed
    assert len(watch.computed) < 12


def test_an_interrupt_of_the_computation_ends_it():
    watch = Watch()

    def interrupted(item: int, value: int) -> int:
        if item == 5:
            raise KeyboardInterrupt
        return watch.compute(item, value)

    with pytest.raises(KeyboardInterrupt):
        list(stream(range(1, 30), read=watch.read, compute=interrupted, write=watch.write, weigh=lambda item: 1))
    assert sorted(watch.written) == [1, 2, 3, 4]
    assert no_threads()


def test_items_are_taken_as_there_is_room():
    taken = []

    def items():
        for item in range(1, 1000):
            taken.append(item)
            yield item

    running = stream(items(), read=lambda i: i, compute=lambda i, v: v, write=lambda v: v, weigh=lambda i: 1, max_items=3)
    assert next(running) == 1
    assert len(taken) < 10
    running.close()
