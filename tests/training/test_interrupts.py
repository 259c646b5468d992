"""A run that is asked to stop, or killed, at any moment: it goes on to the weights and the log of an unbroken one."""

import csv
import os
import re
import signal
import subprocess
import sys
import threading

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from painting import small_recipe
from upscore.errors import RunInterrupted, TrainingError
from upscore.losses import Objective
from upscore.models.bundle import Bundle
from upscore.training import checkpoint, train_step, validation
from upscore.training.interrupts import recording_signals
from upscore.training.launch import train
from upscore.training.progress_listener import SilentListener
from upscore.training.resume import resume

VALUES = {
    "model.backbone": "test_resnet",
    "model.arguments": {},
    "run.average": 0.9,
    "run.precise_bn": 2,
    "run.checkpoint_minutes": 1e-9,  # after every step
}
"""Batch normalisation in training, a running mean of the weights, and statistics that are measured."""


@pytest.fixture(scope="module")
def unbroken(painted, tmp_path_factory):
    return train(small_recipe(painted, tmp_path_factory.mktemp("runs") / "unbroken", **VALUES))


def log_of(folder):
    """Return the rows of the log without the seconds."""
    rows = list(csv.DictReader((folder / "log.csv").read_text().splitlines()))
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def assert_same_run(one, other):
    """Compare what two runs leave, bit for bit: state, bundles and log."""
    for name in ("checkpoint.safetensors", "best/weights.safetensors", "last/weights.safetensors"):
        ours, theirs = load_file(one / name), load_file(other / name)
        assert ours.keys() == theirs.keys()
        assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == [], name
    assert log_of(one) == log_of(other)
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in other.iterdir())
    assert Bundle.load(one).card["metrics"] == Bundle.load(other).card["metrics"]


def signalling(function, *, at, number=signal.SIGINT, after=False):
    """Return ``function``, whose ``at``-th call is interrupted by a real signal at its beginning or its end."""
    calls = iter(range(1, 10_000))

    def run(*args, **values):
        now = next(calls) == at
        if now and not after:
            signal.raise_signal(number)
        result = function(*args, **values)
        if now and after:
            signal.raise_signal(number)
        return result

    return run


MOMENTS = {
    "in the forward pass": (torch.nn.functional, "batch_norm", {"at": 20}),
    "after the forward pass": (Objective, "__call__", {"at": 2}),
    "after the backward pass": (Accelerator, "backward", {"at": 5, "after": True}),
    "before the update": (torch.optim.AdamW, "step", {"at": 2}),
    "after the update": (torch.optim.AdamW, "step", {"at": 4, "after": True}),
    "before the running mean": (train_step, "average_weights", {"at": 3}),
    "after the running mean": (train_step, "average_weights", {"at": 5, "after": True}),
    "after the last step of an epoch": (train_step, "average_weights", {"at": 3, "after": True}),
    "between steps": (SilentListener, "step", {"at": 2}),
    "while statistics are measured": (validation, "measure_statistics", {"at": 2}),
    "after statistics were measured": (validation, "measure_statistics", {"at": 1, "after": True}),
    "while the last network is measured": (validation, "measure_statistics", {"at": 3}),
    "in validation": (SilentListener, "validating", {"at": 2}),
    "at the end of validation": (validation, "evaluate", {"at": 1, "after": True}),
    "while the best bundle is written": (Bundle, "save", {"at": 1}),
    "while a checkpoint is written": (checkpoint, "write_atomically", {"at": 3}),
    "after a checkpoint": (checkpoint, "write_atomically", {"at": 5, "after": True}),
    "while a row is logged": (SilentListener, "row", {"at": 1}),
    "after the last row": (SilentListener, "row", {"at": 2}),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_waits_for_the_steps_end_and_the_run_goes_on_as_if_unbroken(unbroken, painted, tmp_path, monkeypatch, moment):
    owner, name, when = MOMENTS[moment]
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        if owner is SilentListener:
            patch.setattr(SilentListener, name, signalling(lambda *args, **values: None, **when), raising=False)
        else:
            patch.setattr(owner, name, signalling(getattr(owner, name), **when))
        with pytest.raises(RunInterrupted, match=r"--resume --out|just finished") as caught:
            train(small_recipe(painted, out, **VALUES), progress=False)
    assert caught.value.number == signal.SIGINT
    assert not isinstance(caught.value, Exception)  # nobody's "except Exception" takes it for a failure
    assert_same_run(unbroken.folder, resume(out).folder)


def train_counting_calls(recipe, *, stop_at=None):
    """Train and return Python's calls in this thread; at call ``stop_at`` Ctrl-C is pressed."""
    made = 0

    def count(frame, event, argument):
        nonlocal made
        if event == "call":
            made += 1
            if made == stop_at:
                signal.raise_signal(signal.SIGINT)

    try:
        sys.setprofile(count)
        train(recipe, progress=False)
    finally:
        sys.setprofile(None)
    return made


@pytest.fixture(scope="module")
def calls(painted, tmp_path_factory):
    return train_counting_calls(small_recipe(painted, tmp_path_factory.mktemp("counted") / "run", **VALUES))


@pytest.mark.parametrize("share", [0.02, 0.45, 0.65, 0.9])
def test_ctrl_c_at_any_call_leaves_a_run_that_goes_on_or_nothing(unbroken, painted, tmp_path, calls, share):
    """Whatever Python is doing then, in code of ours or of others."""
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train_counting_calls(small_recipe(painted, out, **VALUES), stop_at=round(share * calls))
    if out.exists():
        assert_same_run(unbroken.folder, resume(out).folder)


class Killed(BaseException):
    """What stands for the end of a process: from here on it changes no file."""


WRITES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree", "tempfile.mkstemp"}


class FileOperations:
    """Lists what Python does to files in a folder, and ends the process, so to speak, before the n-th."""

    def __init__(self):
        self.folder, self.end, self.done = None, None, []
        sys.addaudithook(self.heed)

    def heed(self, event, arguments):
        if self.folder is None or not (event in WRITES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & 3)):
            return
        if str(arguments[0]).startswith(str(self.folder)):
            self.done.append((event, re.sub(r"\.[a-z0-9_]{8}\.part", ".part", os.path.relpath(arguments[0], self.folder))))
            if self.end is not None and len(self.done) >= self.end:
                raise Killed

    def during(self, folder, call, *, end=None):
        """Call it; return the operations there were in the folder."""
        self.folder, self.end, self.done = folder, end, []
        try:
            call()
        finally:
            self.folder = None
        return self.done


@pytest.fixture(scope="module")
def files():
    return FileOperations()


def test_a_run_killed_at_any_file_operation_is_begun_again_or_goes_on_as_the_message_says(painted, tmp_path, files):
    """Before each operation of each kind, the first time there is one: of its set-up that is all of them."""
    values = {**VALUES, "run.epochs": 1}
    whole = tmp_path / "whole" / "run"
    done = files.during(whole.parent, lambda: train(small_recipe(painted, whole, **values)))
    kinds = dict.fromkeys(done)
    assert len(kinds) > 20
    assert {name.split("/")[1].split(".")[1] for _, name in kinds if "/." in name} >= {"recipe", "checkpoint", "best", "log", "last"}
    begun_again = 0
    for kind in kinds:
        place = tmp_path / "_".join(kind).replace("/", "_")
        recipe = small_recipe(painted, place / "run", **values)
        with pytest.raises(Killed):
            files.during(place, lambda recipe=recipe: train(recipe), end=done.index(kind) + 1)
        try:
            train(recipe, progress=False)
            begun_again += 1
        except TrainingError as error:
            assert "--resume" in str(error)  # noqa: PT017
            resume(place / "run")
        assert_same_run(whole, place / "run")
    assert begun_again >= 4


def test_a_run_killed_in_its_set_up_says_how_to_begin_it(painted, tmp_path, files):
    recipe = small_recipe(painted, tmp_path / "run", **VALUES)
    with pytest.raises(Killed):
        files.during(tmp_path / "run", lambda: train(recipe), end=5)
    (left,) = (tmp_path / "run").iterdir()
    assert left.name.startswith(".recipe.toml.")
    with pytest.raises(TrainingError, match="start it again with this --out, without --resume"):
        resume(tmp_path / "run")
    train(recipe)


def test_a_second_ctrl_c_stops_at_once_and_saves_nothing(unbroken, painted, tmp_path, monkeypatch, capfd):
    handler, out = signal.getsignal(signal.SIGINT), tmp_path / "run"
    reached = []

    def update(*args, **values):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        reached.append("what comes after")

    with monkeypatch.context() as patch:
        patch.setattr(train_step, "average_weights", signalling(train_step.average_weights, at=10**6))
        plain, calls = train_step.average_weights, iter(range(10))
        patch.setattr(train_step, "average_weights", lambda *args, **values: (update if next(calls) == 3 else plain)(*args, **values))
        with pytest.raises(RunInterrupted, match="at once; what came after the last checkpoint is lost"):
            train(small_recipe(painted, out, **VALUES))
    assert not reached
    assert capfd.readouterr().err.count("a second Ctrl-C stops at once") == 1
    assert checkpoint.read_progress(out / "checkpoint.safetensors").step == 3
    assert signal.getsignal(signal.SIGINT) is handler
    assert_same_run(unbroken.folder, resume(out).folder)


def test_handlers_are_the_callers_again_and_ignored_signals_stay_ignored():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    mine = lambda number, frame: None  # noqa: E731
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, mine)
        with recording_signals() as interrupts:
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is mine
            signal.raise_signal(signal.SIGHUP)
            assert interrupts.asked == 0
            signal.raise_signal(signal.SIGINT)
            assert interrupts.asked == signal.SIGINT
        assert signal.getsignal(signal.SIGINT) is before[signal.SIGINT]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_run_in_another_thread_has_no_handlers_and_works(painted, tmp_path):
    before, finished = signal.getsignal(signal.SIGINT), []

    def work():
        finished.append(train(small_recipe(painted, tmp_path / "run", **{**VALUES, "run.epochs": 1})))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert finished[0].progress.step == 3
    assert signal.getsignal(signal.SIGINT) is before


COMMAND = """
import os, signal, sys
import upscore.training.train_step as train_step
plain, calls = train_step.average_weights, iter(range(100))
def update(*args, **values):
    if next(calls) == 3 and int(os.environ.get("RANK", "0")) == {rank}:
        {act}
    plain(*args, **values)
train_step.average_weights = update
if __name__ == "__main__":
    from upscore.cli.app import main
    main()
"""


def run_command(tmp_path, recipe, act, *, rank=0, words=()):
    (tmp_path / "command.py").write_text(COMMAND.format(act=act, rank=rank))
    recipe.save(tmp_path / "recipe.toml")
    return subprocess.run(
        [sys.executable, str(tmp_path / "command.py"), "train", "--recipe", str(tmp_path / "recipe.toml"), "--out", recipe.run.out, *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
        timeout=300,
    )


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_the_command_says_what_was_saved_and_how_to_go_on(unbroken, painted, tmp_path, name, code):
    """A terminal's Ctrl-C, and a cluster's request to end, reach the processes that read images too."""
    recipe = small_recipe(painted, tmp_path / "run", **VALUES, **{"run.workers": 1})
    ended = run_command(tmp_path, recipe, f"os.killpg(0, signal.{name})")
    assert ended.returncode == code, ended.stderr
    said = [line for line in ended.stderr.splitlines() if line.startswith("upscore: ")]
    assert said[0] == "upscore: stopping after this step; a second Ctrl-C stops at once, and what came after the last checkpoint is lost"
    assert said[1:] == [f"upscore: interrupted after step 4 of 6, and saved: go on with upscore train --resume --out {recipe.run.out}"]
    assert "Traceback" not in ended.stderr
    assert_same_run(unbroken.folder, resume(tmp_path / "run").folder)


@pytest.mark.parametrize(
    "act", ["os.kill(os.getppid(), signal.SIGINT)", "os.kill(os.getpid(), signal.SIGTERM)"], ids=["the parent", "one of two"]
)
def test_processes_agree_on_the_step_after_which_they_stop(painted, tmp_path, act):
    values = {"model.arguments": {"width": 0.03125, "dropout": 0.0}, "run.average": 0.5, "run.devices": 2}
    recipe = small_recipe(painted, tmp_path / "run", **values)
    ended = run_command(tmp_path, recipe, act, rank=1)
    assert ended.returncode == (130 if "INT" in act else 143), ended.stderr
    assert "Traceback" not in ended.stderr
    assert "go on with upscore train --resume --out" in ended.stderr
    assert (
        checkpoint.read_progress(tmp_path / "run" / "checkpoint.safetensors").step == 5
    )  # what comes after the sum over ranks rides on the next


def test_the_logged_learning_rate_is_that_of_the_rows_last_step(unbroken):
    """(1 - step / steps) ** 0.9, by hand: of steps 3 and 6 of 6, which are counted from 0."""
    assert [float(row["lr"]) for row in log_of(unbroken.folder)] == pytest.approx(
        [1e-3 * (1 - 2 / 6) ** 0.9, 1e-3 * (1 - 5 / 6) ** 0.9], rel=1e-12
    )
