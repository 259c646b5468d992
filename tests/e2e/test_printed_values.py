"""What the commands print is what the values are: every number of a table is compared with the file that holds it."""

import csv
import json
import re
import shlex
import tomllib
from dataclasses import fields
from itertools import pairwise

import pytest

from painting import paint, small_recipe
from tables import percent, read_table
from upscore.cli.inference_options import InferenceOptions
from upscore.cli.results import MATTERING
from upscore.data.open_dataset import open_dataset
from upscore.explain import explain_image
from upscore.inference.predictor import Predictor
from upscore.models.factory import LISTED_BACKBONES, list_models

CLASSES = ["ground", "square", "bar"]


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    return paint(tmp_path_factory.mktemp("data"))


@pytest.fixture
def recipe(painted, tmp_path):
    """A run of seconds whose mean IoU goes up and down, and whose network mistakes some of every class for another."""
    values = {
        "model.name": "unet", "model.backbone": None, "model.arguments": {"width": 0.03125}, "loss.terms": {"lovasz": 1.0},
        "optimizer.lr": 0.02, "run.epochs": 5,
    }  # fmt: skip
    path = tmp_path / "small.toml"
    small_recipe(painted, tmp_path / "unused", **values).save(path)
    return path


@pytest.fixture(scope="module")
def trained(painted, tmp_path_factory):
    from upscore.training.launch import train

    values = {
        "model.name": "unet", "model.backbone": None, "model.arguments": {"width": 0.03125}, "loss.terms": {"lovasz": 1.0},
        "optimizer.lr": 0.02, "run.epochs": 1,
    }  # fmt: skip
    return train(small_recipe(painted, tmp_path_factory.mktemp("runs") / "run", **values)).folder


def key(heading):
    return heading.lower().replace(" ", "_").replace("-", "_")


def total(evaluation, name):
    return evaluation[key(name)] if key(name) in evaluation else evaluation["borders"][key(name)]


def of_class(evaluation, name, heading):
    both = evaluation["classes"][name] | evaluation["borders"]["classes"][name]
    return f"{both['pixels']:,}" if heading == "pixels" else percent(both[key(heading)])


def test_training_prints_its_log_and_marks_what_is_best(upscore, painted, recipe, tmp_path):
    code, printed, aside = upscore("train", painted, "--recipe", recipe, "--out", tmp_path / "run")
    assert code == 0, aside
    log = list(csv.DictReader((tmp_path / "run" / "log.csv").read_text().splitlines()))
    lines = [line for line in aside.splitlines() if re.match(r"epoch +\d+/\d+  loss \d+\.\d{4}  ", line)]
    assert len(lines) == len(log) == 5
    best = -1.0
    marked = []
    for line, row in zip(lines, log, strict=True):
        miou = float(row["miou"])
        assert line.startswith(f"epoch {int(row['epoch']):>3}/5  loss {float(row['loss']):.4f}")
        assert f"  mIoU {100 * miou:5.2f} %  " in line
        assert f"  val loss {float(row['val_loss']):.4f}  " in line
        assert f"  pixel accuracy {100 * float(row['pixel_accuracy']):5.2f}" in line
        assert line.endswith("  best") == (miou > best), lines
        marked.append(miou > best)
        best = max(best, miou)
    assert False in marked, "a run in which every epoch is the best shows nothing"
    rises = [float(after["miou"]) > float(before["miou"]) for before, after in pairwise(log)]
    assert any(up and not new for up, new in zip(rises, marked[1:], strict=True)), "nor one in which whatever rises is the best"
    epoch = next(row["epoch"] for row in log if float(row["miou"]) == best)
    assert f"best mIoU {100 * best:.2f} % after epoch {float(epoch):g}: {tmp_path / 'run' / 'best'}" in printed
    assert f"next: upscore evaluate {tmp_path / 'run'} {painted}" in printed
    card = json.loads((tmp_path / "run" / "best" / "bundle.json").read_text())["card"]
    assert card["metrics"]["mean_iou"] == pytest.approx(best)


def test_a_recipe_of_another_run_does_not_lead_into_its_folder(upscore, trained, tmp_path, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    monkeypatch.chdir(tmp_path)
    code, printed, aside = upscore("train", "--recipe", trained / "recipe.toml", "--seed", "1", "--epochs", "1")
    assert code == 0, aside
    (line,) = [line for line in printed.splitlines() if line.startswith("run folder: ")]
    folder = tmp_path / line.removeprefix("run folder: ")
    assert (folder / "recipe.toml").is_file()
    assert trained not in (folder, *folder.parents)
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before
    code, printed, _ = upscore("train", "--recipe", trained / "recipe.toml", "--dry-run", "--out", tmp_path / "here")
    assert f"run folder: {tmp_path / 'here'}" in printed


def test_an_evaluation(upscore, painted, trained, tmp_path):
    words = ("evaluate", trained, painted, "--out", tmp_path / "report")
    code, text, aside = upscore(*words, "--json")
    assert code == 0, aside
    values = json.loads(text)
    code, printed, _ = upscore(*words)
    table = read_table(printed, after="class", rows=CLASSES)
    assert {"IoU", "boundary IoU", "precision", "recall", "F1", "pixels"} <= set(table["ground"])
    for name, row in table.items():
        assert row == {heading: of_class(values, name, heading) for heading in row}
    columns = [tuple(row[heading] for row in table.values()) for heading in table["ground"]]
    assert len(set(columns)) == len(columns), "columns that are alike could be taken for one another"
    names = [line.partition("  ")[0] for line in printed.partition("value\n")[2].splitlines() if re.search(r"  +\d+\.\d\d$", line)]
    totals = {name: row["value"] for name, row in read_table(printed, after="metric", rows=names).items()}
    assert {"mean IoU", "pixel accuracy", "mean accuracy", "frequency-weighted IoU", "boundary IoU", "trimap IoU"} <= set(totals)
    assert totals == {name: percent(total(values, name)) for name in totals}
    assert len(set(totals.values())) == len(totals) - 1, "mean accuracy is the mean recall"
    assert values["policy"] in " ".join(printed.split())
    assert values["borders"]["policy"] in " ".join(printed.split())


def test_an_evaluation_before_and_after_the_crf(upscore, painted, trained, tmp_path):
    numbers = ("iterations=2", "gaussian_sigma=1", "gaussian_weight=0.5", "bilateral_sigma=7", "bilateral_weight=0.25")
    words = ("evaluate", trained, painted, "--crf", *(w for n in numbers for w in ("--set", f"crf.{n}")), "--out", tmp_path / "report")
    code, text, aside = upscore(*words, "--json")
    assert code == 0, aside
    values = json.loads(text)
    versions = {"before": values["before"], "after": values}
    assert values["before"]["mean_iou"] != values["mean_iou"]
    code, printed, _ = upscore(*words)
    table = read_table(printed, after="class", rows=CLASSES)
    assert len({tuple(row[heading] for row in table.values()) for heading in table["ground"]}) == len(table["ground"]) >= 7
    for name, row in table.items():
        for heading, cell in row.items():
            what, _, when = heading.rpartition(" ")
            expected = of_class(versions[when], name, what) if when in versions else of_class(values, name, heading)
            assert cell == expected, (name, heading)
    names = [line.partition("  ")[0] for line in printed.partition("change\n")[2].partition("CRF:")[0].splitlines()]
    assert len(names) >= 6
    changes = read_table(printed.partition("\nbar ")[2].partition("\n")[2], after="", rows=names)
    for name, row in changes.items():
        before, after = (total(version, name) for version in versions.values())
        assert row == {"before": percent(before), "after": percent(after), "change": f"{100 * (after - before):+.2f}"}, name
    assert "CRF: 2 iterations; Gaussian sigma 1, weight 0.5; bilateral sigma 7, colour 13, weight 0.25" in printed


def test_tuning(upscore, painted, trained, tmp_path):
    code, printed, aside = upscore("tune", trained, painted, "--trials", "2", "--out", tmp_path / "tuned")
    assert code == 0, aside
    account = json.loads((tmp_path / "tuned" / "bundle.json").read_text())["card"]["crf"]
    table = read_table(printed, after="", rows=["chosen on", "confirmed on", "together"])
    for name in ("chosen_on", "confirmed_on"):
        half, row = account[name], table[name.replace("_", " ")]
        expected = {"images": str(half["images"])}
        for metric in ("mean IoU", "boundary IoU", "trimap IoU"):
            expected |= {f"{metric} {when}": percent(half[when][key(metric)]) for when in ("before", "after")}
        assert row == expected
    _, text, _ = upscore("evaluate", tmp_path / "tuned", painted, "--json", "--no-crf", "--out", tmp_path / "report")
    assert table["together"]["mean IoU before"] == percent(json.loads(text)["mean_iou"])
    assert f"bundle: {tmp_path / 'tuned'}" in printed


def test_what_is_tuned_and_swept_is_read_with_the_options_given(upscore, painted, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("UPSCORE_CACHE", str(tmp_path / "cache"))
    for kind, word in (("images", ""), ("masks", "_mask")):
        for path in sorted((painted.parent / kind / "train").iterdir()):
            folder = tmp_path / "flat" / f"site{sum(map(ord, path.stem)) % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{path.stem}{word}{path.suffix}").write_bytes(path.read_bytes())
    (tmp_path / "flat" / "classes.txt").write_text("\n".join(CLASSES))
    given = ["--split-by", "folder"]
    code, printed, aside = upscore("tune", trained, tmp_path / "flat", *given, "--trials", "1", "--out", tmp_path / "tuned")
    assert code == 0, aside
    dataset = open_dataset(tmp_path / "flat", "val", split_by="folder")
    assert read_table(printed, after="", rows=["chosen on", "confirmed on", "together"])["together"]["images"] == str(len(dataset))
    repeat = shlex.split(printed.rpartition("next: ")[2])
    assert repeat == ["upscore", "evaluate", str(tmp_path / "tuned"), str(tmp_path / "flat"), "--split", "val", *given]
    code, first, _ = upscore(*repeat[1:], "--json", "--out", tmp_path / "report")
    assert (code, sum(json.loads(first)["classes"][name]["pixels"] for name in CLASSES)) == (
        0,
        sum((s.label != 255).sum() for s in dataset),
    )
    for verb in ("tune", "proposal-sweep"):
        code, _, aside = upscore(verb, trained, painted, *given, *(["--again"] if verb == "tune" else []), "--out", tmp_path / "out")
        assert code == 1
        assert "divided already" in " ".join(aside.split())


def test_the_annotation_that_is_chosen_is_evaluated(upscore, painted, trained, tmp_path):
    assert upscore("convert", painted, "--to", "label-studio", "--out", tmp_path / "studio")[0] == 0
    for file in (tmp_path / "studio").glob("*.json"):
        tasks = json.loads(file.read_text())
        for task in tasks:
            (annotation,) = task["annotations"]
            wrong = json.loads(json.dumps(annotation).replace('"square"', '"bar"'))
            task["annotations"] = [wrong | {"updated_at": "2026-01-01"}, annotation | {"updated_at": "2026-01-02", "completed_by": 5}]
        file.write_text(json.dumps(tasks))

    def evaluated(data, *given):
        code, text, aside = upscore("evaluate", trained, data, *given, "--json", "--out", tmp_path / f"report{len(given)}{data.stem}")
        assert code == 0, aside
        return json.loads(text)["classes"], " ".join(aside.split())

    expected, _ = evaluated(painted)
    for choice in ("latest", "annotator:5"):
        assert evaluated(tmp_path / "studio", "--unlabelled", "ignore", "--annotation", choice)[0] == expected
    first, aside = evaluated(tmp_path / "studio", "--unlabelled", "ignore")
    assert first != expected
    assert "have several annotations" in aside
    code, _, aside = upscore("evaluate", trained, painted, "--annotation", "latest", "--out", tmp_path / "none")
    assert code == 1
    assert "found the options annotation, expected split_by for this dataset" in " ".join(aside.split())


def test_predictions(upscore, painted, trained, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for path in (painted.parent / "images" / "val").iterdir():
        (images / path.name).write_bytes(path.read_bytes())
    (images / "bad.png").write_bytes(b"no image")
    (images / "list.txt").write_text("a list")
    code, printed, _ = upscore("predict", trained, images, "--out", tmp_path / "out")
    account = json.loads((tmp_path / "out" / "predictions.json").read_text())
    counts = account["labelled"], account["failed"], account["left_out"]
    assert (code, counts) == (1, (3, 1, 1))
    assert "{} labelled, {} failed, {} left out: {}".format(*counts, tmp_path / "out") in printed


VALUES = {
    "--flips": [],
    "--rotations": [],
    "--preset": ["edeconvnet-paper"],
    "--scales": ["1,0.5"],
    "--tile": ["64"],
    "--max-proposals": ["3"],
    "--aggregate": ["mean"],
    "--boxes": ["BOXES"],
    "--edges": ["edges.yml"],
    "--ensemble": ["RUN"],
    "--combine": ["product"],
    "--precision": ["fp32"],
    "--crf": [],
    "--no-crf": [],
    "--no-proposals": [],
    "--set": ["margin=96"],
}
GROUPS = (
    ("--flips", "--rotations", "--scales", "--tile", "--precision", "--set", "--crf", "--no-proposals"),
    ("--preset", "--max-proposals", "--aggregate", "--boxes", "--ensemble", "--combine", "--no-crf"),
)


def test_every_inference_flag_is_tried_here():
    elsewhere = {"--settings", "--second-head"}  # the latter in tests/training/test_two_heads.py: it needs a network with two heads
    names = {f"--{field.name.replace('_', '-')}" for field in fields(InferenceOptions)} - elsewhere
    assert names | {"--set", "--no-crf"} == set(VALUES)
    assert {flag for group in GROUPS for flag in group} | {"--edges"} == set(VALUES)  # a model of edges is too large to make here


@pytest.mark.parametrize("group", GROUPS)
def test_the_command_of_a_report_repeats_every_flag(upscore, painted, trained, tmp_path, group):
    """The network is one of proposals, so that --no-proposals and --no-crf both change what the bundle asks for."""
    code, _, aside = upscore("ensemble", trained, "--max-proposals", "2", "--crf", "--out", tmp_path / "asks")
    assert code == 0, aside
    boxes = tmp_path / "boxes.json"
    names = sorted(path.stem for path in (painted.parent / "images" / "val").iterdir())
    boxes.write_text(json.dumps({name: {"size": [48, 56], "boxes": [[0, 0, 30, 30], [10, 10, 50, 40]]} for name in names}))
    given = {"BOXES": str(boxes), "RUN": str(trained)}
    flags = [word for flag in group for word in (flag, *(given.get(value, value) for value in VALUES[flag]))]
    code, first, aside = upscore("evaluate", tmp_path / "asks", painted, *flags, "--json", "--out", tmp_path / "report")
    assert code == 0, aside
    repeat = shlex.split(json.loads((tmp_path / "report" / "report.json").read_text())["repeat"])
    for flag in group:
        assert flag in repeat
        assert repeat[repeat.index(flag) + 1 :][: len(VALUES[flag])] == [given.get(value, value) for value in VALUES[flag]]
    code, second, aside = upscore(*repeat[1:], "--json", "--out", tmp_path / "report 2")
    assert code == 0, aside
    first, second = ({**json.loads(text), "report": ""} for text in (first, second))
    assert first == second
    proposals, crf = first["settings"]["proposals"], first["settings"]["crf"]
    assert (proposals is None) == ("--no-proposals" in group)
    assert crf["enabled"] == ("--crf" in group)


def test_a_proposal_sweep(upscore, painted, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("UPSCORE_CACHE", str(tmp_path / "cache"))
    words = ["--max-proposals", 10, "--set", "proposals.proposer=windows", "--set", "proposals.crop_side=48", "--aggregate", "mean"]
    words += ["--pages", 0]
    code, printed, aside = upscore("proposal-sweep", trained, painted, "--counts", "1,2,10", *words, "--out", tmp_path / "pages")
    assert code == 0, aside
    values = json.loads((tmp_path / "pages" / "proposal-sweep.json").read_text())["mean_iou"]
    lines = [line for line in printed.splitlines() if re.search(r"  +\d+\.\d\d$", line)]
    found = {name.strip(): value for name, _, value in (line.rpartition(" ") for line in lines)}
    expected = {f"UNet, {n} proposal{'s' * (int(n) > 1)}": percent(value) for n, value in values["proposals"].items()}
    assert found == expected | {name: percent(value) for name, value in values["modes"].items()}
    assert len({found[name] for name in expected}) > 1


def test_networks(upscore):
    code, printed, _ = upscore("models", "--backbone", "resnet18", "--backbone", "mobilenetv3_large_100")
    assert code == 0
    rows = list(list_models(backbones=("resnet18", "mobilenetv3_large_100")))
    for row in rows:
        section = next(part for part in re.split(r"\n\s*\n", printed) if part.startswith(f"{row.name}: "))
        heading, columns, *lines = section.splitlines()
        assert heading == f"{row.name}: {row.architecture.description} ({row.architecture.paper})"
        assert re.split(r"  +", columns.strip()) == ["backbone", "parameters", "coarsest stride", "finest stride", "receptive field"]
        field = "the whole image" if row.receptive_field == float("inf") else f"{row.receptive_field:g}"
        cells = [row.backbone or "its own", f"{row.parameters:.2f} M", str(row.stride), str(row.finest), field]
        assert cells in [re.split(r"  +", line.strip()) for line in lines]
    assert len(rows) >= 10
    assert "the whole image" in printed
    assert f"resnet18: {LISTED_BACKBONES['resnet18']}" in printed.splitlines()
    found = {row.name: (row.stride, row.finest) for row in rows if row.backbone in ("", "resnet18")}
    assert (found["fcn32s"], found["fcn16s"], found["fcn8s"]) == ((32, 32), (32, 16), (32, 8))
    assert (found["unet-backbone"], found["segnet"]) == ((32, 1), (32, 1))


def test_an_ensemble_and_what_it_saves(upscore, trained, tmp_path):
    words = ("--max-proposals", 9, "--aggregate", "mean", "--combine", "product", "--crf")
    code, printed, aside = upscore("ensemble", trained, trained, *words, "--out", tmp_path / "both")
    assert code == 0, aside
    members = [json.loads((tmp_path / "both" / f"member-{n}" / "bundle.json").read_text())["inference"] for n in (1, 2)]
    proposals = members[0]["proposals"]
    assert members[1]["proposals"] is None
    assert (proposals["max_proposals"], proposals["aggregate"]) == (9, "mean")
    assert printed.splitlines() == [
        f"  unet: 9 proposals ({proposals['proposer']}), aggregated by mean",
        "  unet: whole images",
        f"2 networks, scores multiplied, then the CRF: {tmp_path / 'both'}",
    ]
    inference = json.loads((tmp_path / "both" / "ensemble.json").read_text())["inference"]
    assert inference["combine"] == "product"
    assert inference["crf"]["enabled"]


def test_an_explanation(upscore, painted, trained, tmp_path):
    image = painted.parent / "images" / "val" / "000.png"
    code, printed, aside = upscore("explain", trained, image, "--pixel", "20,30", "--grid", "0x0", "--out", tmp_path / "page.html")
    assert code == 0, aside
    prediction = Predictor(trained, device="cpu").predict(image, probs=True)
    predicted = int(prediction.label_map[20, 30])
    words = f"row 20, column 30: {CLASSES[predicted]} {percent(float(prediction.probs[predicted, 20, 30]))} %, 95 % of its effective"
    assert printed.startswith(words)
    side = explain_image(str(trained), str(image), pixel=(20, 30), grid=(0, 0), device="cpu").receptive_fields[0].effective_side
    assert f"within {side}×{side} pixels" in printed


def test_a_plan(upscore, painted, tmp_path):
    words = ("train", painted, "--backbone", "test_resnet", "--weights", "none", "--device", "cpu", "--epochs", 1, "--seed", 3)
    code, printed, aside = upscore(*words, "--dry-run", "--out", tmp_path / "run")
    assert code == 0, aside
    assert f"{painted}: 6 training and 3 validation images, 3 classes" in printed
    assert re.search(r"network: fcn8s on test_resnet, \d+\.\d\d M parameters, initialised at random", printed)
    assert re.search(r"about \d+ \w+ on cpu, if it is not stopped early", printed)
    block = printed.partition("chosen ")[2].partition("network: ")[0].splitlines()
    table = {row[0]: row[1] for row in (re.split(r"  +", line, maxsplit=2) for line in block[2:]) if row[0]}
    assert len(table) > 8
    assert {"run.epochs", "run.device", "run.seed"}.isdisjoint(table), "what was given is not chosen"
    code, printed, aside = upscore(*words, "--out", tmp_path / "run")
    assert code == 0, aside
    shown = printed.partition("chosen ")[2].partition("\nand ")[0].splitlines()[2:]
    shown = {re.split(r"  +", line)[0] for line in shown}
    assert shown == set(table) & set(MATTERING) - {"run.devices"}
    assert f"and {len(table) - len(shown)} more, all in recipe.toml; --verbose shows them" in printed
    recipe = tomllib.loads((tmp_path / "run" / "recipe.toml").read_text())
    assert set(recipe["chosen"]) == set(table)
    for setting, value in table.items():
        section, _, name = setting.partition(".")
        assert str(recipe[section][name]).strip("'") == value.strip("'"), setting
