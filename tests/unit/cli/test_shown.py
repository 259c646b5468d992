"""What the commands show."""

import sys
from pathlib import Path

import pytest

from upscore.cli import shown
from upscore.inference.finding import Found
from upscore.inference.settings import InferenceSettings


@pytest.mark.parametrize("compiled", [True, False])
def test_a_crf_that_could_be_faster_says_so(compiled, monkeypatch, capsys):
    pytest.importorskip("upscore._native", reason="upscore was installed without a compiler")
    if not compiled:
        monkeypatch.setitem(sys.modules, "upscore._native", None)
        monkeypatch.delattr("upscore._native", raising=False)
    shown.predicted([], Found(()), Path("out"), InferenceSettings.of(None, crf=True))
    said = capsys.readouterr().out
    assert "CRF: 5 iterations" in said
    assert ("compiler" in said) is not compiled
