"""What the commands print."""

import sys
from pathlib import Path

import numpy as np
import pytest

from upscore.cli import console, results
from upscore.errors import DataError
from upscore.evaluation.evaluate import evaluate
from upscore.inference.file_discovery import DiscoveredImages
from upscore.inference.predict_files import LabelledImage
from upscore.settings import InferenceSettings
from upscore.training.checkpoint import Progress
from upscore.training.launch import Run
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


def test_the_next_command_can_be_copied(capsys):
    run = Run(Path("my run"), Path("my run/best"), Progress(best_miou=0.5, best_epoch=1), [])
    results.print_run(run, data="my data")
    assert "next: upscore evaluate 'my run' 'my data'" in capsys.readouterr().out
