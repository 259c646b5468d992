"""Memory is bounded: whatever a module's inputs say, the process grows by less than two gibibytes."""

import resource
import sys

import pytest

_MOST = 2 * 2**30


@pytest.fixture(scope="module", autouse=True)
def _bounded_memory():
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    yield
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before
    assert grown < _MOST, f"these inputs took {grown / 2**20:.0f} MiB"
