"""Exit codes of the verb, and what it prints."""

import json

import pytest

from damage import GENERAL
from painting import paint_objects
from upscore.cli.app import _run


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
