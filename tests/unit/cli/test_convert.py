"""What the verb prints, and its exit codes."""

import re
import shutil

import pytest

from painting import paint_objects
from upscore.cli.app import _run
from upscore.cli.arguments import FORMATS, PRELABEL_FORMATS
from upscore.data.write_dataset import WRITERS
from upscore.errors import DataError, OutputError
from upscore.objects.simplify import MAX_TOLERANCE


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return paint_objects(tmp_path / "data", train=2, val=1).parent


def test_the_formats_of_the_help_are_those_there_are():
    assert tuple(writer.name for writer in WRITERS) == FORMATS
    assert tuple(writer.name for writer in WRITERS if writer.predictions) == PRELABEL_FORMATS


def test_it_says_what_was_written_and_the_next_command_runs(data, capsys):
    assert _run(["convert", "data", "--out", "new labels", "--to", "labelme"], debug=False) == 0
    printed = capsys.readouterr()
    assert "written as labelme (JSON): new labels (2 train, 1 val images, " in printed.out
    assert "read again: every pixel has the class that it had" in printed.out
    (line,) = [line for line in printed.out.splitlines() if line.startswith("next: ")]
    assert line == "next: upscore doctor 'new labels'"
    assert _run(["doctor", "new labels"], debug=False) == 0


def test_it_says_whether_objects_are_the_same(data, capsys):
    shutil.rmtree(data / "instances")
    assert _run(["convert", "data", "--out", "folder"], debug=False) == 0
    assert "the class that it had\n" in capsys.readouterr().out  # the original tells no objects
    assert _run(["convert", "shapes:count=3,size=32x48", "--out", "coco", "--to", "coco", "--split", "val"], debug=False) == 0
    assert re.search(r"every pixel has the class that it had, and the [1-9]\d* objects are the same\n", capsys.readouterr().out)
    split = ["convert", "shapes:count=9,size=96x96", "--out", "yolo", "--to", "yolo", "--split", "val"]
    assert _run(split, debug=False) == 0
    printed = capsys.readouterr()
    assert re.search(
        r"in [1-9] of the images objects are joined or divided when it is read: yolo has no objects of several parts", printed.out
    )
    assert "objects are the same" not in printed.out


def test_it_says_how_many_pixels_differ(data, capsys):
    assert _run(["convert", "data", "--out", "new", "--to", "coco", "--tolerance", "3", "--split", "train"], debug=False) == 0
    assert "pixels (" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["data", "--out", "new", "--to", "labelmee"], DataError, "no format 'labelmee' can be written"),
        (["data", "--out", "data/new"], OutputError, "lies in the dataset"),
        (["data", "--out", "."], OutputError, "holds something already"),
        (["nothing", "--out", "new"], DataError, "no such dataset"),
    ],
)
def test_errors_are_one_line(words, error, message, data, capsys):
    assert _run(["convert", *words], debug=False) == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert len(printed.splitlines()) == 1


def test_the_largest_tolerance_is_that_of_polygons(data):
    for words in (["convert", "nothing", "--out", "new"], ["predict", "nothing", "data", "--as", "labelme"]):
        assert _run([*words, "--tolerance", f"{MAX_TOLERANCE}"], debug=False) == 1
        assert _run([*words, "--tolerance", f"{MAX_TOLERANCE + 0.01}"], debug=False) == 2


def test_flags_that_mean_nothing_are_refused(data, capsys):
    assert _run(["convert", "data"], debug=False) == 2
    assert _run(["convert", "data", "--out", "new", "--tolerance", "-1"], debug=False) == 2
    assert _run(["predict", "run", "data", "--tolerance", "1"], debug=False) == 2
    assert "it needs --as" in capsys.readouterr().err


def test_the_doctor_examines_and_mends_masks_that_are_drawn(data, capsys):
    assert _run(["convert", "data", "--out", "new", "--to", "coco"], debug=False) == 0
    assert _run(["doctor", "new", "--mend", "mended"], debug=False) == 0
    assert "could not be completed" not in capsys.readouterr().out
    assert len(list((data / ".." / "mended" / "masks").rglob("*.png"))) == 3
