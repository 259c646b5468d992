"""What the commands print."""

import contextlib
import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress

from upscore.cli import console, results
from upscore.cli.next_command import print_next
from upscore.errors import DataError, RunInterrupted, UpscoreError
from upscore.evaluation.evaluate import evaluate
from upscore.inference.file_discovery import DiscoveredImages
from upscore.inference.predict_files import LabelledImage
from upscore.settings import InferenceSettings
from upscore.text import describe_duration
from upscore.types import LabelSpace, Prediction, Sample


@pytest.mark.parametrize("compiled", [True, False])
def test_a_crf_without_its_compiled_part_is_reported(compiled, monkeypatch, capsys):
    pytest.importorskip("upscore._native", reason="upscore was installed without a compiler")
    if not compiled:
        monkeypatch.setitem(sys.modules, "upscore._native", None)
        monkeypatch.delattr("upscore._native", raising=False)
    results.print_predictions([], DiscoveredImages(()), Path("out"), InferenceSettings().with_overrides(crf=True))
    said = capsys.readouterr().out
    assert "CRF: 5 iterations" in said
    assert ("compiler" in said) is not compiled


def test_names_are_printed_without_markup_with_hidden_characters_visible_and_short(capsys):
    hostile = "a\x1b[2J\n\u202e[bold]x[/bold]:car:\udcff"
    labels = LabelSpace((hostile, "x" * 200, "back\\"))

    class Images:
        name, split, warnings, keys = hostile, "val", (), (hostile,)

        def __init__(self):
            self.labels = labels

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return Sample(hostile, np.zeros((8, 8, 3), np.uint8), np.arange(64, dtype=np.uint8).reshape(8, 8) % 3)

    class Right:
        card, source = {}, hostile

        def __init__(self):
            self.labels = labels

        def predict(self, image):
            return Prediction(np.arange(64, dtype=np.uint8).reshape(8, 8) % 3, labels)

    results.print_evaluation(evaluate(Right(), Images()), Path(hostile), as_json=False)
    results.print_image(LabelledImage(hostile, error=str(DataError(hostile)), warnings=[hostile]))
    console.print_line(hostile)
    with console.tuning_bar() as (say, _):
        say(hostile)
    said = capsys.readouterr()
    for text in (said.out, said.err):
        assert "a\\x1b[2J\\n\\u202e[bold]x[/bold]:car:\\udcff" in "".join(text.split("\n"))
        assert not set(text) & set("\x1b\u202e\udcff")
    assert "x" * 20 in said.out
    assert "…" in said.out
    assert said.out.count("x") < 100


def test_an_evaluation_names_the_command_to_run_next_on_one_line(capsys):
    command = "upscore predict 'my run' " + "long/" * 100
    print_next(command)
    assert capsys.readouterr().out == f"next: {command}\n"
    print_next(None)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 second"),
        (89, "89 seconds"),
        (90, "2 minutes"),
        (2400, "40 minutes"),
        (5401, "2 hours"),
        (86400, "24 hours"),
        (200_000, "2 days"),
    ],
)
def test_durations_have_one_unit(seconds, words):
    assert describe_duration(seconds) == words


def terminal(monkeypatch, *, dumb=False):
    """Let standard error be a terminal of 80 columns; return what is written to it."""
    written = io.StringIO()
    monkeypatch.setattr(written, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", written)
    monkeypatch.setenv("TERM", "dumb" if dumb else "xterm")
    monkeypatch.setattr(console, "aside", Console(stderr=True, force_terminal=True, width=80))
    return written


@pytest.mark.parametrize("ends_well", [True, False])
def test_a_line_is_shown_while_something_loads_and_is_gone_afterwards(monkeypatch, capsys, ends_well):
    with console.loading():
        pass
    assert capsys.readouterr().err == "", "a file or a pipe gets nothing"
    written = terminal(monkeypatch)
    with contextlib.suppress(ValueError), console.loading():
        assert written.getvalue() == "upscore: loading PyTorch …"
        if not ends_well:
            raise ValueError
    shown, blank, left = written.getvalue().split("\r")
    assert (blank.strip(), left) == ("", "")
    assert len(blank) >= len(shown)
    assert "\x1b" not in written.getvalue(), "a dumb terminal knows no control sequences"


def test_a_large_image_advances_the_bar_tile_by_tile_with_its_name(monkeypatch):
    class Immediate(Progress):
        def update(self, *which, **values):
            super().update(*which, **values, refresh=True)

    monkeypatch.setattr(console, "Progress", Immediate)
    written = terminal(monkeypatch)
    with console.image_bar("predicting", {"a.tif": 100, "b.tif": 300}) as bar:
        bar.inside(Path("a mosaic of a very long name indeed, longer than any.tif"), 25, 100)
        bar.advance("a.tif")
        bar.inside(Path("b.tif"), 300, 300)
        bar.advance("b.tif")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.getvalue())
    assert re.search(r"0/2 .*a mosaic.*….* 25 %", plain)
    assert re.search(r"predicting ━━━━━╺━+ 1/2", plain), "a quarter of the pixels"
    assert re.search(r"predicting ━{20} 2/2", plain)
    assert "100 %" not in plain
    assert "writing" not in plain
    assert max(map(len, re.split(r"[\r\n]", plain))) <= 80


@pytest.mark.parametrize("dumb", [True, False])
def test_where_no_bar_can_be_drawn_there_is_a_plain_line_now_and_then(monkeypatch, capsys, dumb):
    clock = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    written = terminal(monkeypatch, dumb=True) if dumb else None
    with console.progress_bar("evaluating") as show, console.image_bar("predicting", dict.fromkeys("abcdefghi", 4)) as bar:
        for done in range(10):
            show(done, 9)
            bar.inside(Path("a"), 1, 4)
            bar.advance("a")
            clock[0] += console.PLAIN_SECONDS / 4
    lines = (written.getvalue() if dumb else capsys.readouterr().err).splitlines()
    assert lines == ["evaluating: 4 of 9", "predicting: 4 of 9", "evaluating: 8 of 9", "predicting: 8 of 9"]


def test_quiet_work_prints_nothing(monkeypatch, capsys):
    monkeypatch.setattr(console, "PLAIN_SECONDS", 0.0)
    with console.progress_bar("evaluating", quiet=True) as show:
        show(1, 9)
    assert capsys.readouterr() == ("", "")


def test_memory_that_runs_out_anywhere_is_one_line_with_its_levers():
    for error in (MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")):
        with pytest.raises(UpscoreError, match="memory ran out: use less"), console.report_errors(memory="use less"):
            raise error
    with pytest.raises(RuntimeError, match="other"), console.report_errors(memory="use less"):
        raise RuntimeError("other")
    own = UpscoreError("out of memory: its own levers")
    with pytest.raises(UpscoreError) as caught, console.report_errors(memory="use less"):
        raise own
    assert caught.value is own


def test_an_interrupt_says_what_is_left(capsys):
    with pytest.raises(SystemExit) as left, console.report_errors("no page was written"):
        raise KeyboardInterrupt
    assert (left.value.code, capsys.readouterr().err) == (130, "upscore: interrupted: no page was written\n")
    with pytest.raises(SystemExit) as left, console.report_errors("no page was written"):
        raise RunInterrupted("interrupted: half is done", number=15)
    assert (left.value.code, capsys.readouterr().err) == (143, "upscore: interrupted: half is done\n")


def test_the_files_of_a_large_image_are_said_to_be_written():
    shown = []
    bar = console.ImageBar({"a.tif": 10**8}, lambda images, pixels, inside: shown.append(inside))
    bar.inside(Path("a.tif"), 10**8, 10**8)
    bar.advance("a.tif")
    assert shown == ["writing a.tif", ""]
