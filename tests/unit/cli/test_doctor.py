"""Exit codes of the verb, and what it prints."""

import json
import shlex
import shutil
from pathlib import Path
from urllib.parse import unquote

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


def next_words(printed):
    """Return the words of the command that is printed to be run next; None where there is none."""
    lines = [line for line in printed.splitlines() if line.startswith("next: ")]
    assert len(lines) <= 1
    return shlex.split(lines[0].removeprefix("next: ")) if lines else None


def test_the_next_command_is_to_train_to_correct_or_to_examine_the_copy(data, capsys):
    (data.parent / "flat").mkdir()
    for path in (data / "images" / "train").iterdir():
        shutil.copy(path, data.parent / "flat")
        shutil.copy(data / "masks" / "train" / path.name, data.parent / "flat" / f"{path.stem}_mask.png")
    assert _run(["doctor", "flat", "--split-by", "(.*)", "--out", "a.html"], debug=False) == 0
    assert next_words(capsys.readouterr().out) == ["upscore", "train", "flat", "--split-by", "(.*)"]
    assert _run(["doctor", "data", "--only", "values"], debug=False) == 0
    assert next_words(capsys.readouterr().out) is None, "not everything was examined"
    GENERAL["a mask of colours"][0](data)
    (data.parent / "data-mended").mkdir()
    assert _run(["doctor", "data/dataset.yaml", "--strict", "--out", "a.html", "--skip", "images"], debug=False) == 1
    words = next_words(capsys.readouterr().out)
    assert words == ["upscore", "doctor", "data/dataset.yaml", "--skip", "images", "--mend", "data-mended-2"]
    assert _run(words[1:], debug=False) == 1
    words = next_words(capsys.readouterr().out)
    assert words == ["upscore", "doctor", "data-mended-2"]
    assert _run(words[1:], debug=False) == 0
    assert next_words(capsys.readouterr().out) == ["upscore", "train", "data-mended-2"]
    GENERAL["an image without mask"][0](data)
    assert _run(["doctor", "data"], debug=False) == 1
    printed = capsys.readouterr().out
    assert next_words(printed) is None, "nothing can be copied"
    assert "error: [files.layout] data: the split train cannot be opened: 1 of 12 images have no mask" in printed


def test_nothing_counts_as_examined_where_no_split_can_be_opened(data, capsys):
    GENERAL["an image without mask"][0](data)
    shutil.rmtree(data / "masks" / "val")
    assert _run(["doctor", "data"], debug=False) == 1
    printed = capsys.readouterr().out
    assert "nothing else could be examined: " in printed
    assert "50 checks" not in printed
    page = (data.parent / "doctor.html").read_text()
    assert "Not examined" in page
    assert "images.dark" not in page


def test_the_next_command_opens_the_review_or_writes_one(painted_data, tmp_path, capsys):
    words = ["doctor", "data", "--run", "right", "--only", "labels"]
    assert _run(words, debug=False) == 0
    again = next_words(capsys.readouterr().out)
    assert again == ["upscore", "doctor", "data", "--run", "right", "--only", "labels", "--review", "data-review"]
    assert _run(again[1:], debug=False) == 0
    opened = next_words(capsys.readouterr().out)
    assert opened == ["labelme", "data-review/labelme", "--labels", "data-review/labelme/labels.txt"]
    assert (tmp_path / opened[1]).is_dir()
    assert (tmp_path / opened[3]).is_file()
    assert _run([*words, "--skip", "labels.doubtful", "--json"], debug=False) == 0
    assert json.loads(capsys.readouterr().out), "JSON alone"


@pytest.mark.parametrize("tool", ["labelme", "label-studio", "coco"])
def test_the_next_command_of_next_opens_the_tool(painted_data, tmp_path, tool, capsys):
    words = ["next", "right", "data/images/val", "--out", "to label", "--count", "2", "--as", tool]
    assert _run(words, debug=False) == 0
    found = next_words(capsys.readouterr().out)
    if tool == "labelme":
        assert found == ["labelme", "to label/labelme", "--labels", "to label/labelme/labels.txt"]
        assert (tmp_path / found[3]).is_file()
    elif tool == "label-studio":
        assert found[:2] == ["env", "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true"]
        assert found[3:] == ["label-studio", "start"]
        served = found[2].removeprefix("LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=")
        (tasks,) = (tmp_path / "to label" / tool).glob("*.json")
        named = json.loads(tasks.read_text())[0]["data"]["image"].partition("?d=")[2]
        assert (Path(served) / unquote(named)).is_file()
    else:
        assert found == ["upscore", "doctor", "to label/coco"]


@pytest.mark.parametrize("tool", ["labelme", "label-studio", "coco"])
def test_the_next_command_of_predict_opens_the_tool(painted_data, tmp_path, tool, monkeypatch, capsys):
    monkeypatch.setattr("upscore.cli.inference_options.InferenceOptions.predictor", lambda self, run, device: colour_predictor())
    assert _run(["predict", "right", "data/images/val", "--out", "out", "--as", tool], debug=False) == 0
    found = next_words(capsys.readouterr().out)
    if tool == "labelme":
        assert found == ["labelme", "data/images/val", "--output", "out/labelme", "--labels", "out/labelme/labels.txt"]
        assert (tmp_path / found[5]).is_file()
        assert {path.stem for path in (tmp_path / found[3]).glob("*.json")} == {path.stem for path in (tmp_path / found[1]).iterdir()}
        assert _run(["predict", "right", "data/images", "--out", "both", "--as", tool], debug=False) == 0
        assert next_words(capsys.readouterr().out) is None, "labelme opens one folder"
    elif tool == "label-studio":
        assert found[2] == f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={(tmp_path / 'data' / 'images').resolve()}"
    else:
        assert found is None
