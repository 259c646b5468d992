"""Several bundles in one folder: what is saved comes back, or nothing is read at all."""

import json
from dataclasses import replace

import pytest
import torch

from upscore.errors import BundleError, OutputError, RecipeError
from upscore.models.bundle import Bundle
from upscore.models.ensemble import Ensemble, find_model, load_model
from upscore.models.factory import create_model
from upscore.settings import InferenceSettings, ProposalSettings
from upscore.types import LabelSpace

LABELS = LabelSpace(("ground", "cat", "dog"))


def small(seed=0, labels=LABELS, **values):
    torch.manual_seed(seed)
    arguments = {"depth": 1, "width": 4}
    model = create_model("full-resolution", num_classes=len(labels), **arguments)
    return Bundle.of("full-resolution", arguments, model, labels, **values)


@pytest.fixture
def saved(tmp_path):
    together = Ensemble.of(
        [small(0, inference=InferenceSettings.from_stored({"proposals": {"max_proposals": 7}})), small(1)],
        inference=InferenceSettings.from_stored({"combine": "product"}),
    )
    together.save(tmp_path / "two")
    return tmp_path / "two"


def test_members_settings_and_card_come_back(saved):
    again = load_model(saved)
    assert isinstance(again, Ensemble)
    assert [one.inference for one in again.members] == [InferenceSettings(proposals=ProposalSettings(max_proposals=7)), InferenceSettings()]
    assert again.inference == InferenceSettings(combine="product")
    for seed, one in enumerate(again.members):
        assert all(torch.equal(tensor, one.weights[name]) for name, tensor in small(seed).weights.items())
    assert sorted(path.name for path in saved.iterdir()) == ["ensemble.json", "member-1", "member-2"]
    assert find_model(saved) == saved


def test_a_bundle_is_read_as_one(tmp_path):
    small().save(tmp_path / "one")
    assert isinstance(load_model(tmp_path / "one"), Bundle)


def test_an_ensemble_of_ensembles_is_one_of_their_members(saved):
    more = Ensemble.of([small(2), Ensemble.load(saved)])
    assert [one.inference.proposals for one in more.members] == [None, ProposalSettings(max_proposals=7), None]
    assert more.inference == InferenceSettings()


def test_an_ensemble_replaces_one_and_nothing_else(saved, tmp_path):
    Ensemble.of([small(3), small(4), small(5)]).save(saved)
    assert len(Ensemble.load(saved).members) == 3
    Ensemble.of([small(3)]).save(saved)
    assert not (saved / "member-2").exists()
    small().save(tmp_path / "one")
    with pytest.raises(OutputError, match="is not an ensemble"):
        Ensemble.of([small()]).save(tmp_path / "one")
    with pytest.raises(OutputError, match="is not a bundle"):
        small().save(saved)
    assert len(Ensemble.load(saved).members) == 1


def test_a_failed_save_leaves_the_old_one(saved, monkeypatch):
    real = Bundle.save

    def save(self, folder):
        if folder.name == "member-2":
            raise OutputError("no room")
        return real(self, folder)

    monkeypatch.setattr(Bundle, "save", save)
    with pytest.raises(OutputError, match="no room"):
        Ensemble.of([small(8), small(9)]).save(saved)
    assert len(Ensemble.load(saved).members) == 2
    assert [path.name for path in saved.parent.iterdir()] == ["two"]


def test_an_interrupted_replacement_is_found(saved):
    saved.rename(saved.with_name(".two.replaced"))
    assert len(load_model(saved).members) == 2


def test_different_classes_are_refused(tmp_path):
    others = small(labels=LabelSpace(("ground", "cat", "cow")))
    with pytest.raises(BundleError, match="classes differ"):
        Ensemble.of([small(), others])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(members=3), "lacks member-3"),
        (lambda d: d.update(members=17), "members: Input should be less than or equal to 16"),
        (lambda d: d.update(members="2"), "damaged or not a bundle's"),
        (lambda d: d.update(version=4), "a newer upscore made it"),
        (lambda d: d.update(version=1), "an earlier form, expected 3: train or export it again"),
        (lambda d: d.update(paths=["/etc"]), "paths: Extra inputs are not permitted"),
        (lambda d: d.pop("members"), "members: Field required"),
    ],
)
def test_an_altered_description_is_refused(saved, change, said):
    description = json.loads((saved / "ensemble.json").read_text())
    change(description)
    (saved / "ensemble.json").write_text(json.dumps(description))
    with pytest.raises(BundleError, match=said) as caught:
        load_model(saved)
    assert "\n" not in str(caught.value)


def test_a_damaged_member_is_named(saved):
    weights = saved / "member-2" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(BundleError, match="member-2"):
        load_model(saved)


def test_no_link_is_followed(saved, tmp_path):
    small(7).save(tmp_path / "elsewhere")
    (saved / "member-2").rename(tmp_path / "gone")
    (saved / "member-2").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="lacks member-2"):
        load_model(saved)


def test_one_network_is_asked_of_an_ensemble(saved):
    with pytest.raises(BundleError, match=r"is an ensemble, expected one network: take one of its members, such as '.*member-1'"):
        Bundle.load(saved)


def test_nothing_is_no_ensemble(tmp_path):
    with pytest.raises(BundleError, match="there is no bundle at"):
        load_model(tmp_path / "absent")
    with pytest.raises(BundleError, match="found 0 networks"):
        Ensemble.of([])
    with pytest.raises(BundleError, match="found 17 networks"):
        Ensemble(tuple([small()] * 17))
    with pytest.raises(BundleError, match="JSON cannot hold"):
        replace(Ensemble.of([small()]), card={"x": float("nan")}).save(tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_proposals_are_for_the_networks_that_use_some_or_else_for_the_first():
    def numbers(stored, **overrides):
        members = [small(seed, inference=InferenceSettings.from_stored({"proposals": given})) for seed, given in enumerate(stored)]
        resolved = Ensemble.of(members).resolve_settings(**overrides)
        used = [one.inference.proposals and one.inference.proposals.max_proposals for one in resolved.members]
        first = resolved.inference.proposals
        assert (first and first.max_proposals) == next((number for number in used if number), None)
        return used

    assert numbers([None, {"max_proposals": 7}, None]) == [None, 7, None]
    assert numbers([None, {"max_proposals": 7}, {"max_proposals": 8}], proposals=3) == [None, 3, 3]
    assert numbers([None, {"max_proposals": 7}], proposals=False) == [None, None]
    assert numbers([None, None], proposals=3) == [3, None]


def test_each_networks_crops_are_checked_under_the_scales_of_all():
    together = Ensemble.of([small(0), small(1, inference=InferenceSettings(proposals=ProposalSettings(batch_size=64)))])
    with pytest.raises(RecipeError, match=r"64 crops of 224×224 pixels at scale 4.* a batch_size of at most"):
        together.resolve_settings(scales=(0.5, 4))
