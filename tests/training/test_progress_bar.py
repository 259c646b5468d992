"""What a run that is started from Python shows: a bar and lines where a person sees them, nothing else, or the rows to a function."""

import functools
import io
import pickle
import re

import pytest
from rich.console import Console

from squares import Squares, make_network
from upscore.errors import RecipeError
from upscore.training import progress_bar
from upscore.training.launch import train
from upscore.training.progress_bar import ProgressBar, RowListener, listener_for, reading_bar, show_warnings
from upscore.training.progress_listener import SilentListener
from upscore.training.resume import resume


def run(folder, **values):
    return train(
        train=Squares(), val=Squares(3, first=100), model=make_network(), epochs=2, batch_size=3, device="cpu", tensorboard=False,
        out=folder / "run", **values,
    )  # fmt: skip


@pytest.fixture
def terminal(monkeypatch):
    """What a person would see."""
    seen = io.StringIO()
    monkeypatch.setattr(progress_bar, "_console", lambda: Console(file=seen, force_terminal=True, width=100, highlight=False))
    return seen


def test_a_person_sees_a_bar_and_the_rows(terminal, tmp_path):
    finished = run(tmp_path)
    seen = terminal.getvalue()
    for row in finished.progress.history:
        assert f"epoch {row['epoch']}  step {row['step']}  loss {row['loss']:.4g}" in seen
        assert f"miou {row['miou']:.4g}" in seen
    assert "reading the data" in seen
    assert "4/4" in seen


def test_a_validation_has_a_bar_of_its_own(terminal):
    bar = ProgressBar()
    bar.bars.start()
    bar.validating(1, 3)
    bar.bars.refresh()
    assert re.search(r"validating.* 1/3", re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()))
    before = len(terminal.getvalue())
    bar.validating(3, 3)
    bar.bars.refresh()
    assert "validating" not in terminal.getvalue()[before:]
    bar.bars.stop()


def test_a_resumed_run_shows_them_too(terminal, tmp_path):
    run(tmp_path, progress=False)
    assert terminal.getvalue() == ""
    data = {"train": Squares(), "val": Squares(3, first=100), "model": make_network()}
    resume(tmp_path / "run", changes={"run.epochs": 3}, **data)
    assert "epoch 3  step 6" in terminal.getvalue()


@pytest.mark.parametrize("progress", [True, False])
def test_nobody_is_told_anything_where_nobody_looks(tmp_path, progress, capfd):
    run(tmp_path, progress=progress)
    assert capfd.readouterr() == ("", "")


def test_a_function_gets_each_row(tmp_path, capfd):
    rows = []

    def take(row):
        rows.append(dict(row))
        row.clear()  # what it gets is its own

    finished = run(tmp_path, progress=take)
    assert rows == finished.progress.history
    assert capfd.readouterr() == ("", "")


def test_a_listener_takes_the_place_of_progress(terminal, tmp_path):
    told = []

    class Listener(SilentListener):
        def validating(self, done, total):
            told.append((done, total))

    run(tmp_path, listener=Listener)
    assert told == [(1, 3), (2, 3), (3, 3)] * 2
    assert terminal.getvalue() == ""


def test_listeners_can_be_sent_to_other_processes():
    for listener in (listener_for(True), listener_for(False), listener_for(print)):
        assert pickle.loads(pickle.dumps(listener))() is not None
    assert isinstance(listener_for(True)(), ProgressBar)
    assert isinstance(listener_for(functools.partial(print))(), RowListener)
    with pytest.raises(RecipeError, match="found progress='bar'"):
        listener_for("bar")


def test_warnings_are_lines_for_a_person(terminal):
    show_warnings(["one [bold]\nline\x1b"], False)
    assert terminal.getvalue() == ""
    show_warnings(["one [bold]\nline\x1b"], True)
    assert "warning:" in terminal.getvalue()
    assert terminal.getvalue().count("\n") == 1
    assert r"one [bold]\nline\x1b" in terminal.getvalue()


def test_a_notebook_without_widgets_has_lines_alone(monkeypatch):
    monkeypatch.setattr(progress_bar, "_console", lambda: Console(file=io.StringIO(), force_jupyter=True))
    monkeypatch.setattr(progress_bar, "find_spec", lambda name: None)
    assert ProgressBar().bars.disable
    monkeypatch.setattr(progress_bar, "find_spec", lambda name: name)
    assert not ProgressBar().bars.disable
    with reading_bar(False) as bar:
        bar(1, 2)
