import json
import os
import shutil

import pytest
import torch
from torch import nn

from upscore import files
from upscore.errors import BundleError, OutputError
from upscore.models import bundle as bundle_module
from upscore.models import weights_file
from upscore.models.bundle import Bundle, find_bundle
from upscore.models.factory import create_model
from upscore.types import LabelSpace

LABELS = LabelSpace(("sky", "road", "tree"))
ARGUMENTS = {"backbone": "vgg16", "num_classes": 3, "width": 1 / 64}


def small(seed=0, **arguments):
    torch.manual_seed(seed)
    model = create_model("fcn8s", **ARGUMENTS | arguments)
    nn.init.normal_(model.decoder.score_fr.weight)
    return model


@pytest.fixture
def saved(tmp_path):
    return Bundle.of("fcn8s", ARGUMENTS, small(), LABELS, card={"epoch": 3}).save(tmp_path / "model")


def rewrite(folder, change):
    path = folder / "bundle.json"
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))


def refused(folder, complaint):
    with pytest.raises(BundleError, match=complaint) as error:
        Bundle.load(folder)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def test_a_bundle_is_two_files(saved):
    assert sorted(path.name for path in saved.iterdir()) == ["bundle.json", "weights.safetensors"]
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_later_training_changes_neither_bundle_nor_sibling():
    model = small()
    bundle = Bundle.of("fcn8s", ARGUMENTS, model, LABELS)
    one, other = bundle.build(), bundle.build()
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with torch.no_grad():
        for changed in (model, one):
            for parameter in changed.parameters():
                parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in bundle.build().state_dict().items())
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())


def test_building_gives_an_eval_network_that_can_be_trained():
    model = Bundle.of("fcn8s", ARGUMENTS, small(), LABELS).build()
    assert not any(module.training for module in model.modules())
    assert all(parameter.requires_grad and not parameter.is_meta for parameter in model.parameters())
    model(torch.rand(1, 3, 5, 5)).sum().backward()


def test_half_precision_networks_are_kept_in_single():
    model = small()
    bundle = Bundle.of("fcn8s", ARGUMENTS, small().bfloat16(), LABELS)
    assert {tensor.dtype for tensor in bundle.weights.values()} == {torch.float32}
    assert bundle.weights.keys() == model.state_dict().keys()


@pytest.mark.parametrize(("made", "told"), [("caffe", None), (None, "caffe"), ("imagenet", "raw")])
def test_a_network_that_sees_other_images_than_its_arguments_say_is_not_bundled(made, told):
    told = {} if told is None else {"normalization": told}
    with pytest.raises(BundleError, match="the network's normalization has bgr") as error:
        Bundle.of("fcn8s", ARGUMENTS | told, small(normalization=made), LABELS)
    assert "\n" not in str(error.value)


def test_a_runs_folder_gives_its_best(tmp_path):
    Bundle.of("fcn8s", ARGUMENTS, small(), LABELS, card={"which": "best"}).save(tmp_path / "run" / "best")
    assert Bundle.load(tmp_path / "run").card == {"which": "best"}


def test_a_bundle_is_found_where_it_should_be_written(tmp_path):
    """Also when its replacement was interrupted and it lies beside its place."""
    for place, given in ((tmp_path / "run" / "best", tmp_path / "run"), (tmp_path / "bundle", tmp_path / "bundle")):
        Bundle.of("fcn8s", ARGUMENTS, small(), LABELS).save(place)
        assert find_bundle(given) == find_bundle(str(place)) == place
        place.rename(place.with_name(f".{place.name}.replaced"))
        assert find_bundle(given) == place
    with pytest.raises(BundleError, match="no bundle"):
        find_bundle(tmp_path)


def test_weights_are_never_an_argument(saved):
    assert "weights" not in Bundle.of("fcn8s", ARGUMENTS | {"weights": "imagenet"}, small(), LABELS).arguments
    rewrite(saved, lambda d: d["arguments"].update(weights="/etc/passwd"))
    refused(saved, "other weights than its own")


@pytest.mark.parametrize(
    ("architecture", "arguments", "labels", "complaint"),
    [
        ("fcn8s", ARGUMENTS | {"num_classes": 2}, LABELS, "2 classes and 3 labels"),
        (
            "fcn8s",
            ARGUMENTS | {"num_classes": 2},
            LabelSpace(("a", "b")),
            "the network is not 'fcn8s' with the given arguments: it has 'decoder.score_fr.weight'",
        ),
        ("fcn16s", ARGUMENTS, LABELS, "holds 'decoder.score_pool3.weight'"),
        ("fcn9s", ARGUMENTS, LABELS, "unknown model 'fcn9s'"),
    ],
)
def test_what_does_not_belong_together_is_not_bundled(architecture, arguments, labels, complaint):
    with pytest.raises(BundleError, match=complaint):
        Bundle.of(architecture, arguments, small(), labels)


@pytest.mark.parametrize("card", [{"loss": float("nan")}, {"tensor": torch.zeros(1)}, {"path": os}])
def test_cards_hold_json(card):
    with pytest.raises(BundleError, match="what JSON cannot hold"):
        Bundle.of("fcn8s", ARGUMENTS, small(), LABELS, card=card)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda d: d.update(surprise=1), "surprise: Extra inputs are not permitted"),
        (lambda d: d.pop("labels"), "labels: Field required"),
        (lambda d: d.update(format="other"), "format"),
        (lambda d: d.update(version=4), "format version 4, expected 3: a newer upscore"),
        (lambda d: d.update(version=1, settled=True), "format version 1, an earlier form, expected 3: train or export it again"),
        (lambda d: d["labels"]["names"].append("more"), "palette"),
        (lambda d: d["labels"].update(names=["a", "a", "b"]), "given 2 times"),
        (lambda d: d["labels"].update(names=["a"], palette=[[0, 0, 0]]), "1 classes for a network of 3"),
        (lambda d: d["labels"].update(palette=[[0, 0, 999]] * 3), "palette colour"),
        (lambda d: d.update(architecture="fcn8"), "unknown model 'fcn8'"),
        (lambda d: d.update(architecture="__import__('os')"), "unknown model"),
        (lambda d: d["arguments"].update(backbone="hf-hub:someone/else"), "unknown backbone"),
        (lambda d: d["arguments"].update(backbone="local-dir:/etc"), "unknown backbone"),
        (lambda d: d["arguments"].update(backbone=7), "found backbone 7, expected a name"),
        (lambda d: d["arguments"].update(width=1e9), "found width"),
        (lambda d: d["arguments"].update(width=4), "does not fit its architecture"),
        (lambda d: d["arguments"].update(width="wide"), "found width 'wide'"),
        (lambda d: d["arguments"].update(in_channels=10**15), "names 3 bands of uint8 .* for a network of in_channels 10"),
        (lambda d: d["arguments"].update(padding=10**9), "found padding"),
        (lambda d: d["arguments"].update(padding=99.5), "found padding 99.5"),
        (lambda d: d["arguments"].update(surprise=1), "takes no argument 'surprise'"),
        (lambda d: d["arguments"].update(trunk="x"), "takes no argument 'trunk'"),
        (lambda d: d["arguments"].update(name="fcn8s"), "do not make a network"),
        (lambda d: d["arguments"].update(width=[1]), "arguments.width"),
        (lambda d: d.update(inference=[]), "inference"),
        (
            lambda d: d["inference"].update(tile=0),
            "cannot be used: the inference settings cannot be used: inference setting 'tile': found 0",
        ),
        (lambda d: d["inference"].update(crf={"on": True}), "inference setting 'crf.on'"),
        (lambda d: d["weights"].update(sha256="0" * 64), "SHA-256 differs"),
        (lambda d: d["weights"].update(bytes=1), "expected 1: it is incomplete"),
        (lambda d: d["weights"].update(file="/etc/passwd"), "weights.file"),
    ],
)
def test_altered_descriptions_are_refused(saved, change, complaint):
    rewrite(saved, change)
    refused(saved, complaint)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00", '{"format": ' + "[" * 100_000 + "]" * 100_000 + "}", "NaN"])
def test_descriptions_that_are_none_are_refused(saved, text):
    (saved / "bundle.json").write_text(text)
    refused(saved, "damaged or not a bundle's")


def test_enormous_descriptions_are_not_read(saved):
    with (saved / "bundle.json").open("wb") as file:
        file.truncate(2**34)
    refused(saved, "expected at most")


def test_hostile_width_allocates_nothing(saved, monkeypatch):
    monkeypatch.setattr(weights_file, "load_file", lambda _: pytest.fail("tensors were read"))
    rewrite(saved, lambda d: d["arguments"].update(width=4))
    refused(saved, "has 'backbone.conv1_1.weight' of shape")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda w: w.pop("decoder.score_fr.bias"), "lacks 'decoder.score_fr.bias'"),
        (lambda w: w.update(surprise=torch.zeros(1)), "holds 'surprise', which the network has not"),
        (lambda w: w.update({"decoder.score_fr.bias": torch.zeros(4)}), r"has 'decoder.score_fr.bias' of shape \(4,\), expected \(3,\)"),
        (
            lambda w: w.update({"decoder.score_fr.bias": torch.zeros(3).double()}),
            "has 'decoder.score_fr.bias' of type torch.float64, expected torch.float32",
        ),
    ],
)
def test_weights_of_another_network_are_refused(saved, change, complaint):
    from safetensors.torch import load_file, save_file

    path = saved / "weights.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)
    rewrite(saved, lambda d: d["weights"].update(bytes=path.stat().st_size))
    refused(saved, complaint)


def test_places_without_a_bundle(tmp_path, saved):
    refused(tmp_path / "absent", "there is no bundle")
    refused(tmp_path / ("x" * 300), "cannot be read|there is no bundle")
    refused(saved / "bundle.json", "is a file, expected a bundle")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "is no bundle")
    (saved / "weights.safetensors").unlink()
    refused(saved, "lacks weights.safetensors")


def test_saving_replaces_a_bundle_and_nothing_else(tmp_path, saved):
    Bundle.of("fcn8s", ARGUMENTS, small(1), LABELS, card={"epoch": 4}).save(saved)
    assert Bundle.load(saved).card == {"epoch": 4}
    (saved / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"is not a bundle .it holds 'notes.txt'. and is left as it is"):
        Bundle.load(saved).save(saved)
    assert (saved / "notes.txt").read_text() == "mine"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="is not a bundle"):
        Bundle.load(saved).save(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    Bundle.load(saved).save(tmp_path / "empty")


FALLIBLE = ["save_file", "digest_file", "write_document", "flush", "rename first", "rename second"]


@pytest.mark.parametrize("step", FALLIBLE)
def test_a_failed_save_leaves_the_old_bundle(saved, step, monkeypatch):
    newer = Bundle.of("fcn8s", ARGUMENTS, small(1), LABELS, card={"epoch": 4})
    calls = []

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    if step.startswith("rename"):
        real = type(saved).rename

        def rename(path, target):
            calls.append(path)
            if len(calls) == (1 if step == "rename first" else 2):
                fail()
            return real(path, target)

        monkeypatch.setattr(type(saved), "rename", rename)
    else:
        monkeypatch.setattr(files if step == "flush" else bundle_module, step, fail)
    with pytest.raises(OutputError, match="No space left on device") as error:
        newer.save(saved)
    monkeypatch.undo()
    assert "\n" not in str(error.value)
    assert Bundle.load(saved).card == {"epoch": 3}
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("step", FALLIBLE)
def test_a_killed_save_leaves_a_bundle(saved, step, monkeypatch):
    """Death at any moment: what is found afterwards is whole, old or new, and the next save cleans up."""

    class Killed(BaseException):
        pass

    real, calls = type(saved).rename, []

    def die(*_, **__):
        raise Killed

    def rename(path, target):
        calls.append(path)
        if len(calls) == (1 if step == "rename first" else 2):
            raise Killed
        return real(path, target)

    newer = Bundle.of("fcn8s", ARGUMENTS, small(1), LABELS, card={"epoch": 4})
    if step.startswith("rename"):
        monkeypatch.setattr(type(saved), "rename", rename)
    else:
        monkeypatch.setattr(files if step == "flush" else bundle_module, step, die)
    with pytest.raises(Killed):
        newer.save(saved)
    monkeypatch.undo()
    assert Bundle.load(saved).card == {"epoch": 3}
    newer.save(saved)
    assert Bundle.load(saved).card == {"epoch": 4}
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_no_rights(tmp_path, saved):
    if os.geteuid() == 0:
        (tmp_path / "blocked").write_text("a file where a folder should be")
        place = tmp_path / "blocked" / "model"
    else:
        (tmp_path / "blocked").mkdir(mode=0o500)
        place = tmp_path / "blocked" / "model"
    with pytest.raises(OutputError, match="cannot be written"):
        Bundle.load(saved).save(place)


def test_moved_bundles_work(tmp_path, saved):
    shutil.move(saved, tmp_path / "elsewhere")
    assert Bundle.load(tmp_path / "elsewhere").card == {"epoch": 3}
