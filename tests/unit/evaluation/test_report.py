from __future__ import annotations

import base64
import csv
import html
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

from browsing import read
from speckles import LABELS as RED_AND_BLUE
from speckles import Scenes, Speckled
from upscore.errors import DataError, OutputError
from upscore.evaluation.evaluate import evaluate
from upscore.evaluation.report import write_report
from upscore.evaluation.result import Evaluation
from upscore.inference.predictor import Predictor
from upscore.types import LabelSpace, Prediction, Sample

HOSTILE = '</td><script>alert(1)</script><img src="http://evil.example/x" onerror=1>'
LABELS = LabelSpace(("ground", HOSTILE, "=1+1"))


class Images:
    """Six images of growing difficulty; one is ignored altogether."""

    name, split, labels, warnings = "fields & <b>woods</b>", "val", LABELS, ()
    keys = tuple(f"{HOSTILE}{i}" for i in range(6))

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        truth = np.zeros((30, 1000), np.uint8)
        truth[:, 500:] = 1
        truth[:5] = 255
        if index == 5:
            truth[:] = 255
        return Sample(self.keys[index], np.full((30, 1000, 3), index, np.uint8), truth)


class Drifting:
    """Mistakes a strip that is the wider the later the image."""

    labels = LABELS
    card: ClassVar = {"epoch": 7, "recipe": {"lr": 0.1, "note": HOSTILE}, "history": [{"epoch": 1, "loss": 2.0, "miou": 0.1}]}
    source = "bundle/x"

    def predict(self, image: np.ndarray) -> Prediction:
        label_map = np.zeros(image.shape[:2], np.uint8)
        label_map[:, 500 + 80 * int(image[0, 0, 0]) :] = 1
        return Prediction(label_map, LABELS)


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return evaluate(Drifting(), Images())


def test_the_page_stands_alone_and_untrusted_names_are_text(evaluation: Evaluation, tmp_path: Path):
    page = read(write_report(evaluation, tmp_path / "a" / "b", predictor=Drifting(), dataset=Images()))
    assert not {"script", "link", "iframe", "object", "embed", "form", "b1"} & set(page.tags)
    assert page.addresses
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert "url(" not in (tmp_path / "a" / "b" / "report.html").read_text()
    assert HOSTILE in page.text
    assert "fields & <b>woods</b>" in page.text


def test_page_and_table_show_what_names_hide(tmp_path: Path):
    """Escape codes and marks of direction stand as text; the numbers for machines keep the names as they are."""
    hidden = "\u202ea\x1b[2J\nb\udcff"

    class Hiding(Images):
        name, labels, keys = hidden, LabelSpace(("ground", hidden, "\t=1")), tuple(f"{hidden}{i}" for i in range(6))

    class Hid(Drifting):
        labels, source, card = Hiding.labels, hidden, {"note": hidden}

        def predict(self, image: np.ndarray) -> Prediction:
            return Prediction(super().predict(image).label_map, Hiding.labels)

    command = f"upscore evaluate '{hidden}'\nmore"
    page = write_report(evaluate(Hid(), Hiding()), tmp_path, predictor=Hid(), dataset=Hiding(), command=command)
    text, table = page.read_text("utf-8"), (tmp_path / "confusion.csv").read_text("utf-8")
    for shown in (text, table):
        assert "\\u202ea\\x1b[2J\\nb\\udcff" in shown
        assert not set(shown) & set("\x1b\u202e\udcff\t")
    assert "<code>upscore evaluate &#39;\\u202ea\\x1b[2J\nb\\udcff&#39;\nmore</code>" in text  # lines of a command stay lines
    numbers = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert numbers["dataset"]["name"] == hidden
    assert numbers["repeat"] == command
    assert len(table.splitlines()) == 4


def test_the_four_scores_their_policy_and_the_origin_are_there(evaluation: Evaluation, tmp_path: Path):
    page = read(write_report(evaluation, tmp_path, predictor=Drifting(), dataset=Images(), command="upscore evaluate x y"))
    metrics = evaluation.metrics
    means = (metrics.mean_precision, metrics.mean_recall, metrics.mean_f1)
    for value in (metrics.mean_iou, metrics.pixel_accuracy, metrics.mean_accuracy, metrics.frequency_weighted_iou, *means):
        assert f"{100 * value:.1f}" in page.text
    assert evaluation.policy in page.text
    assert evaluation.fingerprint in page.text
    assert "upscore evaluate x y" in page.text
    assert "recipe.lr" in page.text
    assert "Training loss" in page.text  # from the card's history


def table_of(path: Path, label: str) -> list[dict[str, str]]:
    """Return the rows of a table of a page, by the names of their columns."""
    table = path.read_text(encoding="utf-8").partition(f'aria-label="{label}"')[2].partition("</table>")[0]
    rows = [
        [" ".join(html.unescape(re.sub("<[^>]*>", " ", cell)).split()) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)]
        for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    ]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def test_each_column_of_the_class_table_shows_its_metric(evaluation: Evaluation, tmp_path: Path):
    metrics, borders = evaluation.metrics, evaluation.border_metrics
    columns = {
        "IoU, %": metrics.class_iou,
        "Boundary IoU, %": borders.class_boundary_iou,
        "Precision, %": metrics.class_precision,
        "Recall, %": metrics.class_recall,
        "F1, %": metrics.class_f1,
        "Fraction, %": metrics.class_pixels / metrics.class_pixels.sum(),
    }
    rows = table_of(write_report(evaluation, tmp_path), "Metrics by class")
    assert [row["Class"] for row in rows] == list(LABELS.names)
    for i, row in enumerate(rows):
        shown = {name: "–" if np.isnan(values[i]) else f"{100 * values[i]:.1f}" for name, values in columns.items()}
        assert {name: row[name] for name in columns} == shown
        assert int("".join(row["Pixels"].split())) == metrics.class_pixels[i]
    assert len({row["Precision, %"] for row in rows} | {row["Recall, %"] for row in rows}) > 2


def test_the_average_precision_of_objects_is_shown(evaluation: Evaluation, tmp_path: Path):
    names = ("ap", "ap50", "ap75", "small", "medium", "large", "recall")
    headings = ("AP, %", "AP50, %", "AP75, %", "Small, %", "Medium, %", "Large, %", "Recall, %")
    boxes: dict[str, Any] = dict(zip(names, (0.11, 0.22, 0.33, None, 0.44, 0.55, 0.66), strict=True))
    masks: dict[str, Any] = dict(zip(names, (0.12, 0.23, 0.34, 0.45, 0.56, 0.67, 0.78), strict=True))
    boxes["classes"], masks["classes"] = {HOSTILE: 0.21, "=1+1": None}, {HOSTILE: 0.31, "=1+1": 0.41}
    objects = {"origin": "proposals", "min_area": 1500, "merged": 7, "images": 6, "true": 20, "found": 30, "boxes": boxes, "masks": masks}
    page = write_report(evaluation, tmp_path, objects=objects)
    for row in table_of(page, "Average precision of objects"):
        values = objects[row["Overlap of"]]
        assert [row[heading] for heading in headings] == ["–" if values[n] is None else f"{100 * values[n]:.1f}" for n in names]
    rows = table_of(page, "Average precision by class")
    assert [(row["Class"], row["Boxes, %"], row["Masks, %"]) for row in rows] == [
        (HOSTILE, "21.0", "31.0"),
        ("=1+1", "–", "41.0"),
    ]
    text = " ".join(page.read_text().split())
    assert "30 objects were found from proposals of at least 1 500 pixels; 20 are true, and 7 of these share" in text.replace("\u2009", " ")
    assert json.loads((tmp_path / "report.json").read_text())["objects"] == objects
    assert "Average precision" not in write_report(evaluation, tmp_path / "without").read_text()
    assert "objects" not in json.loads((tmp_path / "without" / "report.json").read_text())


def test_validation_loss_is_drawn_beside_training_loss(evaluation: Evaluation, tmp_path: Path):
    history = [{"epoch": 1, "loss": 2.0, "val_loss": 2.5, "miou": 0.1}, {"epoch": 2, "loss": 1.0, "val_loss": 1.75, "miou": 0.2}]
    page = write_report(evaluation, tmp_path, history=history)
    assert "Loss, training: 2 at epoch 1, 1 at epoch 2; marked: 1 at epoch 2. Loss, validation: 2.5 at epoch 1, 1.75" in page.read_text()
    assert "Training loss" not in page.read_text()
    assert {"training", "validation"} <= {line.strip() for line in read(page).text.splitlines()}


def test_worst_come_first_best_last_and_none_twice(evaluation: Evaluation, tmp_path: Path):
    page = read(write_report(evaluation, tmp_path, predictor=Drifting(), dataset=Images()))
    shown = [alt[-1] for image in page.images if (alt := str(image["alt"])).startswith("The image")]
    assert shown == ["4", "3", "2", "0", "1"]
    assert all(image["alt"] for image in page.images)


def test_panels_show_truth_prediction_and_errors(evaluation: Evaluation, tmp_path: Path):
    page = read(write_report(evaluation, tmp_path, predictor=Drifting(), dataset=Images()))
    views = [
        cv2.imdecode(np.frombuffer(base64.b64decode(str(i["src"]).split(",")[1]), np.uint8), cv2.IMREAD_COLOR_RGB) for i in page.images[:4]
    ]
    assert all(view.shape == (13, 440, 3) for view in views)
    colours = LABELS.colours()
    _, truth, prediction, errors = views
    assert truth[12, 10].tolist() == colours[0].tolist()
    assert truth[12, 300].tolist() == colours[1].tolist()
    assert truth[0, 10].tolist() == colours[255].tolist()
    assert prediction[12, 300].tolist() == colours[0].tolist()
    red, green, blue = errors[12, 300].astype(int)  # 500 to 820 of 1000 is mistaken
    assert red > green + 100
    assert red > blue + 80
    assert np.ptp(errors[12, 100].astype(int)) < 20
    assert np.ptp(errors[0, 300].astype(int)) < 20
    assert abs(int(errors[0, 300].mean()) - 150) < 12


def test_json_and_csv_hold_every_number(evaluation: Evaluation, tmp_path: Path):
    write_report(evaluation, tmp_path, card={"oddity": float("nan")}, history=[{"epoch": 1, "miou": float("inf")}])

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    numbers = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert numbers["metrics"]["mean_iou"] == evaluation.metrics.mean_iou
    assert numbers["confusion"] == evaluation.matrix.counts.tolist()
    assert numbers["history"] == [{"epoch": 1, "miou": None}]
    assert len(numbers["images"]) == 6
    with (tmp_path / "confusion.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.reader(file))
    assert table[0][1:] == ["ground", HOSTILE, "'=1+1"]
    assert [[int(cell) for cell in row[1:]] for row in table[1:]] == evaluation.matrix.counts.tolist()


def test_the_metrics_of_each_image_are_a_table(evaluation: Evaluation, tmp_path: Path):
    write_report(evaluation, tmp_path)
    with (tmp_path / "images.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:6] == ["key", "height", "width", "ignored", "pixel accuracy", "mean IoU"]
    assert list(rows[0])[6:] == ["IoU ground", f"IoU {HOSTILE}", "IoU =1+1"]
    assert [row["key"] for row in rows] == list(Images.keys)
    for row, image in zip(rows, evaluation.images, strict=True):
        assert (int(row["height"]), int(row["width"]), float(row["ignored"])) == (30, 1000, image.ignored)
        for name, value in (("pixel accuracy", image.pixel_accuracy), ("mean IoU", image.mean_iou), ("IoU ground", image.class_iou[0])):
            assert row[name] == ("" if np.isnan(value) else repr(float(value)))
        assert row["IoU =1+1"] == ""  # in no truth and no prediction
    numbers = json.loads((tmp_path / "report.json").read_text())["images"]
    assert [row["class_iou"][2] for row in numbers] == [None] * 6
    assert numbers[1]["class_iou"][0] == evaluation.images[1].class_iou[0]


def test_a_key_is_no_formula(tmp_path: Path):
    class Formulas(Images):
        keys = tuple(f"={i}+1" for i in range(6))

    write_report(evaluate(Drifting(), Formulas()), tmp_path)
    assert (tmp_path / "images.csv").read_text().splitlines()[1].startswith("'=0+1,30,1000,")


def test_images_that_were_trained_on_are_the_first_thing_on_the_page(evaluation: Evaluation, tmp_path: Path):
    trained_on = ((Images.keys[0], "there"), (Images.keys[1], Images.keys[1]))
    page = write_report(replace(evaluation, trained_on=trained_on), tmp_path).read_text()
    (shared, *_) = re.findall(r'<p class="warning[^"]*">.*?</p>', page)
    assert 'class="warning shared"' in shared
    assert "2 of 6 images of val are also in the network&#39;s training data" in shared
    assert page.count('class="warning shared"') == 1
    assert page.index(shared) < page.index("Every metric comes from one confusion matrix")
    assert 'class="warning shared"' not in write_report(evaluation, tmp_path).read_text()
    assert json.loads((tmp_path / "report.json").read_text())["trained_on"] == []


def test_warnings_of_the_training_are_shown_and_digests_are_not(evaluation: Evaluation, tmp_path: Path):
    card = {"warnings": ["3 of 9 images are shared <b1>"], "data": {"pixels": {"images": 9, "digests": "QUJD" * 1000}}}
    page = write_report(evaluation, tmp_path, card=card)
    assert "3 of 9 images are shared <b1>" in read(page).text
    assert "data.pixels.images" in page.read_text()
    assert "QUJDQUJD" not in page.read_text()


def test_mean_iou_is_drawn_in_percent(evaluation: Evaluation, tmp_path: Path):
    page = write_report(evaluation, tmp_path, history=[{"epoch": 1, "loss": 2.0, "miou": 0.125}, {"epoch": 2, "loss": 1.0, "miou": 0.5}])
    assert "Validation mean IoU, %, mean IoU: 12.5 at epoch 1, 50 at epoch 2; marked: 50 at epoch 2." in page.read_text()


def test_without_images_history_or_card(evaluation: Evaluation, tmp_path: Path):
    page = read(write_report(evaluation, tmp_path))
    assert "No images are shown" in page.text
    assert page.images == []
    assert "Training loss" not in page.text


@pytest.mark.parametrize("classes", [1, 2, 150, 255])
def test_any_number_of_classes(classes: int, tmp_path: Path):
    labels = LabelSpace(tuple(f"class {i}" for i in range(classes)))

    class Data(Images):
        keys = ("k",)

        def __getitem__(self, index: int) -> Sample:
            return Sample("k", np.zeros((9, 9, 3), np.uint8), np.full((9, 9), classes - 1, np.uint8))

    class Model:
        def predict(self, image: np.ndarray) -> Prediction:
            return Prediction(np.zeros((9, 9), np.uint8), labels)

    Data.labels = Model.labels = labels
    path = write_report(evaluate(Model(), Data()), tmp_path, predictor=Model(), dataset=Data())
    assert read(path).tags.count("tr") == classes + 1
    assert path.stat().st_size < 1_000_000
    assert not re.search(r"\bnan\b", re.sub(r"base64,[^\"]*", "", path.read_text()))


def test_another_dataset_is_refused(evaluation: Evaluation, tmp_path: Path):
    class Renamed(Images):
        keys = ("x",)

    class Cropped(Images):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return Sample(sample.key, sample.image[1:], sample.label[1:])

    for other in (Renamed(), Cropped()):
        with pytest.raises(DataError, match="evaluated on"):
            write_report(evaluation, tmp_path, predictor=Drifting(), dataset=other)
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_is_an_output_error(evaluation: Evaluation, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_report(evaluation, tmp_path / "file")


@pytest.fixture(scope="module")
def refined() -> tuple[Predictor, Scenes, Evaluation]:
    """Specks that a CRF mends in two images, and takes for specks in the other two where they are the truth."""
    predictor, scenes = Predictor(Speckled(), labels=RED_AND_BLUE, crf={"iterations": 3}), Scenes(range(2), count=4)
    return predictor, scenes, evaluate(predictor, scenes)


def decode(image: dict[str, str | None]) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(base64.b64decode(str(image["src"]).split(",")[1]), np.uint8), cv2.IMREAD_COLOR_RGB).astype(int)


def test_what_the_crf_changed_is_shown(refined: tuple[Predictor, Scenes, Evaluation], tmp_path: Path):
    predictor, scenes, evaluation = refined
    page = read(write_report(evaluation, tmp_path, predictor=predictor, dataset=scenes))
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert "3 iterations; Gaussian sigma 3" in page.text
    before, after = evaluation.before, evaluation
    for one in (before, after):
        for value in (one.metrics.mean_iou, one.border_metrics.boundary_iou, one.border_metrics.trimap_iou, *one.metrics.class_iou):
            assert f"{100 * value:.1f}" in page.text
    change = f"{100 * (after.metrics.mean_iou - before.metrics.mean_iou):+.1f}".replace("-", "\u2212")
    assert change in page.text
    _, _, section = page.text.partition("What the CRF changed")
    assert re.findall("k[0-3](?=\nmean IoU)", section.partition("Confusion matrix")[0]) == [
        *(row.key for _, row in evaluation.gains()[:2]),
        *(row.key for _, row in evaluation.gains()[:1:-1]),
    ]
    views = [image for image in page.images if "CRF corrected" in str(image["alt"])]
    assert len(views) == 4
    mended, spoiled = (decode(views[i]) for i in (0, 2))
    for view, blue in ((mended, True), (spoiled, False)):
        marks = np.abs(view - np.array([36, 104, 196] if blue else [214, 40, 60])).sum(-1) < 90
        others = np.abs(view - np.array([214, 40, 60] if blue else [36, 104, 196])).sum(-1) < 90
        assert marks.sum() > 40 > 5 > others.sum()
    numbers = json.loads((tmp_path / "report.json").read_text())
    assert numbers["before"]["metrics"]["mean_iou"] == before.metrics.mean_iou
    assert numbers["borders"]["boundary_iou"] == after.border_metrics.boundary_iou
    assert numbers["settings"]["crf"]["iterations"] == 3
    assert "Predictor(" in numbers["repeat"]


def test_without_a_crf_nothing_is_said_of_it(refined: tuple[Predictor, Scenes, Evaluation], tmp_path: Path):
    *_, evaluation = refined
    assert "network alone" not in read(write_report(evaluation.before, tmp_path / "a")).text.lower()
    page = read(write_report(evaluation, tmp_path / "b"))
    assert "What the CRF changed" in page.text
    assert page.images == []
    assert json.loads((tmp_path / "a" / "report.json").read_text())["before"] is None
    gaining = evaluate(Predictor(Speckled(), labels=RED_AND_BLUE, crf=True), Scenes(count=2))
    predictor = Predictor(Speckled(), labels=RED_AND_BLUE, crf=True)
    page = read(write_report(gaining, tmp_path / "c", predictor=predictor, dataset=Scenes(count=2)))
    assert "No image's mean IoU fell." in page.text
