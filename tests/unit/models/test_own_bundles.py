"""Bundles of a caller's own networks: the same network again, by code that the caller names and no other."""

import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

from upscore.errors import BundleError, DataError
from upscore.inference.predictor import Predictor
from upscore.models.bundle import Bundle
from upscore.models.factory import create_model
from upscore.types import LabelSpace

LABELS = LabelSpace(("ground", "square", "bar"))
HERE = f"{__name__}:make_network"


class Network(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.scores = nn.Conv2d(width, 3, 1)
        self.register_buffer("ramp", torch.arange(3.0), persistent=False)

    def forward(self, images):
        return self.scores(self.norm(self.inner(images)).relu()) + self.ramp[None, :, None, None]


def make_network(width=4):
    return Network(width)


@pytest.fixture
def here(monkeypatch):
    """This file under the name by which a caller would import it."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or sys.modules[make_network.__module__])


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = make_network(6)
    network(torch.rand(2, 3, 8, 8))  # moves the running statistics
    return network.eval()


@pytest.fixture
def saved(network, tmp_path):
    return Bundle.of_network(network, LABELS, build=make_network, arguments={"width": 6}, card={"why": "a test"}).save(tmp_path / "own")


def test_a_network_of_ones_own_is_the_same_bit_for_bit(saved, network):
    images = torch.rand(1, 3, 9, 11)
    for bundle in (Bundle.load(saved, build=make_network), Bundle.load(saved, build=lambda width: make_network(width))):
        assert torch.equal(bundle.build()(images), network(images))
        assert (bundle.labels, bundle.card, bundle.architecture) == (LABELS, {"why": "a test"}, "Network")
    again = Bundle.load(saved, build=make_network).save(saved.parent / "again")
    assert (again / "weights.safetensors").read_bytes() == (saved / "weights.safetensors").read_bytes()
    assert (again / "bundle.json").read_text() == (saved / "bundle.json").read_text()


def test_a_predictor_opens_it_by_what_builds_it(saved, network):
    image = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    live = Predictor(network, labels=LABELS).predict(image, probs=True)
    opened = Predictor(saved, build=make_network).predict(image, probs=True)
    np.testing.assert_array_equal(opened.probs, live.probs)


def test_what_builds_it_may_be_named(saved, network, here):
    named = Bundle.of_network(network, LABELS, build=HERE, arguments={"width": 6})
    assert named.built_by == HERE
    assert Bundle.load(saved, build=HERE).weights.keys() == named.weights.keys()


def test_nothing_is_imported_because_a_file_names_it(saved, tmp_path, monkeypatch):
    (tmp_path / "hostile.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    description = json.loads((saved / "bundle.json").read_text())
    for changed in ({"built_by": "hostile:run"}, {"built_by": "hostile:run", "architecture": "fcn8s"}, {"architecture": "hostile:run"}):
        (saved / "bundle.json").write_text(json.dumps(description | changed))
        with pytest.raises(BundleError, match=r"build="):
            Bundle.load(saved)
        Bundle.load(saved, build=make_network)
    assert "hostile" not in sys.modules


def test_without_its_code_it_is_refused_in_one_line(saved):
    with pytest.raises(BundleError, match=r"somebody's own code, .*make_network.*never imported.*Bundle.load\(folder, build=") as error:
        Predictor(saved)
    assert "\n" not in str(error.value)


def test_build_is_for_networks_of_ones_own(tmp_path):
    model = create_model("full-resolution", num_classes=3)
    folder = Bundle.of("full-resolution", {}, model, LABELS).save(tmp_path / "ours")
    with pytest.raises(BundleError, match="'full-resolution', which upscore builds: leave build= out"):
        Bundle.load(folder, build=make_network)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda width: make_network(5), r"does not fit the network that .*has 'inner.weight' of shape"),
        (lambda width: nn.Conv2d(3, 3, 1), r"does not fit the network that .*lacks '"),
        (lambda width: 3, r"returned int, expected an nn.Module"),
        (lambda: make_network(6), r"raised TypeError"),
        ("no.such:thing", "cannot be imported"),
    ],
    ids=["another width", "another network", "no network", "another signature", "no module"],
)
def test_other_code_is_refused_in_one_line(saved, build, said):
    with pytest.raises(BundleError, match=said) as error:
        Bundle.load(saved, build=build)
    assert "\n" not in str(error.value)


def test_a_bundle_that_could_not_be_opened_is_not_made(network):
    with pytest.raises(BundleError, match=r"the network is not what .*make_network builds from .*'width': 4.*: it has 'inner.weight'"):
        Bundle.of_network(network, LABELS, build=make_network, arguments={"width": 4})
    with pytest.raises(BundleError, match="JSON"):
        Bundle.of_network(network, LABELS, build=make_network, arguments={"width": object()})
    with pytest.raises(BundleError, match="number, a word or a yes or no"):
        Bundle.of_network(network, LABELS, build=lambda sizes: make_network(6), arguments={"sizes": [6]})
    with pytest.raises(DataError, match="expected a list of class names"):
        Bundle.of_network(network, "ground", build=make_network)


def test_numbers_that_no_bundle_holds_are_refused():
    class Complex(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("phase", torch.zeros(1, dtype=torch.complex64))

    with pytest.raises(BundleError, match=r"'phase' of type torch.complex64.*persistent=False"):
        Bundle.of_network(Complex(), LABELS, build=Complex)
