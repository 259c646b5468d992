"""Command lines, whatever is in them: work, usage, or one line; never a traceback."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.examples import EXAMPLES, NUMBERS, WORDS, check_line, each_of, fuzz
from upscore.cli import main

FLAGS = {
    "train": ["--model", "--backbone", "--weights", "--start-from", "--epochs", "--batch-size", "--crop-size", "--lr", "--device",
              "--devices", "--precision", "--workers", "--seed", "--out", "--recipe", "--set"],
    "evaluate": ["--split", "--out", "--absent", "--scales", "--tile", "--max-proposals", "--aggregate", "--boxes", "--edges",
                 "--ensemble", "--combine", "--set", "--device"],
    "tune": ["--split", "--trials", "--metric", "--seed", "--out"],
    "predict": ["--out", "--scales", "--tile", "--max-proposals", "--boxes", "--ensemble", "--set", "--device"],
    "ensemble": ["--out", "--set"],
    "explain": ["--pixel", "--channel", "--grid", "--max-pixels", "--out"],
    "proposal-sweep": ["--counts", "--pages", "--max-proposals", "--out"],
    "models": ["--backbone"],
    "recipes": [],
}  # fmt: skip
TEXTS = [word for word in (*WORDS, *NUMBERS) if "\0" not in word and "\ud800" not in word]  # neither can be given
TEXTS += [
    "a." * 10**4 + "a=1",
    "optimizer.lr=" + "9" * 5000,
    "crf.iterations=0x" + "f" * 5000,
    "crf.x=1",
    "margin=-1",
    "1," * 5000,
    "x" * 10**6,
]


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    verb = draw(st.sampled_from(list(FLAGS)))
    words = draw(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3))
    for flag in draw(st.lists(st.sampled_from([*FLAGS[verb], "--nope"]), max_size=3)):
        words += [flag, draw(st.sampled_from(TEXTS))]
    return [verb, *words] + (["--dry-run"] if verb == "train" else [])


@settings(fuzz, max_examples=max(1, EXAMPLES // 2))
@each_of(
    [["\x1b[2J"], ["x" * 10**6], ["train", "--\x1b[2J"], ["recipes", "\udcff"], ["train", "shapes", "--crop-size", "9" * 5000, "--dry-run"]]
)
@given(words=command_lines())
def test_any_command_line(tmp_path_factory, words):
    said, complained = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(complained):
        folder = tmp_path_factory.getbasetemp() / "far" / "below" / "what" / "is" / "there"  # "../../.." is among the words
        folder.mkdir(parents=True, exist_ok=True)
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["upscore", *words])
        with pytest.raises(SystemExit) as left:
            main()
    complaint = complained.getvalue()
    assert left.value.code in (0, 1, 2), complaint
    assert "upscore: unexpected" not in complaint
    assert len(complaint) < 12_000
    assert "\x1b" not in said.getvalue() + complaint
    if left.value.code == 1:
        check_line(complaint.strip("\n").rpartition("\n")[2])
