"""A run that starts from a network of other classes: all but its score layers is carried over, when asked."""

import pytest
import torch

from painting import paint, small_recipe
from upscore.errors import ModelError, RecipeError
from upscore.models.architectures import ARCHITECTURES, find_architecture
from upscore.models.bundle import Bundle
from upscore.models.factory import create_model, score_layers
from upscore.training.launch import train
from upscore.training.network import build_network
from upscore.training.plan import plan


@pytest.fixture(scope="module")
def earlier(painted, tmp_path_factory):
    return train(small_recipe(painted, tmp_path_factory.mktemp("runs") / "earlier", **{"run.epochs": 1}))


def renamed(tmp_path, names):
    data = paint(tmp_path / "renamed")
    text = data.read_text()
    start = text.index("names:")
    data.write_text(text[:start] + f"names: {names}\n")
    return data


@pytest.fixture
def other_names(tmp_path):
    return renamed(tmp_path, "[ground, circle, stripe]")


@pytest.fixture
def more_names(tmp_path):
    return renamed(tmp_path, "[ground, circle, stripe, cloud]")


def test_without_the_flag_the_error_names_it(earlier, other_names, tmp_path):
    with pytest.raises(ModelError, match="--new-classes"):
        plan(small_recipe(other_names, tmp_path / "run", **{"model.start_from": str(earlier.folder)}))


@pytest.mark.parametrize("data", ["other_names", "more_names"])
def test_with_it_everything_but_the_score_layers_is_kept_and_it_is_said(earlier, data, tmp_path, request):
    data = request.getfixturevalue(data)
    values = {"model.start_from": str(earlier.folder), "model.new_classes": True, "run.epochs": 1}
    ready = plan(small_recipe(data, tmp_path / "run", **values))
    assert any("gives everything but the score layers, which are newly initialised: decoder.score_fr" in note for note in ready.messages)
    before, begun = Bundle.load(earlier.folder).weights, build_network(ready.recipe, ready.census.labels).state_dict()
    plain = ready.recipe.with_values({"model.start_from": None, "model.new_classes": False})
    fresh = build_network(plain, ready.census.labels).state_dict()
    anew = {name for name in begun if "score" in name}
    assert anew
    for name, tensor in begun.items():
        assert torch.equal(tensor, (fresh if name in anew else before)[name]), name
    finished = train(ready)
    assert len(Bundle.load(finished.best).labels) == len(ready.census.labels)


def test_new_classes_without_a_network_to_start_from_is_an_option_that_does_nothing(painted, tmp_path):
    with pytest.raises(RecipeError, match="--start-from"):
        plan(small_recipe(painted, tmp_path / "run", **{"model.new_classes": True}))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_score_layers_are_those_that_depend_on_the_classes(name):
    arguments = {"backbone": "resnet10t"} if find_architecture(name).takes_backbone else {}
    named = score_layers(name, arguments)
    with torch.device("meta"):
        few, many = (create_model(name, **arguments, num_classes=count).state_dict() for count in (4, 7))
    assert named == {key for key in few if few[key].shape != many[key].shape}
    assert named
    assert len(named) < len(few) / 2
