"""Exit codes of the verb, and what it prints."""

import json

import pytest

from colour_network import colour_predictor
from damage import GENERAL
from painting import paint, paint_objects
from upscore.cli.app import _run
from upscore.data.open_dataset import open_dataset
from upscore.data.png_files import write_label_map
from upscore.inference import predictor


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return paint_objects(tmp_path / "data", train=12).parent


def test_codes_are_of_errors_of_warnings_where_asked_and_of_what_could_not_run(data, capsys):
    assert _run(["doctor", "data"], debug=False) == 0
    assert (data.parent / "doctor.html").exists()
    assert _run(["doctor", "nothing"], debug=False) == 2
    assert _run(["doctor", "data", "--only", "valeus"], debug=False) == 2
    GENERAL["a dark image"][0](data)
    assert _run(["doctor", "data"], debug=False) == 0
    assert _run(["doctor", "data", "--strict"], debug=False) == 1
    assert _run(["doctor", "data", "--strict", "--skip", "images"], debug=False) == 0
    GENERAL["a mask of colours"][0](data)
    capsys.readouterr()
    assert _run(["doctor", "data", "--mend", "new"], debug=False) == 1
    printed = capsys.readouterr().out
    assert "error: [values.colours] data (train): 1 of 12 masks cannot be used" in printed
    assert "masks/train/1.png: colours read by the classes' palette" in printed
    assert "not corrected: images.dark" in printed
    assert _run(["doctor", "new", "--only", "values"], debug=False) == 0


def test_json_is_alone_and_has_each_finding(data, capsys):
    GENERAL["a mask of colours"][0](data)
    assert _run(["doctor", "data", "--json"], debug=False) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["counts"]["error"] == 1
    (finding,) = [finding for finding in found["findings"] if finding["severity"] == "error"]
    assert (finding["id"], finding["samples"]) == ("values.colours", [[{"split": "train", "key": "1"}]])
    assert not (data.parent / "doctor.html").exists()


@pytest.fixture
def painted_data(tmp_path, monkeypatch):
    """Scenes with one object left out of its mask, and a network that is right about them all."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(predictor, "Predictor", lambda run, device: colour_predictor())
    data = paint(tmp_path / "data", train=2, val=4)
    dataset = open_dataset(data, "val")
    label = dataset[2].label.copy()
    label[label == 1] = 0
    write_label_map(data.parent / "masks" / "val" / "002.png", label, dataset.labels)


def test_doubtful_labels_are_found_with_a_network(painted_data, tmp_path, capsys):
    words = ["doctor", "data", "--run", "right", "--only", "labels"]
    assert _run([*words, "--review", "review"], debug=False) == 0
    printed = capsys.readouterr().out
    assert "warning: [labels.doubtful] data (val): in 1 of 4 images that were examined, 1 regions" in printed
    assert "info: [labels.trained-on] data: 2 images that the network was trained on were not examined" in printed
    assert "  val 002: columns" in printed
    assert (tmp_path / "review" / "review.json").is_file()
    page = (tmp_path / "doctor.html").read_text()
    assert "Doubtful labels" in page
    assert "the region outlined" in page
    assert _run([*words, "--strict"], debug=False) == 1
    assert _run([*words, "--strict", "--skip", "labels.doubtful"], debug=False) == 0
    capsys.readouterr()
    assert _run([*words, "--json"], debug=False) == 0
    assert json.loads(capsys.readouterr().out)["review"]["regions"][0]["key"] == "002"
    assert _run([*words, "--include-trained"], debug=False) == 0
    assert "warning: [labels.trained-on] data: 2 of the 6 images" in capsys.readouterr().out


def test_checks_that_need_a_network_are_refused_without_one(painted_data, capsys):
    assert _run(["doctor", "data", "--only", "labels"], debug=False) == 2
    assert "the check 'labels' needs a trained network: give one with --run RUN" in capsys.readouterr().err
    assert _run(["doctor", "data", "--review", "review"], debug=False) == 2
    assert _run(["doctor", "data"], debug=False) == 0
    assert "labels." not in capsys.readouterr().out
