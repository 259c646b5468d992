"""Runs as they are started from the command line: what the log shows of their schedule and their processes."""

import csv
import os
import stat

import pytest

from painting import paint, small_recipe
from upscore.data.image_files import read_image
from upscore.data.png_files import write_image


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """A dataset of one training image, so that every process of a run reads the same one."""
    return paint(tmp_path_factory.mktemp("single"), train=1, val=1)


def log_of(folder):
    return list(csv.DictReader((folder / "log.csv").read_text().splitlines()))


def still(data, folder, **values):
    """A recipe without augmentation, whose loss differs between processes by their dropout alone."""
    values = {"augment.crop_size": [48, 56], "augment.flip": 0.0, "augment.scale": [1.0, 1.0], "run.precise_bn": 0, **values}
    small_recipe(data, folder / "unused", **values).save(folder / "still.toml")
    return folder / "still.toml"


def test_processes_do_not_share_dropout(upscore, single, tmp_path):
    """Two processes with the same image and the same dropout would have the losses of one.

    That they have them without dropout shows ``test_two_processes_follow_the_objective_of_one``.
    """
    recipe = still(single, tmp_path, **{"run.epochs": 3, "optimizer.name": "sgd", "optimizer.lr": 0.1})
    losses = []
    for count in (1, 2):
        code, _, aside = upscore(
            "train", single, "--recipe", recipe, "--out", tmp_path / str(count), "--devices", count, "--batch-size", count
        )
        assert code == 0, aside
        losses.append([float(row["loss"]) for row in log_of(tmp_path / str(count))])
    one, two = losses
    assert two[0] == pytest.approx(one[0], rel=1e-6), "score layers begin at 0: the first loss is that of equal probabilities"
    assert two[1:] != pytest.approx(one[1:], rel=1e-4)


@pytest.mark.parametrize(
    ("name", "settings", "factor"),
    [("poly", {"power": 2.0}, lambda done: (1 - done) ** 2), ("poly", {"power": 0.5}, lambda done: (1 - done) ** 0.5)],
)
def test_the_log_shows_the_schedule_that_is_asked_for(upscore, single, tmp_path, name, settings, factor):
    recipe = still(single, tmp_path, **{"run.epochs": 4, "run.batch_size": 1})
    words = [word for key, value in {"name": name, **settings}.items() for word in ("--set", f"schedule.{key}={value}")]
    code, _, aside = upscore(
        "train", single, "--recipe", recipe, "--out", tmp_path / "run", "--lr", "0.001", "--set", "schedule.warmup_steps=0", *words
    )
    assert code == 0, aside
    rates = [float(row["lr"]) for row in log_of(tmp_path / "run")]
    assert rates == pytest.approx([0.001 * factor(step / 4) for step in range(4)])


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_others_may_read_what_the_commands_write(upscore, single, tmp_path, mask, mode):
    write_image(tmp_path / "image.png", read_image(single.parent / "images" / "val" / "000.png"))
    recipe = still(single, tmp_path, **{"run.epochs": 1, "run.batch_size": 1})
    run, out = tmp_path / "out" / "run", tmp_path / "out"
    commands = [
        ("train", single, "--recipe", recipe, "--out", run),
        ("evaluate", run, single),
        ("predict", run, tmp_path / "image.png", "--probs", "--out", out / "predictions"),
        ("explain", run, tmp_path / "image.png", "--grid", "0x0", "--out", out / "page.html"),
        ("ensemble", run, run, "--out", out / "ensemble"),
    ]
    before = os.umask(mask)
    try:
        for words in commands:
            code, _, aside = upscore(*words)
            assert code == 0, aside
    finally:
        os.umask(before)
    files = [path for path in out.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".toml", ".csv", ".safetensors", ".json", ".html", ".png", ".jpg", ".npy"}
    assert {str(path.relative_to(out)): stat.S_IMODE(path.stat().st_mode) for path in files} == {
        str(path.relative_to(out)): mode for path in files
    }
