"""The line of each epoch: its values, and "best" only where the mIoU is the best so far."""

from types import SimpleNamespace

import pytest

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
    assert "loss 0.1234 val loss 0.5678 mIoU 43.21 pixel accuracy 87.65 best" in line
