"""fp16 with a scaled loss, and batch normalisation over several devices: what can be known of them without a GPU."""

import pytest
import torch
from safetensors.torch import load_file

from painting import small_recipe
from upscore.errors import RecipeError
from upscore.models.bundle import Bundle
from upscore.models.factory import create_model
from upscore.training import loop, run_state
from upscore.training import plan as planning
from upscore.training.launch import train
from upscore.training.plan import plan
from upscore.training.recipe import Recipe
from upscore.training.resume import resume
from upscore.training.sync_batch_norm import synchronized_twin

ON_RESNET = {"model.backbone": "test_resnet", "model.arguments": {}}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"run.precision": "fp16"}, r"run\.precision = fp16: its loss scaling is for cuda, found device cpu: use bf16 or fp32"),
        ({"run.sync_batch_norm": True, **ON_RESNET}, r"synchronises batch normalisation on cuda only, found cpu: leave it out"),
    ],
)
def test_what_needs_a_gpu_is_refused_without_one(painted, tmp_path, values, words):
    with pytest.raises(RecipeError, match=words):
        plan(small_recipe(painted, tmp_path / "run", **values))
    assert not (tmp_path / "run").exists()


class ScaledOnCPU(run_state.Accelerator):
    """An accelerator that scales the loss as for fp16, with a scale that grows after two good steps; it computes in float32."""

    def __init__(self, *, cpu, mixed_precision):
        assert (cpu, mixed_precision) == (True, "fp16")
        super().__init__(cpu=True, mixed_precision="no")
        self.scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)


def test_a_run_with_a_scaled_loss_is_resumed_bit_for_bit(painted, tmp_path, monkeypatch):
    """The scale, and the good steps since it changed, are part of the state."""
    monkeypatch.setattr(run_state, "Accelerator", ScaledOnCPU)
    monkeypatch.setattr(planning, "_check_machine", lambda *args: None)
    monkeypatch.setattr(loop, "MIN_INTERVAL", 0)
    seen = []

    def recording(*args, scaler, plain=run_state.write_checkpoint, **values):
        seen.append(scaler.state_dict())
        plain(*args, scaler=scaler, **values)

    monkeypatch.setattr(run_state, "write_checkpoint", recording)
    values = {"run.precision": "fp16", "optimizer.max_grad_norm": 0.5, "run.epochs": 3}
    whole = train(small_recipe(painted, tmp_path / "whole", **values))
    assert [(state["scale"], state["_growth_tracker"]) for state in seen] == [(8.0, 1), (32.0, 0), (64.0, 1)]  # after 3, 6, 9 steps
    with monkeypatch.context() as patch:
        steps, plain = iter(range(100)), run_state.lr_factor

        def broken(*args, **values):
            if next(steps) > 5:
                raise MemoryError
            return plain(*args, **values)

        patch.setattr(run_state, "lr_factor", broken)
        with pytest.raises(Exception, match="memory"):
            train(small_recipe(painted, tmp_path / "broken", **values))
    seen.clear()
    again = resume(tmp_path / "broken")
    assert (seen[-1]["scale"], seen[-1]["_growth_tracker"]) == (64.0, 1)
    ours, theirs = (load_file(run.folder / "checkpoint.safetensors") for run in (whole, again))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_network_trained_in_fp16_is_validated_and_saved_for_fp32(painted, tmp_path, monkeypatch):
    monkeypatch.setattr(run_state, "Accelerator", ScaledOnCPU)
    monkeypatch.setattr(planning, "_check_machine", lambda *args: None)
    run = train(small_recipe(painted, tmp_path / "run", **{"run.precision": "fp16", "run.epochs": 1}))
    bundle = Bundle.load(run.best)
    assert bundle.inference.precision == "fp32"
    assert bundle.card["metrics"]["policy"].endswith("The network computed in fp32.")
    assert Recipe.load(run.folder / "recipe.toml").run.precision == "fp16"


@pytest.mark.parametrize("backbone", ["test_resnet", "mobilenetv2_100"])
def test_a_synchronized_twin_computes_alike_and_shares_every_tensor(backbone):
    """timm's own batch normalisations hold their activation: it must survive."""
    torch.manual_seed(0)
    model = create_model("fcn8s", backbone=backbone, num_classes=3)
    for parameter in model.decoder.parameters():
        torch.nn.init.normal_(parameter)  # scores begin at zero, whatever the backbone computes
    twin = synchronized_twin(model)
    assert any(isinstance(module, torch.nn.SyncBatchNorm) for module in twin.modules())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in twin.modules())
    assert not any(isinstance(module, torch.nn.SyncBatchNorm) for module in model.modules())
    ours, theirs = (network.state_dict(keep_vars=True) for network in (model, twin))
    assert ours.keys() == theirs.keys()
    assert all(ours[name] is theirs[name] for name in ours)
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(model.eval()(images), twin.eval()(images))
    assert model(images).std() > 0
    expected = model.train()(images)  # alone, its statistics are those of plain batch normalisation
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(0)
    assert expected.shape == twin.train()(images).shape
    changed = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
    assert changed
    assert all("running" in name or "num_batches" in name for name in changed)  # training the twin trains the model


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_normalise_by_the_statistics_of_all_images(painted, tmp_path):
    """Each of two images a device alone has other statistics than the batch of them."""
    values = ON_RESNET | {"run.device": "cuda", "run.epochs": 1, "run.batch_size": 4, "optimizer.name": "sgd", "optimizer.lr": 0.05}
    whole = train(small_recipe(painted, tmp_path / "whole", **values, **{"run.devices": 1}))
    both = train(small_recipe(painted, tmp_path / "both", **values, **{"run.devices": 2, "run.sync_batch_norm": True}))
    for name, tensor in Bundle.load(whole.folder / "last").weights.items():
        torch.testing.assert_close(tensor, Bundle.load(both.folder / "last").weights[name], rtol=1e-2, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_fp16_learns_on_a_gpu(painted, tmp_path):
    values = ON_RESNET | {"run.device": "cuda", "run.devices": 1, "run.precision": "fp16", "run.epochs": 4}
    run = train(small_recipe(painted, tmp_path / "run", **values))
    assert run.progress.history[-1]["loss"] < run.progress.history[0]["loss"]
