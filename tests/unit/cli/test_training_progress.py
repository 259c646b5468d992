"""The line of each epoch: its values, and "best" only where the mIoU is the best so far."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from upscore.cli import training_progress
from upscore.cli.training_progress import TrainingProgressBar
from upscore.training.checkpoint import Progress
from upscore.training.recipe import Recipe


@pytest.fixture
def progress_bar():
    return TrainingProgressBar()


def rows(bar, *values):
    for epoch, miou in enumerate(values, start=1):
        row = {"epoch": float(epoch), "loss": 1 / epoch}
        bar.row(row if miou is None else row | {"miou": miou, "pixel_accuracy": miou + 0.1, "val_loss": 2 / epoch})


def test_best_is_printed_only_where_the_miou_is_the_best_so_far(progress_bar, capsys):
    rows(progress_bar, 0.3, 0.2, 0.3, None, 0.31, 0.305)
    lines = capsys.readouterr().err.splitlines()
    assert [line.endswith("best") for line in lines] == [True, False, False, False, True, False]
    assert "mIoU" not in lines[3]


def test_a_resumed_run_knows_its_best(progress_bar, capsys):
    recipe = Recipe().with_values({"run.epochs": 3})
    progress_bar.begin(recipe=recipe, progress=Progress(step=2, best_miou=0.5, best_epoch=1), steps_per_epoch=2)
    rows(progress_bar, 0.4, 0.6)
    progress_bar.end(SimpleNamespace(stopped=False))
    lines = [line for line in capsys.readouterr().err.splitlines() if "mIoU" in line]
    assert ["best" in line for line in lines] == [False, True]
    assert "/3" in lines[0]


def test_the_line_shows_the_values_of_its_names(progress_bar, capsys):
    progress_bar.row({"epoch": 2.0, "loss": 0.1234, "val_loss": 0.5678, "miou": 0.4321, "pixel_accuracy": 0.8765})
    line = " ".join(capsys.readouterr().err.split())
    assert "loss 0.1234 val loss 0.5678 mIoU 43.21 % pixel accuracy 87.65 % best" in line


def begun(estimate, clock, *, epochs=4, step=0):
    bar = TrainingProgressBar(estimate)
    bar.begin(recipe=Recipe().with_values({"run.epochs": epochs}), progress=Progress(step=step), steps_per_epoch=5)
    return bar


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(training_progress.time, "monotonic", lambda: now[0])
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
