"""What proposals do, counted against predictors of so many proposals, and the pages of it."""

import json
import re

import numpy as np
import pytest
import torch

from browsing import read
from upscore.data.open_dataset import open_dataset
from upscore.errors import RecipeError
from upscore.evaluation.evaluate import evaluate
from upscore.evaluation.proposal_sweep import ProposalSweep, sweep_proposals
from upscore.evaluation.proposal_sweep_page import ProposalSweepPages
from upscore.inference.predictor import Predictor
from upscore.metrics import ConfusionMatrix
from upscore.models.bundle import Bundle
from upscore.models.factory import create_model
from upscore.settings import InferenceSettings

FEW = {"max_proposals": 6, "proposer": "windows", "crop_side": 32, "enlarge": 1.0}


@pytest.fixture(scope="module")
def data():
    return open_dataset("shapes", "val", size=(40, 56), count=3)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UPSCORE_CACHE", str(tmp_path / "cache"))


def bundle(data, seed, **values):
    torch.manual_seed(seed)
    arguments = {"depth": 2, "width": 6}
    model = create_model("full-resolution", num_classes=len(data.labels), **arguments)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return Bundle.of("full-resolution", arguments, model, data.labels, **values)


def counts_of(predictor, data):
    return evaluate(predictor, data).matrix.counts


def test_each_number_is_that_of_a_predictor_with_so_many_boxes(data):
    boxed, whole = bundle(data, 0, inference=InferenceSettings.from_stored({"proposals": FEW})), bundle(data, 1)
    sweep = sweep_proposals(Predictor([boxed, whole], crf=True), data, counts=(1, 3, 50))
    assert sweep.counts == (1, 3, 6)
    for count in sweep.counts:
        np.testing.assert_array_equal(sweep.matrices[str(count)].counts, counts_of(Predictor(boxed, proposals=count), data))
    alone = evaluate(Predictor([boxed, whole], crf=True), data)
    expected = {
        "FullResolution 1, whole image": Predictor(boxed, proposals=False),
        "FullResolution 2, whole image": Predictor(whole),
        "FullResolution 1, 6 proposals": Predictor(boxed),
    }
    for name, predictor in expected.items():
        np.testing.assert_array_equal(sweep.matrices[name].counts, counts_of(predictor, data))
    np.testing.assert_array_equal(sweep.matrices["ensemble of 2 networks"].counts, alone.before.matrix.counts)
    np.testing.assert_array_equal(sweep.matrices["with the CRF"].counts, alone.matrix.counts)
    assert sweep.modes == [*list(expected)[:2], "ensemble of 2 networks", "with the CRF"]
    assert sweep.curve()[1] == {"proposals": 3, "mean_iou": sweep.mean_iou("3")}
    assert (sweep.images, sweep.without_proposals) == (3, 0)


@pytest.mark.parametrize("combine", ["mean", "product"])
def test_each_box_is_looked_at_once(data, combine):
    predictor = Predictor(
        [bundle(data, 0, inference=InferenceSettings.from_stored({"proposals": FEW})), bundle(data, 1)], crf=True, combine=combine
    )
    seen, boxes = [], []
    predictor.members[0].segmenter.model.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    sweep = sweep_proposals(predictor, data, counts=(1, 3), show=lambda index, image: boxes.append(len(image.boxes)))
    assert sum(shape[0] for shape in seen if shape[-1] == FEW["crop_side"]) == sum(boxes)
    np.testing.assert_array_equal(sweep.matrices["with the CRF"].counts, counts_of(predictor, data))


def test_one_network_and_images_without_boxes(data, monkeypatch):
    predictor = Predictor(bundle(data, 0), proposals={"max_proposals": 4, "crop_side": 32, "min_size": 1000})
    sweep = sweep_proposals(predictor, data)
    assert sweep.without_proposals == 3
    np.testing.assert_array_equal(sweep.matrices["1"].counts, sweep.matrices["4"].counts)
    assert sweep.modes == ["FullResolution, whole image"]


@pytest.mark.parametrize(
    ("values", "counts", "said"),
    [
        ({}, (1,), "no network uses proposals"),
        ({"proposals": FEW}, (0,), r"found counts \[0\]"),
        ({"proposals": FEW}, (), "found counts"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(data, values, counts, said):
    with pytest.raises(RecipeError, match=said):
        sweep_proposals(Predictor(bundle(data, 0), **values), data, counts=counts)


def test_the_pages_show_it_all_and_fetch_nothing(data, tmp_path):
    predictor = Predictor([bundle(data, 0, inference=InferenceSettings.from_stored({"proposals": FEW})), bundle(data, 1)], crf=True)
    pages = ProposalSweepPages(
        tmp_path / "out", labels=data.labels, settings=predictor.settings, shown=[0, 2], command="upscore proposal-sweep <x>"
    )
    sweep = sweep_proposals(predictor, data, counts=(1, 3), show=pages.show)
    index = pages.write_index(sweep, dataset="<b>shapes</b>", split="val", model="m")
    names = ["image-0001.html", "image-0003.html", "index.html", "proposal-sweep.json"]
    assert sorted(path.name for path in index.parent.iterdir()) == names
    page = read(index)
    assert page.addresses.count("image-0001.html") == page.addresses.count("image-0003.html") == 1
    assert all(address.startswith("data:image/") or address.endswith(".html") for address in page.addresses)
    assert "script" not in page.tags
    assert "<b>shapes</b>" in page.text
    for name in ("3 proposals", "ensemble of 2 networks", "with the CRF", f"{100 * sweep.mean_iou('3'):.1f}"):
        assert name in page.text
    one = read(index.parent / "image-0001.html")
    assert len(one.images) == 3 + 3 + 1 + 6  # image, boxes, truth; 1, 3 and 6 boxes, truth; five ways and truth
    assert "The 6 proposals; the best 5 in colour" in " ".join(one.text.split())
    numbers = json.loads((index.parent / "proposal-sweep.json").read_text())
    assert numbers["mean_iou"]["proposals"].keys() == {"1", "3", "6"}
    assert numbers["repeat"] == "upscore proposal-sweep <x>"


@pytest.mark.parametrize("best", ["1", "3", "Net, whole image"])
def test_the_best_of_all_rows_is_marked_and_each_row_shows_its_number(data, tmp_path, best):
    matrices = {}
    for i, name in enumerate(("1", "3", "Net, whole image", "Net, 3 proposals")):
        right = 90 if name == best else 50 - 10 * min(i, 2)
        matrices[name] = ConfusionMatrix.of(np.diag([right] * len(data.labels)) + 2)
    matrices["Net, 3 proposals"] = matrices["3"]
    sweep = ProposalSweep(data.labels, "Net", (1, 3), matrices, images=1, without_proposals=0)
    settings = InferenceSettings().with_overrides(proposals=3)
    pages = ProposalSweepPages(tmp_path, labels=data.labels, settings=settings, shown=[], command="c")
    index = pages.write_index(sweep, dataset="d", split="val", model="m")
    rows = re.findall(r'<tr( class="best")?><th class="name">([^<]*)</th><td>([^<]*)</td>', index.read_text())
    values = {
        "Net, 1 proposal": sweep.mean_iou("1"),
        "Net, 3 proposals": sweep.mean_iou("3"),
        "Net, whole image": sweep.mean_iou("Net, whole image"),
    }
    assert [(name, value) for _, name, value in rows] == [(name, f"{100 * value:.1f}") for name, value in values.items()]
    assert [name for marked, name, _ in rows if marked] == [max(values, key=values.get)]
