"""Parts of a network that are not trained: weights and statistics stay bit for bit, whatever else the run does."""

import pytest
import torch
from safetensors.torch import load_file

from painting import small_recipe
from upscore.errors import RecipeError
from upscore.models.bundle import Bundle
from upscore.training import loop, run_state
from upscore.training.launch import train
from upscore.training.network_parts import longest_prefix, set_training_mode
from upscore.training.plan import plan
from upscore.training.resume import resume

ON_RESNET = {"model.backbone": "test_resnet", "model.arguments": {}, "model.freeze": ["backbone"]}


@pytest.mark.parametrize("also", [{}, {"run.average": 0.9, "run.precise_bn": 2}], ids=["plain", "averaged and measured"])
def test_frozen_parts_stay_and_the_others_learn(painted, tmp_path, also):
    values = ON_RESNET | {"model.name": "unet-backbone", "optimizer.weight_decay": 0.5} | also
    ready = plan(small_recipe(painted, tmp_path / "run", **values))
    before = {name: tensor.clone() for name, tensor in ready.model.state_dict().items()}
    assert any("running_mean" in name for name in before if name.startswith("backbone."))
    run = train(ready)
    for part in ("best", "last"):
        after = Bundle.load(run.folder / part).weights
        changed = {name for name in after if not torch.equal(after[name], before[name])}
        assert changed
        assert not [name for name in changed if name.startswith("backbone.")]
    held = {name for name in load_file(run.folder / "checkpoint.safetensors") if name.startswith("optimizer/")}
    assert held
    assert not [name for name in held if name.startswith("optimizer/backbone.")]


def test_a_run_with_frozen_parts_is_resumed_bit_for_bit(painted, tmp_path, monkeypatch):
    whole = train(small_recipe(painted, tmp_path / "whole", **ON_RESNET))
    monkeypatch.setattr(loop, "MIN_INTERVAL", 0)
    with monkeypatch.context() as patch:
        steps, plain = iter(range(100)), run_state.lr_factor

        def broken(*args, **values):
            if next(steps) > 5:
                raise MemoryError
            return plain(*args, **values)

        patch.setattr(run_state, "lr_factor", broken)
        with pytest.raises(Exception, match="memory"):
            train(small_recipe(painted, tmp_path / "broken", **ON_RESNET))
    again = resume(tmp_path / "broken")
    ours, theirs = (load_file(run.folder / "checkpoint.safetensors") for run in (whole, again))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_frozen_parts_are_in_evaluation_mode_while_the_others_train():
    model = torch.nn.ModuleDict({"backbone": torch.nn.ModuleDict({"norm": torch.nn.BatchNorm2d(2)}), "backbone2": torch.nn.Dropout()})
    set_training_mode(model, frozen=["backbone"])
    assert not model["backbone"]["norm"].training
    assert model["backbone2"].training
    set_training_mode(model, frozen=[])
    assert model["backbone"]["norm"].training


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model.freeze": ["backbon"]}, r"model\.freeze: the network has no part 'backbon' \(did you mean 'backbone'\?\); its parts are"),
        ({"model.freeze": ["backbone", "decoder"]}, "leaves nothing to train"),
        ({"optimizer.lr_factors": {"backbone": 0.1}}, "which is frozen"),
        ({"run.precise_bn": 2}, r"no batch normalisation to measure outside of model\.freeze"),
    ],
)
def test_what_freezing_cannot_mean_is_refused_before_anything_is_written(painted, tmp_path, values, words):
    with pytest.raises(RecipeError, match=words) as caught:
        plan(small_recipe(painted, tmp_path / "run", **ON_RESNET | values))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_prefixes_end_where_names_do():
    assert longest_prefix("backbone2.weight", ["backbone"]) is None
    assert longest_prefix("backbone", ["backbone"]) == "backbone"
