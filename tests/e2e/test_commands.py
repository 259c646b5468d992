"""The commands as a user runs them: what they print, which files they write, and how they fail."""

import json
import shlex
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from painting import paint, paint_objects, small_recipe
from upscore.cli import main
from upscore.training.launch import train


@pytest.fixture
def upscore(capsys, monkeypatch):
    """Run a command line; return (exit code, standard output, standard error)."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["upscore", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return left.value.code or 0, said.out, said.err

    return run


@pytest.fixture(scope="module")
def trained(painted, tmp_path_factory):
    return train(small_recipe(painted, tmp_path_factory.mktemp("runs") / "run", **{"run.epochs": 1})).folder


def lines(text):
    return [line for line in text.splitlines() if line.strip()]


def test_train_evaluate_predict(upscore, painted, tmp_path):
    out = tmp_path / "run"
    recipe = tmp_path / "recipe.toml"
    small_recipe(painted, out, **{"run.epochs": 1, "run.batch_size": None, "optimizer.lr": None}).save(recipe)
    code, said, _ = upscore("train", painted, "--recipe", recipe, "--out", out, "--crop-size", "40x48", "--set", "augment.flip=0")
    assert code == 0
    assert "optimizer.lr" in said
    assert "usual for AdamW" in said
    assert "best mIoU" in said

    code, said, _ = upscore("evaluate", out, painted)
    assert code == 0
    said = " ".join(said.split())
    assert all(words in said for words in ("mean IoU", "pixel accuracy", "mean accuracy", "frequency-weighted IoU", "ignored", "square"))
    assert (out / "evaluation-val" / "report.html").is_file()

    code, said, _ = upscore("evaluate", out, painted, "--json", "--out", tmp_path / "evaluated")
    assert code == 0
    assert 0 <= json.loads(said)["mean_iou"] <= 1

    code, said, _ = upscore(
        "predict", out, painted.parent / "images" / "val", "--out", tmp_path / "labelled", "--flips", "--scales", "0.5,1", "--probs"
    )
    assert code == 0
    for path in sorted((painted.parent / "images" / "val").glob("*.png")):
        with Image.open(tmp_path / "labelled" / path.name) as made, Image.open(path) as source:
            assert made.mode == "P"
            assert made.size == source.size
            assert set(np.unique(np.asarray(made))) <= {0, 1, 2}
    assert json.loads((tmp_path / "labelled" / "predictions.json").read_text())["labelled"] == 3


def test_the_report_names_a_command_that_repeats_its_scores(upscore, trained, painted, tmp_path):
    words = ["evaluate", trained, painted, "--split", "train", "--flips", "--scales", "1,1.25", "--absent", "all"]
    code, said, _ = upscore(*words, "--json", "--out", tmp_path / "report 1")
    assert code == 0
    repeated = shlex.split(json.loads((tmp_path / "report 1" / "report.json").read_text())["repeat"])
    assert repeated[0] == "upscore"
    code, again, _ = upscore(*repeated[1:], "--json", "--out", tmp_path / "report 2")
    assert code == 0
    assert json.loads(again)["classes"] == json.loads(said)["classes"]
    assert json.loads(again)["mean_iou"] == json.loads(said)["mean_iou"]


def test_the_crf_before_and_after(upscore, trained, painted, tmp_path):
    code, said, _ = upscore("evaluate", trained, painted, "--crf", "--out", tmp_path / "shown")
    assert code == 0
    said = " ".join(said.split())
    words = ("before", "after", "change", "boundary IoU", "trimap IoU", "CRF: 5 iterations; Gaussian sigma 3, weight 3; bilateral sigma 80")
    assert all(word in said for word in words), said

    code, said, _ = upscore("evaluate", trained, painted, "--crf", "--json", "--out", tmp_path / "evaluated")
    numbers = json.loads(said)
    _, said, _ = upscore("evaluate", trained, painted, "--json", "--out", tmp_path / "alone")
    alone = json.loads(said)
    assert "before" not in alone
    assert numbers["before"] == {name: alone[name] for name in numbers["before"]}
    assert numbers["settings"]["crf"]["enabled"] is True

    written = json.loads((tmp_path / "evaluated" / "report.json").read_text())
    repeated = shlex.split(written["repeat"])
    assert "--crf" in repeated
    code, said, _ = upscore(*repeated[1:], "--json", "--out", tmp_path / "again")
    assert {**json.loads(said), "report": ""} == {**numbers, "report": ""}
    assert "What the CRF changed" in (tmp_path / "evaluated" / "report.html").read_text()


def test_predict_says_which_crf(upscore, trained, painted, tmp_path):
    images = painted.parent / "images" / "val"
    code, said, _ = upscore("predict", trained, images, "--out", tmp_path / "with", "--crf", "--probs")
    assert code == 0
    assert "CRF: 5 iterations" in said
    code, said, _ = upscore("predict", trained, images, "--out", tmp_path / "without", "--no-crf", "--probs")
    assert "CRF" not in said
    settings = [json.loads((tmp_path / name / "predictions.json").read_text())["settings"]["crf"] for name in ("with", "without")]
    assert settings[0]["enabled"] is True
    assert settings[1] is None
    with_crf, without = (np.load(tmp_path / name / "000.probs.npy").astype(float) for name in ("with", "without"))
    assert np.abs(with_crf - without).max() > 0.01


def test_tune(upscore, trained, painted, tmp_path):
    bundle, tuned = tmp_path / "bundle", tmp_path / "tuned"
    shutil.copytree(trained / "best", bundle)
    before = (bundle / "bundle.json").read_bytes()
    code, said, aside = upscore("tune", bundle, painted, "--trials", "2", "--out", tuned)
    assert code == 0
    said = " ".join(said.split())
    assert all(words in said for words in ("chosen on", "confirmed on", "together", "CRF: 5 iterations", "mean IoU", str(tuned)))
    assert "take 48.4 kB" in aside
    assert (bundle / "bundle.json").read_bytes() == before
    description = json.loads((tuned / "bundle.json").read_text())
    settings, account = description["inference"]["crf"], description["card"]["crf"]
    assert account["split"] == "val"
    assert account["settings"] == settings
    halves = [account[name] for name in ("chosen_on", "confirmed_on")]
    gains = [half["after"]["mean_iou"] - half["before"]["mean_iou"] for half in halves]
    assert settings["enabled"] is (min(gains) > 1e-4)
    assert ("the CRF is on: " if settings["enabled"] else "the CRF is off, since it does not help") in said

    code, _, error = upscore("tune", tuned, painted, "--trials", "1")
    assert code == 1
    assert len(lines(error)) == 1
    assert "--again" in error
    code, said, _ = upscore("tune", tuned, painted, "--trials", "1", "--again", "--metric", "both")
    assert code == 0
    again = json.loads((tuned / "bundle.json").read_text())
    assert again["card"]["crf"]["trials"] == 1
    assert again["card"]["crf"]["metric"] == "both"
    assert again["weights"] == description["weights"]

    # What the bundle says holds without a flag, and the flag overrides it.
    for words, on in (((), again["inference"]["crf"]["enabled"]), (("--crf",), True), (("--no-crf",), False)):
        code, said, _ = upscore("evaluate", tuned, painted, "--json", "--out", tmp_path / "evaluated", *words)
        assert json.loads(said)["settings"]["crf"] == again["inference"]["crf"] | {"enabled": on}
        assert ("before" in json.loads(said)) is on


def test_what_a_reader_decided_is_said_by_every_command_that_reads(upscore, trained, painted, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(painted.parent, root)
    described = (root / "dataset.yaml").read_text()
    (root / "dataset.yaml").unlink()
    (root / "data.yaml").write_text(described.replace("val: images", "val: ../images") + "download: https://example.com/set.zip\n")
    decided = ("keys of other tools were left out (download)", "'../images/val' leads to nothing, so 'images/val' was taken")
    code, said, _ = upscore("train", root, "--dry-run", "--out", tmp_path / "run")
    assert code == 0
    assert all(" ".join(said.split()).count(note) == 1 for note in decided)
    code, said, aside = upscore("evaluate", trained, root, "--split", "valid", "--json", "--out", tmp_path / "evaluated")
    assert code == 0
    assert json.loads(said)["mean_iou"] >= 0
    assert all(note in aside for note in decided)
    code, _, aside = upscore("tune", trained, root, "--trials", "1", "--out", tmp_path / "tuned")
    assert code == 0
    assert all(note in " ".join(aside.split()) for note in decided)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"iterations": 10**9}, "crf.iterations"),
        ({"bilateral_sigma": -3}, "crf.bilateral_sigma"),
        ({"gaussian_weight": float("nan")}, "crf.gaussian_weight"),
        ({"code": "import os"}, "crf.code"),
        ([], "crf"),
    ],
)
@pytest.mark.parametrize("verb", ["predict", "evaluate", "tune"])
def test_a_bundle_whose_crf_was_tampered_with_is_refused(upscore, trained, painted, tmp_path, verb, values, said):
    shutil.copytree(trained / "best", tmp_path / "bundle")
    path = tmp_path / "bundle" / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"inference": {"crf": values}}))
    what = painted.parent / "images" / "val" if verb == "predict" else painted
    code, _, error = upscore(verb, tmp_path / "bundle", what, "--out", tmp_path / "out")
    assert code == 1
    assert len(lines(error)) == 1, error
    assert said in error
    assert not (tmp_path / "out").exists()


def test_tune_refuses_before_the_work(upscore, trained, painted, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.tex").write_text("x")
    refusals = [
        (("--out", full), "is not a bundle (it holds 'thesis.tex')"),
        (("--split", "tset"), "tset"),
        (("--metric", "miou"), "metric 'miou', expected mean_iou"),
    ]
    for words, said in refusals:
        code, _, error = upscore("tune", trained, painted, *words)
        assert code == 1
        assert len(lines(error)) == 1, error
        assert said in error
    assert (full / "thesis.tex").read_text() == "x"
    assert upscore("tune", trained, painted, "--trials", "0")[0] == 2
    one = paint(tmp_path / "one", train=1, val=1)
    code, _, error = upscore("tune", trained, one)
    assert code == 1
    assert "found one image in 'val'" in error


def test_a_dry_run_writes_nothing(upscore, painted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, said, _ = upscore("train", painted, "--dry-run", "--backbone", "test_resnet", "--weights", "none")
    assert code == 0
    assert "run.epochs" in said
    assert list(tmp_path.iterdir()) == []


def test_one_bad_image_is_reported_and_the_rest_are_done(upscore, trained, tmp_path):
    for name in ("a.png", "c.png"):
        Image.new("RGB", (20, 30)).save(tmp_path / name)
    (tmp_path / "b.jpg").write_bytes(b"no image")
    code, said, error = upscore("predict", trained, tmp_path, "--out", tmp_path / "out")
    assert code == 1
    assert "2 labelled, 1 failed" in said
    assert "b.jpg" in error
    assert {"a.png", "c.png", "predictions.json"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_what_is_left_out_of_a_folder_is_said_and_counted(upscore, trained, tmp_path):
    Image.new("RGB", (20, 30)).save(tmp_path / "a.jfif", "JPEG")
    for name in ("b.heic", "c.heic", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "loop.png").symlink_to("loop.png")
    code, said, err = upscore("predict", trained, tmp_path, "--out", tmp_path / "out\udce9")
    assert code == 0
    assert "1 labelled, 4 left out: " in said
    err = " ".join(err.split())
    assert "3 files were left out as not named like an image that can be read: 2 .heic and 1 .txt; convert .heic to PNG or JPEG" in err
    assert "1 link was left out as leading nowhere (the target is missing, or they lead in a circle): 'loop.png'" in err
    account = json.loads((tmp_path / "out\udce9" / "predictions.json").read_bytes().decode("utf-8"))
    assert (account["labelled"], account["left_out"], len(account["warnings"])) == (1, 4, 2)


def test_an_image_that_is_too_much_for_memory_is_one_line_and_the_rest_are_done(upscore, trained, tmp_path, monkeypatch):
    from upscore.inference.segmenter import NetworkSegmenter

    scores = NetworkSegmenter.scores

    def small_only(self, images):
        if images.shape[-1] > 40:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory:")
        return scores(self, images)

    monkeypatch.setattr(NetworkSegmenter, "scores", small_only)
    for name, width in (("a.png", 20), ("b.png", 64), ("c.png", 20)):
        Image.new("RGB", (width, 30)).save(tmp_path / name)
    code, said, err = upscore("predict", trained, tmp_path, "--out", tmp_path / "out", "--flips")
    assert code == 1
    assert "2 labelled, 1 failed" in said
    (line,) = [line for line in err.splitlines() if "out of memory" in line]
    assert line.startswith(f"upscore: {tmp_path / 'b.png'}: out of memory while labelling 30×64 pixels on cpu, in one pass")
    assert "with flips, in fp32: try --tile 32; or no flips and one scale; or a device with more memory" in line


def replace_mask(folder, change):
    path = folder / "masks" / "train" / "000.png"
    with Image.open(path) as mask:
        values = np.array(mask)
    change(path, values)


def to_value(value):
    def change(path, values):
        values[values == 1] = value
        Image.fromarray(values).save(path)

    return change


FAULTS = {
    "a value outside the classes": (to_value(7), ["000", "7", "px"]),
    "another size": (lambda path, values: Image.fromarray(values[:-2]).save(path), ["000", "48", "46"]),
    "a colour mask": (lambda path, values: Image.fromarray(np.stack([values * 9, values, values], -1)).save(path), ["000", "colour"]),
    "a missing mask": (lambda path, values: path.unlink(), ["000"]),
    "an extra mask": (lambda path, values: Image.fromarray(values).save(path.with_name("zzz.png")), ["zzz"]),
    "a damaged mask": (lambda path, values: path.write_bytes(path.read_bytes()[:60]), ["000"]),
    "a truncated image": (lambda path, values: cut_short(path.parents[2] / "images" / "train" / "001.png"), ["001", "truncated"]),
    "yaml with an unknown key": (lambda path, values: write_yaml(path, "nmes: [a]"), ["nmes", "names"]),
    "yaml of the wrong type": (lambda path, values: write_yaml(path, "train: 3"), ["train"]),
    "yaml that is none": (lambda path, values: write_yaml(path, "names: ["), ["dataset.yaml"]),
    "an empty split": (lambda path, values: [p.unlink() for p in (path.parents[2] / "images" / "train").iterdir()], ["train"]),
}


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-20])


def write_yaml(mask, line):
    text = "path: .\ntrain: images/train\nval: images/val\nmasks_dir: masks\nnames: [ground, square, bar]\n"
    key = line.partition(":")[0]
    kept = [other for other in text.splitlines() if not other.startswith(key + ":")]
    (mask.parents[2] / "dataset.yaml").write_text("\n".join([*kept, line]) + "\n")


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_data_is_one_line_before_training_starts(upscore, tmp_path, fault):
    change, words = FAULTS[fault]
    data = paint(tmp_path / "data", train=3, val=1)
    replace_mask(tmp_path / "data", change)
    code, _, error = upscore("train", data, "--out", tmp_path / "run", "--backbone", "test_resnet", "--weights", "none")
    assert code == 1
    assert len(lines(error)) == 1, error
    assert all(word in error for word in words), error
    assert not (tmp_path / "run").exists()


def test_masks_of_0_and_255_are_named_as_such(upscore, tmp_path):
    data = paint(tmp_path / "data", train=3, val=1)
    for path in (tmp_path / "data" / "masks").rglob("*.png"):
        with Image.open(path) as mask:
            values = np.where(np.array(mask) == 1, 255, 0).astype(np.uint8)
        Image.fromarray(values).save(path)
    data.write_text(data.read_text().replace("[ground, square, bar]", "[ground, square]"))
    code, _, error = upscore("train", data, "--out", tmp_path / "run", "--weights", "none")
    assert code == 1
    assert "label_mapping: {0: 0, 255: 1}" in error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train"], "no data given"),
        (["train", "nowhere"], "nowhere"),
        (["train", "shapes", "--set", "optimizer.lrr=1"], "did you mean 'lr'"),
        (["train", "shapes", "--recipe", "none.toml"], "none.toml"),
        (["train", "--resume"], "--out"),
        (["evaluate", "nowhere", "shapes"], "nowhere"),
        (["predict", "nowhere", "x.png"], "x.png"),
        (["tune", "nowhere", "shapes"], "nowhere"),
        (["models", "--backbone", "resnet_18"], "resnet18"),
    ],
)
def test_refusals_are_one_line(upscore, words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, error = upscore(*words)
    assert code == 1
    assert len(lines(error)) == 1, error
    assert said in error
    assert list(tmp_path.iterdir()) == []


def test_classes_that_differ_are_shown(upscore, trained, tmp_path):
    data = paint(tmp_path / "data", train=1, val=1)
    data.write_text(data.read_text().replace("square, bar", "bar, square"))
    code, _, error = upscore("evaluate", trained, data)
    assert code == 1
    assert "class 1 is 'square' against 'bar'" in error


@pytest.mark.parametrize("words", [["train", "shapes", "--epochs", "0"], ["train", "shapes", "--crop-size", "3x4x5"], ["fly"], ["predict"]])
def test_usage_errors_exit_with_2(upscore, words):
    assert upscore(*words)[0] == 2


def test_debug_shows_the_traceback(capsys, monkeypatch):
    from upscore.errors import DataError

    monkeypatch.setattr(sys, "argv", ["upscore", "train", "nowhere", "--debug"])
    with pytest.raises(DataError):
        main()


@pytest.mark.parametrize("verb", ["convert", "train", "evaluate", "tune", "predict", "models"])
def test_help_teaches_by_example(upscore, verb):
    code, said, _ = upscore(verb, "--help")
    assert code == 0
    assert f"upscore {verb}" in said
    assert "Example" in said


def test_explain(upscore, trained, painted, tmp_path, monkeypatch):
    image = painted.parent / "images" / "val" / "000.png"
    monkeypatch.chdir(tmp_path)
    code, said, _ = upscore("explain", trained, image, "--grid", "2x2", "--device", "cpu")
    assert code == 0
    assert "row" in said
    assert (tmp_path / "000-explained.html").is_file()

    out = tmp_path / "explained" / "here.html"
    words = ("--pixel", "5,7", "--channel", "score_pool3=1", "--grid", "0x0", "--max-pixels", "300", "--out", out)
    code, said, _ = upscore("explain", trained, image, *words)
    assert code == 0
    assert "row 1, column 2" in said  # of the image of 300 pixels
    assert "shrunk to 16×18" in said
    page = out.read_text()
    assert f"--pixel 5,7 --channel score_pool3=1 --grid 0x0 --max-pixels 300 --out {out}" in page
    assert "channel square" in page

    for wrong, expected, says in [
        (("--pixel", "48,0"), 1, "48,0 outside the image"),
        (("--channel", "nothing=1"), 1, "unknown layer 'nothing'"),
        (("--pixel", "48"), 2, "expected a row and a column"),
        (("--channel", "5"), 2, "expected a layer and a number"),
    ]:
        code, _, error = upscore("explain", trained, image, *wrong)
        assert code == expected
        assert says in " ".join(error.split()), error
    code, _, error = upscore("explain", trained, painted)
    assert code == 1
    assert len(lines(error)) == 1
    code, _, error = upscore("explain", tmp_path, image)
    assert code == 1
    assert "no bundle" in error


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    return paint_objects(tmp_path_factory.mktemp("objects"), train=4, val=2)


def test_object_by_object_from_two_stages_to_an_ensemble(upscore, objects, tmp_path, monkeypatch):
    monkeypatch.setenv("UPSCORE_CACHE", str(tmp_path / "cache"))
    small = ["--set", "model.arguments.width=0.03125", "--set", "run.steps=2", "--set", "run.accumulate=1", "--batch-size", "2"]
    small += ["--set", "run.precise_bn=1", "--weights", "none"]
    for stage, more in (("1", []), ("2", ["--start-from", tmp_path / "one"])):
        out = tmp_path / ("one" if stage == "1" else "two")
        code, said, err = upscore("train", objects, "--recipe", f"deconvnet-stage{stage}", "--out", out, *small, *more)
        assert code == 0, err
        assert "crops around" in said
    fcn = train(small_recipe(objects, tmp_path / "fcn", **{"run.epochs": 1})).folder

    looks = (
        "--max-proposals",
        4,
        "--aggregate",
        "mean",
        "--ensemble",
        fcn,
        "--crf",
        "--set",
        "proposals.proposer=windows",
        "--set",
        "crf.iterations=2",
    )
    images = objects.parent / "images" / "val"
    code, said, err = upscore("predict", tmp_path / "two", images, "--out", tmp_path / "live", *looks)
    assert code == 0, err
    both = tmp_path / "both"
    code, said, _ = upscore("ensemble", tmp_path / "two", fcn, "--out", both, *looks[:4], *looks[6:])
    assert code == 0
    assert "4 proposals (windows), aggregated by mean" in " ".join(said.split())
    code, said, _ = upscore("predict", both, images, "--out", tmp_path / "saved")
    assert code == 0
    for path in images.glob("*.png"):
        assert (tmp_path / "live" / path.name).read_bytes() == (tmp_path / "saved" / path.name).read_bytes()
    settings = json.loads((tmp_path / "saved" / "predictions.json").read_text())["settings"]
    assert settings["proposals"]["max_proposals"] == 4

    code, said, _ = upscore("evaluate", both, objects, "--json", "--out", tmp_path / "evaluated")
    assert code == 0
    assert json.loads(said)["before"]["mean_iou"] >= 0
    code, said, err = upscore("proposal-sweep", both, objects, "--counts", "1,2", "--pages", 1, "--out", tmp_path / "pages")
    assert code == 0, err
    assert "ensemble of 2 networks" in said
    assert (tmp_path / "pages" / "image-0001.html").is_file()
    code, _, err = upscore("explain", both, next(images.glob("*.png")))
    assert code == 1
    assert "is an ensemble, expected one network" in err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--max-proposals", 0], 2, "greater than or equal to 1"),
        (["--no-proposals", "--max-proposals", 3], 2, "leave out the other options of proposals"),
        (["--max-proposals", 3, "--boxes", "none.json", "--edges", "none.yml"], 2, "boxes of a file need no edge model"),
        (["--boxes", "none.json"], 1, "no network that uses proposals"),
        (["--max-proposals", 3, "--boxes", "none.json"], 1, "none.json: cannot be read as boxes"),
        (["--max-proposals", 3, "--edges", "none.yml"], 1, "none.yml"),
        (["--max-proposals", 3, "--aggregate", "min"], 1, "'proposals.aggregate': found 'min'"),
        (["--preset", "magic"], 1, "no preset 'magic'"),
        (["--set", "crf.engine=magic"], 1, "'crf.engine': found 'magic'"),
        (["--combine", "min"], 1, "'combine': found 'min'"),
        (["--ensemble", "nowhere"], 1, "there is no bundle at 'nowhere'"),
        (["--set", "proposals"], 2, "expected NAME=VALUE"),
        (["--set", "proposals.minside=3"], 1, "'proposals.minside'"),
        (["--set", "run.epochs=3"], 2, "expected NAME=VALUE"),
        (["--no-crf", "--set", "crf.iterations=3"], 2, "the CRF is off"),
    ],
)
def test_bad_ways_to_look_are_one_line(upscore, trained, painted, tmp_path, words, code, said):
    left, _, err = upscore("predict", trained, painted.parent / "images" / "val", "--out", tmp_path / "out", *words)
    assert left == code
    assert said in " ".join(err.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_a_image_without_boxes_in_the_file_is_reported_and_the_rest_are_done(upscore, trained, painted, tmp_path):
    names = sorted(path.name for path in (painted.parent / "images" / "val").iterdir())
    boxes = {names[0]: {"size": [48, 56], "boxes": [[0, 0, 30, 30]]}, names[1]: {"size": [48, 56], "boxes": [[9, 9, 3, 3]]}}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    words = ["--max-proposals", 3, "--boxes", tmp_path / "boxes.json", "--set", "proposals.crop_side=48"]
    code, said, err = upscore("predict", trained, painted.parent / "images" / "val", "--out", tmp_path / "out", *words)
    assert code == 1
    assert "1 labelled, 2 failed" in said
    assert f"the boxes of '{painted.parent / 'images' / 'val' / names[1]}' are wrong: box 0 is" in " ".join(err.split())
    assert f"holds no boxes for '{painted.parent / 'images' / 'val' / names[2]}'" in " ".join(err.split())


def test_a_flat_image_has_no_proposals_and_that_is_said(upscore, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("UPSCORE_CACHE", str(tmp_path / "cache"))
    Image.new("RGB", (60, 40), (90, 90, 90)).save(tmp_path / "flat.png")
    code, _, err = upscore("predict", trained, tmp_path / "flat.png", "--out", tmp_path / "out", "--max-proposals", 5)
    assert code == 0
    assert "flat.png: no proposals were found: labelled as a whole" in " ".join(err.split())
    (row,) = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]
    assert row["warnings"] == ["no proposals were found: labelled as a whole"]


def test_scores_on_images_that_were_learned_from_are_marked(upscore, painted, trained, tmp_path):
    data, out = tmp_path / "data", tmp_path / "evaluated"
    code, said, _ = upscore("evaluate", trained, painted, "--out", out)
    assert code == 0
    assert "warning:" not in said
    code, said, _ = upscore("evaluate", trained, painted, "--split", "train", "--out", out)
    assert "warning: [splits.shared-images] all 6 images of train are also in the network's training data (000, 001" in said
    assert "are also in the network&#39;s training data" in (out / "report.html").read_text()
    assert "all 6 images" in json.loads((out / "report.json").read_text())["warnings"][0]
    shutil.copytree(painted.parent, data)
    for part in ("images", "masks"):
        shutil.copy(data / part / "train" / "002.png", data / part / "val" / "new.png")
    warnings = json.loads(upscore("evaluate", trained, data, "--json", "--out", out)[1])["warnings"]
    assert len(warnings) == 1
    assert warnings[0].startswith("[splits.shared-images] 1 of 4 images of val are also in the network's training data (new, there 002)")
    shutil.rmtree(data / "images" / "val")
    shutil.rmtree(data / "masks" / "val")
    (data / "images" / "train").rename(data / "images" / "other")
    (data / "masks" / "train").rename(data / "masks" / "other")
    (data / "dataset.yaml").write_text("val: images/other\nnames: [ground, square, bar]\n")
    warnings = json.loads(upscore("evaluate", trained, data, "--json", "--out", out)[1])["warnings"]
    assert warnings[0].startswith("[splits.shared-images] all 6 images of val")
    shutil.copytree(trained / "best", tmp_path / "old")
    bundle = json.loads((tmp_path / "old" / "bundle.json").read_text())
    del bundle["card"]["data"]["split"], bundle["card"]["data"]["images"]  # the digests of its images are enough
    (tmp_path / "old" / "bundle.json").write_text(json.dumps(bundle))
    warnings = json.loads(upscore("evaluate", tmp_path / "old", painted, "--split", "train", "--json", "--out", out)[1])["warnings"]
    assert warnings[0].startswith("[splits.shared-images] all 6 images of train")
    del bundle["card"]["data"]["pixels"]  # a card that does not tell what was trained on
    (tmp_path / "old" / "bundle.json").write_text(json.dumps(bundle))
    assert json.loads(upscore("evaluate", tmp_path / "old", painted, "--split", "train", "--json", "--out", out)[1])["warnings"] == []


def test_a_dry_run_warns(upscore, painted, tmp_path):
    shutil.copytree(painted.parent, tmp_path / "data")
    (tmp_path / "data" / "dataset.yaml").write_text("train: images/train\nval: images/train\nnames: [ground, square, bar, hole]\n")
    code, said, _ = upscore("train", tmp_path / "data", "--dry-run", "--backbone", "test_resnet", "--weights", "none")
    assert code == 0
    assert "(train): no mask shows hole (1 of 4 classes): not learned" in said
    assert "warning: [splits.shared-images] all 6 images of the validation data (val) are also in the training data" in said


def test_masks_of_one_class_are_refused_in_one_line(upscore, painted, tmp_path):
    shutil.copytree(painted.parent, tmp_path / "data")
    (tmp_path / "data" / "dataset.yaml").write_text("train: images/train\nval: images/val\nnames: [crack]\n")
    for path in tmp_path.glob("data/masks/*/*.png"):
        Image.fromarray((np.array(Image.open(path)) > 0).astype(np.uint8) * 255).save(path)
    code, _, error = upscore("train", tmp_path / "data", "--dry-run")
    assert code == 1
    assert len(lines(error)) == 1
    assert "set names: [background, crack], label_mapping: {0: 0, 255: 1} in dataset.yaml" in error
