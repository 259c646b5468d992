"""Bundles that ask for much, or hold what they should not: one line, before anything is measured or allocated."""

import json
import os
from pathlib import Path

import pytest

from upscore.errors import BundleError, ModelError
from upscore.models import timm_backbone
from upscore.models.bundle import Bundle
from upscore.models.ensemble import Ensemble
from upscore.models.factory import create_model
from upscore.types import LabelSpace

LABELS = LabelSpace(("sky", "road", "tree"))
ARGUMENTS = {"backbone": "resnet10t", "num_classes": 3}


@pytest.fixture
def saved(tmp_path):
    return Bundle.of("fcn32s", ARGUMENTS, create_model("fcn32s", **ARGUMENTS), LABELS, card={"epoch": 3}).save(tmp_path / "model")


def rewrite(folder, change):
    path = folder / "bundle.json"
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))


def refused(folder, complaint, kind=Bundle):
    with pytest.raises(BundleError, match=complaint) as error:
        kind.load(folder)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 700


@pytest.mark.parametrize("backbone", ["tf_efficientnet_l2", "nasnetalarge", "resnet18", "efficientnet_b0"])
def test_a_backbone_is_not_measured_for_weights_that_are_not_its_own(saved, backbone, monkeypatch):
    def measured(*_, **__):
        raise AssertionError("measured")

    monkeypatch.setattr(timm_backbone, "measure_levels", measured)
    timm_backbone.inspect_backbone.cache_clear()
    rewrite(saved, lambda d: d["arguments"].update(backbone=backbone))
    refused(saved, r"does not fit its architecture: it (lacks|holds|has) ")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"backbone": "no_such_backbone"}, "unknown backbone"),
        ({"backbone": 5}, "expected a name"),
        ({"backbone": "vit_base_patch16_224"}, "does not fit its architecture: it lacks 'features"),
        ({"in_channels": 10**9}, "names 3 bands of uint8 .* for a network of in_channels 1000000000"),
        ({"in_channels": "three"}, "input channels"),
        ({"in_channels": True}, "input channels"),
    ],
)
def test_impossible_arguments_are_one_line(saved, arguments, complaint):
    rewrite(saved, lambda d: d["arguments"].update(arguments))
    refused(saved, complaint)


@pytest.mark.parametrize(
    "history",
    [5, "a", {"loss": 1}, [5], ["loss"], [[1, 2]], [{"loss": "x"}], [{"loss": None}], [{"loss": [1]}], [{"loss": True}], [{"loss": 1e301}]],
)
def test_a_history_that_is_no_list_of_numbers_is_refused(saved, history):
    rewrite(saved, lambda d: d["card"].update(history=history))
    refused(saved, "history")


def test_a_history_of_numbers_and_a_card_without_one_are_read(saved):
    assert Bundle.load(saved).card == {"epoch": 3}
    rewrite(saved, lambda d: d["card"].update(history=[{"epoch": 1, "loss": 0.5}, {}]))
    assert Bundle.load(saved).card["history"] == [{"epoch": 1, "loss": 0.5}, {}]


def test_an_ensembles_history_is_held_to_the_same(saved, tmp_path):
    bundle = Bundle.load(saved)
    folder = Ensemble((bundle, bundle)).save(tmp_path / "both")
    path = folder / "ensemble.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"card": {"history": [["x"]]}}))
    refused(folder, "history", Ensemble)


@pytest.mark.parametrize("name", ["bundle.json", "weights.safetensors"])
def test_a_file_that_may_not_be_read_is_not_said_to_be_missing(saved, name, monkeypatch):
    for owner, method in ((Path, "open"), (os, "open")):
        plain = getattr(owner, method)

        def refuse(path, *arguments, plain=plain, **values):
            if Path(path).name == name:
                raise PermissionError(13, "Permission denied")
            return plain(path, *arguments, **values)

        monkeypatch.setattr(owner, method, refuse)
    refused(saved, "cannot be read.*Permission denied")


def test_a_missing_weights_file_is(saved):
    (saved / "weights.safetensors").unlink()
    refused(saved, "lacks weights.safetensors")


def test_a_pipe_in_the_place_of_weights_is_not_waited_for(saved):
    (saved / "weights.safetensors").unlink()
    os.mkfifo(saved / "weights.safetensors")
    rewrite(saved, lambda d: d["weights"].update(bytes=0))
    refused(saved, "a pipe, a device or a socket")


def test_links_in_circles_are_one_line(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    refused(tmp_path / "a", "a'")
    with pytest.raises(ModelError, match=r"no weights file|cannot be read"):
        create_model("fcn32s", backbone="resnet10t", num_classes=2, weights=str(tmp_path / "a"))


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_carry_the_rights_that_the_user_gives_new_files(saved, tmp_path, mask, mode):
    bundle = Bundle.load(saved)
    before = os.umask(mask)
    try:
        folders = [bundle.save(tmp_path / "one"), Ensemble((bundle, bundle)).save(tmp_path / "both")]
    finally:
        os.umask(before)
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 2 + 1 + 2 * 2
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {oct(mode)}
