"""What a run shows: bars and lines where a person sees them, lines also into a file from a command, or the rows to a function."""

import functools
import io
import pickle
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from squares import Squares, make_network
from upscore.errors import RecipeError
from upscore.training import progress_bar
from upscore.training.checkpoint import Progress
from upscore.training.launch import train
from upscore.training.progress_bar import RowListener, TrainingProgressBar, listener_for, reading_bar, show_warnings
from upscore.training.progress_listener import SilentListener
from upscore.training.recipe import Recipe
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


def plain(terminal):
    """What was written, without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())


def test_a_person_sees_a_bar_and_the_rows(terminal, tmp_path):
    finished = run(tmp_path)
    seen = plain(terminal)
    for row in finished.progress.history:
        assert f"epoch {row['epoch']:>3g}/2  loss {row['loss']:.4f}" in seen
        assert f"mIoU {100 * row['miou']:5.2f} %" in seen
    assert "reading the data" in seen
    assert re.search(r"100% .*images/s", seen)


def test_a_terminal_that_cannot_redraw_has_lines_alone(tmp_path, monkeypatch):
    seen = io.StringIO()
    dumb = Console(file=seen, force_terminal=True, width=100, _environ={"TERM": "dumb"})
    monkeypatch.setattr(progress_bar, "_console", lambda: dumb)
    run(tmp_path)
    assert [line[:11] for line in seen.getvalue().splitlines()] == ["epoch   1/2", "epoch   2/2"]


def test_a_resumed_run_shows_them_too(terminal, tmp_path):
    run(tmp_path, progress=False)
    assert terminal.getvalue() == ""
    data = {"train": Squares(), "val": Squares(3, first=100), "model": make_network()}
    resume(tmp_path / "run", changes={"run.epochs": 3}, **data)
    assert "epoch   3/3  loss" in plain(terminal)


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
    assert isinstance(listener_for(True)(), TrainingProgressBar)
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
    assert TrainingProgressBar().bar.disable
    monkeypatch.setattr(progress_bar, "find_spec", lambda name: name)
    assert not TrainingProgressBar().bar.disable
    with reading_bar(False) as bar:
        bar(1, 2)


@pytest.fixture
def command():
    """What a command shows: lines in any case."""
    return TrainingProgressBar(always=True)


def rows(bar, *values):
    for epoch, miou in enumerate(values, start=1):
        row = {"epoch": float(epoch), "loss": 1 / epoch}
        bar.row(row if miou is None else row | {"miou": miou, "pixel_accuracy": miou + 0.1, "val_loss": 2 / epoch})


def test_best_is_printed_only_where_the_miou_is_the_best_so_far(command, capsys):
    rows(command, 0.3, 0.2, 0.3, None, 0.31, 0.305)
    lines = capsys.readouterr().err.splitlines()
    assert [line.endswith("best") for line in lines] == [True, False, False, False, True, False]
    assert "mIoU" not in lines[3]


def test_a_resumed_run_knows_its_best(command, capsys):
    recipe = Recipe().with_values({"run.epochs": 3})
    command.begin(recipe=recipe, progress=Progress(step=2, best_miou=0.5, best_epoch=1), steps_per_epoch=2)
    rows(command, 0.4, 0.6)
    command.end(SimpleNamespace(stopped=False))
    lines = [line for line in capsys.readouterr().err.splitlines() if "mIoU" in line]
    assert ["best" in line for line in lines] == [False, True]
    assert "/3" in lines[0]


def test_the_line_shows_the_values_of_its_names(command, capsys):
    command.row({"epoch": 2.0, "loss": 0.1234, "val_loss": 0.5678, "miou": 0.4321, "pixel_accuracy": 0.8765})
    line = " ".join(capsys.readouterr().err.split())
    assert "loss 0.1234 val loss 0.5678 mIoU 43.21 % pixel accuracy 87.65 % best" in line


def begun(estimate, clock, *, epochs=4, step=0):
    bar = TrainingProgressBar(estimate, always=True)
    bar.begin(recipe=Recipe().with_values({"run.epochs": epochs}), progress=Progress(step=step), steps_per_epoch=5)
    return bar


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress_bar.time, "monotonic", lambda: now[0])
    return now


def test_the_estimate_is_corrected_as_the_run_proceeds(clock):
    bar = begun(40.0, clock)  # 20 steps of 2 seconds, as it is thought
    assert bar.seconds_left() == 40.0
    for step in range(1, 21):
        clock[0] += 4.0  # they take 4
        bar.step(epoch=1, loss=1.0, images=8)
        known = min(1.0, step / 5)
        assert bar.seconds_left() == pytest.approx((20 - step) * (4 * known + 2 * (1 - known)))
        clock[0] += 0.5
        assert bar.seconds_left() == pytest.approx(max(0, (20 - step) * (4 * known + 2 * (1 - known)) - 0.5)), "it is counted down"
        clock[0] -= 0.5
    assert bar.rate == pytest.approx(2.0)
    assert bar.seconds_left() == 0


def test_a_resumed_run_is_measured_from_where_it_went_on(clock):
    bar = begun(None, clock, step=10)
    assert bar.seconds_left() is None
    clock[0] += 3.0
    bar.step(epoch=3, loss=1.0, images=8)
    assert bar.seconds_left() == pytest.approx(9 * 3.0)


def test_a_validation_has_a_bar_of_its_own(clock):
    bar = begun(40.0, clock)
    bar.step(epoch=1, loss=1.0, images=8)
    training, validation = bar.bar.tasks
    bar.validating(2, 7)
    assert (validation.visible, validation.completed, validation.total) == (True, 2, 7)
    assert (training.visible, training.completed, training.total) == (True, 1, 20)
    assert "2/7 images" in str(bar.bar.columns[-1].render(validation))
    assert "left" in str(bar.bar.columns[-1].render(training))
    bar.row({"epoch": 1.0, "loss": 1.0})
    assert not validation.visible


def test_where_no_bar_can_be_drawn_the_time_left_is_printed_now_and_then(clock, capsys):
    bar = begun(4000.0, clock)
    for epoch in range(1, 4):
        clock[0] += 200.0
        for _ in range(5):
            bar.step(epoch=epoch, loss=1.0, images=8)
        bar.row({"epoch": float(epoch), "loss": 1.0})
    assert [line for line in capsys.readouterr().err.splitlines() if "left" in line] == ["about 7 minutes left"]


def test_the_longest_line_fits_into_80_columns(clock, monkeypatch):
    bar = begun(100 * 3600.0, clock, epochs=300)
    bar.step(epoch=200, loss=10.123, images=80)
    bar.rate = 1234.5
    console = Console(width=200, file=io.StringIO())
    console.print(bar.bar.get_renderable())
    assert max(len(line.rstrip()) for line in console.file.getvalue().splitlines()) <= 80
