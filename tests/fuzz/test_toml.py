"""Recipes and settings, whatever is in them: a recipe that can be written and read again, or one line."""

from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from fuzz.examples import NUMBERS, WORDS, altered, each_of, encoded, fuzz, taken_or_refused
from upscore.settings import InferenceSettings
from upscore.training.recipe import Recipe, describe_settings, parse_settings

VALID = b"""# a comment
[data]
path = "street"
[model]
name = "fcn8s"
arguments = { width = 0.5, in_channels = 3 }
[augment]
crop_size = [352, 480]
scale = [0.5, 2.0]
[loss.terms]
cross_entropy = 1.0
dice = 0.5
[optimizer]
lr = 1e-4
[run]
epochs = 20
validate_every = 0.5
tensorboard = false
[chosen]
"optimizer.lr" = "usual for AdamW"
"""

TEXTS = (
    *NUMBERS, *WORDS, "a." * 3000 + "a", '"a".' * 3000 + "a", "'a' . " * 3000 + "a", "[" * 2000, "{a = " * 2000, "[[a]]\n" * 500,
    "[a]\n[a]\n",
    "[a.b]\n[a]\nb = 1\n", "a = 1\na = 2\n", "'''", '"""', '"\\ud800"', '"\\u001b"', "[", "]", "[[", "]]", "{", "}", "=", ",", "#", "\n",
    "\r", "[run]\n", "[model]\n", "[loss]\n", "[x]\n", "epochs = ", "lr = ", "[1, 2]", "{a = 1}", "1979-05-27T07:32:00Z", "07:32:00",
    "[loss.terms]\n", "run.epochs = 3\n", "[model.arguments]\n",
)  # fmt: skip
CHUNKS = encoded(TEXTS)
NAMES = [name for name, _, _ in describe_settings()]


@fuzz
@each_of(CHUNKS)
@each_of([b"[run]\nepochs = " + chunk for chunk in CHUNKS])
@each_of([chunk + b" = 1" for chunk in CHUNKS])
@given(content=st.one_of(altered(VALID, CHUNKS), st.binary(max_size=200), st.lists(st.sampled_from(CHUNKS), max_size=12).map(b"".join)))
def test_any_recipe(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "altered.toml"
    file.write_bytes(content)
    with taken_or_refused():
        recipe = Recipe.load(file)
        assert len(recipe.digest()) == 16
        assert Recipe.parse(tomllib.loads(recipe.dumps())).digest() == recipe.digest()


SETTINGS = st.one_of(
    st.tuples(st.sampled_from([*NAMES, "model.arguments.width", "loss.terms.dice", "chosen.x", "run"]), st.sampled_from(TEXTS)),
    st.tuples(st.sampled_from(NAMES), st.text(max_size=40)),
    st.tuples(st.one_of(st.sampled_from(TEXTS), st.text(max_size=20)), st.sampled_from(TEXTS)),
).map("=".join)


@fuzz
@each_of(
    [("a." * 10**5 + "a=1"), "run.epochs=" + "9" * 5000, "data.path=0x" + "f" * 5000, "model.arguments." + "a." * 10**5 + "a=1", "=", ".="]
)
@given(setting=SETTINGS)
def test_any_setting_of_a_recipe(setting):
    with taken_or_refused():
        recipe = Recipe().with_values(parse_settings([setting]), source=f"--set {setting}")
        assert len(recipe.digest()) == 16


@fuzz
@given(
    values=st.dictionaries(
        st.sampled_from([*InferenceSettings.model_fields, "x"]),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(WORDS), st.builds(lambda: 16**5000)),
            lambda inner: st.one_of(
                st.lists(inner, max_size=4),
                st.dictionaries(st.sampled_from(["enabled", "max_proposals", "bilateral_sigma", *WORDS]), inner, max_size=4),
            ),
            max_leaves=8,
        ),
        max_size=3,
    )
)
def test_any_setting_of_inference(values):
    with taken_or_refused():
        InferenceSettings().with_overrides(**values)
    with taken_or_refused():
        InferenceSettings.from_stored(values)
