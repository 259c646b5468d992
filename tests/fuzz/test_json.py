"""What bundles, ensembles and boxes say of themselves, whatever that is: a value, or one line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.examples import NUMBERS, WORDS, altered, each_of, encoded, fuzz, taken_or_refused
from upscore.models.bundle import Bundle
from upscore.models.ensemble import Ensemble, EnsembleManifest
from upscore.models.factory import create_model
from upscore.models.manifest import Description, read_document
from upscore.proposals.cache import BoxFile
from upscore.settings import InferenceSettings
from upscore.types import LabelSpace

CHUNKS = encoded(
    (
        *NUMBERS, *WORDS, "[" * 2000, '{"a":' * 2000, "{", "}", "[", "]", ":", ",", '"', "null", "true", "-", "[]", "{}", '"\\ud800"',
        '"\\u0000"', '"\\u001b[2J"', '{"a": 1, "a": 2}', '"version": 3', '"x": 1,', "[[1, 2, 3, 4]]", '[["1", 2, 3, 4]]',
        "[[1e999, 0, 1, 1]]",
        "[[" + "9" * 400 + ", 0, 1, 1]]", "[null]", "[[null, 0, 1, 1]]", "[[[[[]]]]]", "/**/", "\ufeff",
    )
)  # fmt: skip
BOXES = json.dumps(
    {"a": {"size": [4, 6], "boxes": [[0, 0, 3, 2, 0.9], [1, 1, 6, 4, 0.5]]}, "b.png": {"size": [1, 1], "boxes": []}}
).encode()
JSON = st.one_of(st.binary(max_size=100), st.lists(st.sampled_from(CHUNKS), max_size=8).map(b"".join))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    labels = LabelSpace(("ground", "disc", "box"))
    arguments = {"num_classes": 3, "width": 0.0625}
    bundle = Bundle.of(
        "unet",
        arguments,
        create_model("unet", **arguments),
        labels,
        inference=InferenceSettings.from_stored({"flips": True}),
        card={"history": [{"epoch": 1}]},
    )
    together = Ensemble.of([bundle, bundle]).save(tmp_path_factory.mktemp("bundles") / "ensemble")
    (together / "bundle.json").write_bytes((together / "member-1" / "bundle.json").read_bytes())
    (together / "kept.json").write_bytes((together / "bundle.json").read_bytes())
    (together / "together.json").write_bytes((together / "ensemble.json").read_bytes())
    return together


@fuzz
@given(data=st.data())
def test_any_description_of_a_bundle(saved, data):
    kept = (saved / "kept.json").read_bytes()
    content = data.draw(st.one_of(altered(kept, CHUNKS), JSON))
    file = saved / "member-1" / "bundle.json"
    file.write_bytes(content)
    with taken_or_refused():
        description = read_document(file, Description)
        LabelSpace(tuple(description.labels.names), tuple(description.labels.palette))
        InferenceSettings.from_stored(description.inference)
        before = Description.model_validate_json(kept)
        if (description.architecture, description.arguments) == (before.architecture, before.arguments):
            Bundle.load(saved / "member-1")


@fuzz
@given(data=st.data())
def test_any_description_of_an_ensemble(saved, data):
    content = data.draw(st.one_of(altered((saved / "together.json").read_bytes(), CHUNKS), JSON))
    file = saved / "ensemble.json"
    file.write_bytes(content)
    (saved / "member-1" / "bundle.json").write_bytes((saved / "kept.json").read_bytes())
    with taken_or_refused():
        InferenceSettings.from_stored(read_document(file, EnsembleManifest).inference)
        Ensemble.load(saved)


@fuzz
@each_of(CHUNKS)
@each_of([b'{"a": {"size": [4, 6], "boxes": ' + chunk + b"}}" for chunk in CHUNKS])
@each_of([b'{"a": {"boxes": [], "size": ' + chunk + b"}}" for chunk in CHUNKS])
@given(content=st.one_of(altered(BOXES, CHUNKS), JSON))
def test_any_boxes(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "boxes.json"
    file.write_bytes(content)
    with taken_or_refused():
        boxes = BoxFile(file)
        for name in ("a", "b.png", "\x1b[2J" * 1000):
            with taken_or_refused():
                len(boxes.boxes(name, (4, 6)))
