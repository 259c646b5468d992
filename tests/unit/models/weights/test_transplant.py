"""Whole networks from others' files: ours, renamed to theirs, comes back bit for bit, and misfits are named."""

import numpy as np
import pytest
import torch
from torch import nn

from caffe_files import caffemodel, layers_of, matconvnet
from mat_bytes import mat_bytes
from upscore.errors import ModelError
from upscore.models.classifier import create_classifier
from upscore.models.factory import create_model
from upscore.models.weights.key_maps import (
    ALEXNET_TORCHVISION,
    GOOGLENET_CAFFE,
    GOOGLENET_TORCHVISION,
    VGG16_BN_TORCHVISION,
    VGG16_TORCHVISION,
)
from upscore.models.weights.transplant import holds_whole_network, normalization_of, transplant, transplant_encoder
from upscore.ops.upsample import bilinear_weights

K = 3
SMALL = {"num_classes": K, "width": 1 / 64}


def stirred(model):
    torch.manual_seed(0)
    for name, tensor in model.state_dict().items():
        if not name.startswith("normalization.") and tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    return model


def bilinear(kernel, factor, full=True):
    line = bilinear_weights(kernel, factor).float()
    return torch.outer(line, line) * (torch.eye(K)[:, :, None, None] if full else torch.ones(K, 1, 1, 1))


UPSCORES = {
    "fcn32s": {"upscore": (64, 32)},
    "fcn16s": {"upscore2": (4, 2), "upscore16": (32, 16)},
    "fcn8s": {"upscore2": (4, 2), "upscore_pool4": (4, 2), "upscore8": (16, 8)},
}


def theirs(name, model, *, full=True):
    """The state of a network as torchfcn and Caffe write it."""
    state = {
        key.removeprefix("backbone.").removeprefix("decoder."): tensor.clone()
        for key, tensor in model.state_dict().items()
        if "normalization" not in key
    }
    return state | {f"{layer}.weight": bilinear(*sizes, full=full) for layer, sizes in UPSCORES[name].items()}


def save(path, state, form="{}.{}"):
    arrays = layers_of({name: tensor.numpy() for name, tensor in state.items()})
    if path.suffix == ".pth":
        torch.save(state, path)
    elif path.suffix == ".caffemodel":
        path.write_bytes(caffemodel(arrays, version=1 if path.stem == "v1" else 2))
    elif path.suffix == ".mat":
        path.write_bytes(mat_bytes(matconvnet(arrays, dag=path.stem == "dag")))
    else:
        kinds = {"weight": "0", "bias": "1", "running_mean": "2", "running_var": "3"}
        np.savez(path, **{f"{k.rpartition('.')[0]}/{kinds[k.rpartition('.')[2]]}": tensor.numpy() for k, tensor in state.items()})
    return path


def assert_equal(model, other):
    own, state = model.state_dict(), other.state_dict()
    different = [name for name in own if not name.startswith("normalization.") and not torch.equal(own[name], state[name])]
    assert not different


@pytest.mark.parametrize("name", UPSCORES)
@pytest.mark.parametrize("file", ["w.pth", "w.npz", "v1.caffemodel", "w.caffemodel", "dag.mat"])
@pytest.mark.parametrize("full", [True, False])
def test_torchfcns_and_caffes_fcn(tmp_path, name, file, full):
    model = stirred(create_model(name, **SMALL))
    path = save(tmp_path / file, theirs(name, model, full=full))
    assert holds_whole_network(path)
    again = create_model(name, weights=path, **SMALL)
    assert_equal(model, again)
    assert (again.normalization.bgr, again.normalization.span) == (True, 255)
    assert not create_model(name, weights=path, normalization="imagenet", **SMALL).normalization.bgr


def test_fcn_alexnet(tmp_path):
    settings = {"backbone": "alexnet", **SMALL}
    model = stirred(create_model("fcn32s", **settings))
    state = {
        key.removeprefix("backbone.").removeprefix("decoder."): tensor
        for key, tensor in model.state_dict().items()
        if "normalization" not in key
    }
    path = save(tmp_path / "w.npz", state | {"upscore.weight": bilinear(63, 32)})
    again = create_model("fcn32s", weights=path, **settings)
    assert_equal(model, again)
    assert again.normalization.bgr


def test_learned_upsampling_is_taken_from_the_diagonal(tmp_path):
    model = stirred(create_model("fcn8s", upsampling="learned", **SMALL))
    state = theirs("fcn8s", model)
    for layer in ("upscore2", "upscore_pool4"):
        state[f"{layer}.weight"] = model.get_submodule(f"decoder.{layer}").weight.detach() * torch.eye(K)[:, :, None, None]
    path = save(tmp_path / "w.pth", state)
    assert_equal(model, create_model("fcn8s", weights=path, upsampling="learned", **SMALL))
    with pytest.raises(ModelError, match=r"hold a learned 'upscore2\.weight'.*upsampling='learned'"):
        create_model("fcn8s", weights=path, **SMALL)


def test_scales_of_the_network_at_once(tmp_path):
    model = stirred(create_model("fcn8s-atonce", **SMALL))
    scales = {"scale_pool3.weight": torch.tensor([0.0001]), "scale_pool4.weight": torch.tensor([0.01])}
    path = save(tmp_path / "w.npz", theirs("fcn8s", model) | scales)
    assert_equal(model, create_model("fcn8s-atonce", weights=path, **SMALL))
    with pytest.raises(ModelError, match=r"scale pool3 by 0\.0001, and this network by 1: choose 'fcn8s-atonce'"):
        create_model("fcn8s", weights=path, **SMALL)


def test_our_own_whole_file(tmp_path):
    model = stirred(create_model("fcn8s", normalization="caffe", **SMALL))
    torch.save(model.state_dict(), tmp_path / "w.pth")
    again = create_model("fcn8s", weights=tmp_path / "w.pth", **SMALL)
    assert_equal(model, again)
    assert again.normalization.bgr
    with pytest.raises(ModelError, match="trained with another normalization"):
        create_model("fcn8s", weights=tmp_path / "w.pth", normalization="imagenet", **SMALL)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda s: s.update({"upscore2.weight": torch.ones(K, K, 4, 4)}), r"mix classes in 'upscore2\.weight'"),
        (lambda s: s.update({"upscore2.weight": bilinear(4, 2) * 1.01}), r"hold a learned 'upscore2\.weight'"),
        (lambda s: s.update({"upscore2.weight": torch.ones(K, K, 3, 3)}), r"is \(3, 3, 3, 3\), expected \(3, 3, 4, 4\)"),
        (lambda s: s.pop("score_pool3.weight"), r"lacks 'decoder\.score_pool3\.weight'"),
        (lambda s: s.pop("conv3_2.bias"), r"lacks 'backbone\.conv3_2\.bias'"),
        (lambda s: s.update({"score9.weight": torch.ones(1)}), r"holds 'score9\.weight', which the network has not"),
        (
            lambda s: s.update({n: torch.zeros(21, *s[n].shape[1:]) for n in ("score_fr.weight", "score_fr.bias", "score_pool3.bias")}),
            r"has 'decoder\.score_fr\.weight' of shape \(21, 64, 1, 1\), expected \(3, 64, 1, 1\), 'decoder\.score_fr\.bias'"
            r".* and 1 more of other shapes",
        ),
        (
            lambda s: (s.pop("conv1_1.bias"), s.update({"fc6.weight": torch.zeros(2, 2)})),
            r"lacks 'backbone\.conv1_1\.bias'; has 'backbone\.fc6\.weight' of shape \(2, 2\)",
        ),
    ],
)
def test_whole_files_that_do_not_fit_are_one_line(tmp_path, change, complaint):
    state = theirs("fcn8s", create_model("fcn8s", **SMALL))
    change(state)
    with pytest.raises(ModelError, match=complaint) as error:
        create_model("fcn8s", weights=save(tmp_path / "w.pth", state), **SMALL)
    assert "\n" not in str(error.value)


def test_a_finer_networks_file_does_not_fit_a_coarser_one(tmp_path):
    path = save(tmp_path / "w.pth", theirs("fcn16s", create_model("fcn16s", **SMALL)))
    with pytest.raises(ModelError, match=r"holds 'score_pool4\.weight'"):
        create_model("fcn32s", weights=path, **SMALL)


CLASSIFIERS = [
    ("alexnet", {"variant": "torchvision"}, ALEXNET_TORCHVISION),
    ("vgg16", {}, VGG16_TORCHVISION),
    ("vgg16", {"batch_norm": True}, VGG16_BN_TORCHVISION),
    ("googlenet", {"variant": "torchvision"}, GOOGLENET_TORCHVISION),
    ("googlenet", {}, GOOGLENET_CAFFE),
    ("alexnet", {}, {}),
    ("vgg16", {}, {}),
]


def as_classifier_file(name, arguments, table, *, flat=True):
    """A classifier of ours, and its state under another's names."""
    model = stirred(create_classifier(name, num_classes=4, width=1 / 64, **arguments))
    names = {ours: theirs for theirs, ours in reversed(table.items())}
    state = {}
    for key, tensor in model.state_dict().items():
        layer, _, kind = key.removeprefix("backbone.").rpartition(".")
        if not layer.startswith("normalization") and key != "normalization.mean" and key != "normalization.std":
            state[f"{names.get(layer, layer)}.{kind}"] = (
                tensor.flatten(1) if flat and layer.startswith("fc") and tensor.ndim == 4 else tensor
            )
    return model, state


@pytest.mark.parametrize(("name", "arguments", "table"), CLASSIFIERS)
@pytest.mark.parametrize("file", ["w.pth", "w.npz", "v1.caffemodel", "w.caffemodel", "simple.mat"])
def test_classifiers_under_their_names(tmp_path, name, arguments, table, file):
    model, state = as_classifier_file(name, arguments, table, flat=file != "simple.mat")  # every layer there is a convolution
    state = {key: tensor for key, tensor in state.items() if file == "w.pth" or "num_batches" not in key}
    if file == "simple.mat" and any("running_mean" in key for key in state):
        pytest.skip("MatConvNet's batch normalisation is not read")
    path = save(tmp_path / file, state)
    assert not holds_whole_network(path)
    assert_equal(model, create_classifier(name, num_classes=4, width=1 / 64, weights=path, **arguments))
    network = create_model("fcn32s", backbone=name, weights=path, **SMALL, **arguments)
    assert_equal(model.backbone, network.backbone)
    papers = file != "w.pth" or table in ({}, GOOGLENET_CAFFE)
    assert network.normalization.bgr == papers
    assert normalization_of(path) == ("caffe" if papers else None)


def test_caffes_older_shapes(tmp_path):
    model, state = as_classifier_file("vgg16", {}, {})
    state = {name: t[None, None] if t.ndim == 2 else t[None, None, None] if t.ndim == 1 else t for name, t in state.items()}
    path = save(tmp_path / "w.npz", state)
    assert_equal(model.backbone, create_model("fcn8s", weights=path, **SMALL).backbone)


def test_caffes_vgg16_with_batch_norm(tmp_path):
    model, state = as_classifier_file("vgg16", {"batch_norm": True}, {})
    arrays = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        conv = layer.replace("bn", "conv")
        if not layer.startswith("bn"):
            arrays[f"{layer}/{'0' if kind == 'weight' else '1'}"] = tensor
        elif kind in ("weight", "bias"):
            arrays[f"{conv}/scale/{'0' if kind == 'weight' else '1'}"] = tensor
        elif kind != "num_batches_tracked":
            arrays[f"{conv}/bn/{'0' if kind == 'running_mean' else '1'}"] = tensor * 2
            arrays[f"{conv}/bn/2"] = torch.tensor([2.0])
    np.savez(tmp_path / "w.npz", **{name: tensor.numpy() for name, tensor in arrays.items()})
    found = create_model("fcn8s", weights=tmp_path / "w.npz", batch_norm=True, **SMALL).backbone.state_dict()
    own = model.backbone.state_dict()
    assert all(torch.equal(found[name], own[name]) for name in own if "num_batches" not in name)


@pytest.mark.parametrize("scalar", [torch.tensor(1.0), torch.ones(1, 1)])
def test_a_number_alone_is_a_bias_of_one_or_named(tmp_path, scalar):
    """Of a network so narrow that a layer has one channel; of any other it is of another shape."""
    state = dict(create_model("fcn8s", **SMALL).backbone.state_dict())
    state["conv1_1.bias"] = scalar
    path = save(tmp_path / "w.pth", state)
    assert create_model("fcn8s", weights=path, **SMALL).backbone.conv1_1.bias.tolist() == [1.0]
    state["conv3_1.bias"] = scalar
    with pytest.raises(ModelError, match=r"has 'conv3_1\.bias' of shape"):
        create_model("fcn8s", weights=save(tmp_path / "w.pth", state), **SMALL)


def test_plain_weights_for_a_normalised_backbone_name_what_is_missing(tmp_path):
    _, state = as_classifier_file("vgg16", {}, VGG16_TORCHVISION)
    with pytest.raises(ModelError, match=r"lacks 'bn1_1\.weight'"):
        create_model("fcn8s", weights=save(tmp_path / "w.pth", state), batch_norm=True, **SMALL)


def segnet():
    return create_model("segnet", num_classes=2, width=1 / 32, normalization="raw")


def deconvnet():
    return create_model("deconvnet", num_classes=2, width=1 / 64, normalization="caffe")


@pytest.mark.parametrize(("build", "says"), [(segnet, "raw"), (deconvnet, "caffe")])
@pytest.mark.parametrize("blobs", [2, 4])
@pytest.mark.parametrize("file", ["w.npz", "w.caffemodel"])
def test_segnets_and_deconvnets_names(tmp_path, build, says, blobs, file):
    model = stirred(build()).eval()
    hyphens = {"fc6_deconv": "fc6-deconv", "fc6_deconv_bn": "fc6-deconv-bn", "seg_score_voc": "seg-score-voc"}
    kinds = {"weight": "0", "bias": "1", "running_mean": "2", "running_var": "3"}
    arrays = {}
    for name, tensor in model.state_dict().items():
        layer, _, kind = name.rpartition(".")
        if kind in kinds and layer != "normalization" and int(kinds[kind]) < blobs:
            norm = isinstance(model.get_submodule(layer), nn.BatchNorm2d)
            short = layer.rpartition(".")[2]
            arrays[f"{hyphens.get(short, short)}/{kinds[kind]}"] = tensor.numpy().reshape((1, -1, 1, 1)) if norm else tensor.numpy()
    np.savez(tmp_path / "w.npz", **arrays)
    named = {f"{name[:-2]}.{list(kinds)[int(name[-1])]}": array for name, array in arrays.items()}
    (tmp_path / "w.caffemodel").write_bytes(caffemodel(layers_of(named), version=1))
    assert normalization_of(tmp_path / file) == says
    again = build().eval()
    transplant(again, tmp_path / file)
    if blobs == 4:
        assert_equal(model, again)
    for name, norm in again.named_modules():
        if isinstance(norm, nn.BatchNorm2d) and blobs == 2:
            x, own = torch.randn(1, norm.num_features, 4, 4), model.get_submodule(name)
            torch.testing.assert_close(norm(x), x * own.weight[:, None, None] + own.bias[:, None, None])


@pytest.mark.parametrize(("name", "width"), [("segnet", 1 / 32), ("deconvnet", 1 / 64)])
def test_encoders_start_from_vgg16(tmp_path, name, width):
    backbone = stirred(create_model("fcn32s", num_classes=2, width=width)).backbone.state_dict()
    theirs = {ours: foreign for foreign, ours in VGG16_TORCHVISION.items() if not foreign.startswith(("pre_logits", "head"))}
    state = {f"{theirs[layer.rpartition('.')[0]]}.{layer.rpartition('.')[2]}": tensor for layer, tensor in backbone.items()}
    state |= {"classifier.0.weight": state["classifier.0.weight"].flatten(1), "classifier.6.weight": torch.rand(1000, 2)}
    torch.manual_seed(0)
    before = create_model(name, num_classes=3, width=width).state_dict()
    torch.manual_seed(0)
    after = create_model(name, num_classes=3, width=width, weights=save(tmp_path / "w.pth", state)).state_dict()
    changed = {key for key in after if not torch.equal(after[key], before[key])}
    shared = {key for key in after if key.rpartition(".")[0].rpartition(".")[2] in theirs}
    assert changed == shared
    assert len(shared) == (26 if name == "segnet" else 30)
    for key in shared:
        assert torch.equal(after[key], backbone[".".join(key.split(".")[-2:])])


def test_encoders_refuse_what_does_not_fit():
    backbone = create_model("fcn32s", num_classes=2, width=1 / 32).backbone.state_dict()
    lacking = {name: tensor for name, tensor in backbone.items() if name != "conv1_1.bias"}
    with pytest.raises(ModelError, match=r"lacks '[^']*conv1_1\.bias'"):
        transplant_encoder(segnet(), lacking, source="w.pth")
    with pytest.raises(ModelError, match=r"has '[^']*conv1_1\.bias' of shape \(5,\)"):
        transplant_encoder(segnet(), backbone | {"conv1_1.bias": torch.rand(5)}, source="w.pth")


def test_names_that_tell_nothing(tmp_path):
    backbone = create_model("fcn32s", **SMALL).backbone
    path = save(tmp_path / "w.pth", dict(backbone.state_dict()))
    assert normalization_of(path) is None
    assert [normalization_of(name) for name in (None, "none", "imagenet")] == [None] * 3


CVPR = {"score_fr": "score-fr", "score_pool4": "score-pool4", "score_pool3": "score-pool3", "upscore2": "score2", "upscore_pool4": "score4"}
"""Layers in the deploy files of the CVPR paper's FCN-16s and FCN-8s, by their names here; the last upsampling is "upsample"."""


def cvprs(name, model):
    """The state of a network of full kernels as those files have it: a bias on score2 alone, and the last upsampling bilinear."""
    last = {"fcn16s": (32, 16), "fcn8s": (16, 8)}[name]
    state = {}
    for key, tensor in model.state_dict().items():
        layer, _, kind = key.removeprefix("backbone.").removeprefix("decoder.").rpartition(".")
        if "normalization" not in key:
            state[f"{CVPR.get(layer, layer)}.{kind}"] = tensor.clone()
    return state | {"upsample.weight": bilinear(*last)}


@pytest.mark.parametrize("name", ["fcn16s", "fcn8s"])
@pytest.mark.parametrize("file", ["w.pth", "w.npz"])
def test_the_cvpr_papers_full_kernels_come_back_and_are_refused_elsewhere(tmp_path, name, file):
    model = stirred(create_model(name, upsampling="full", **SMALL))
    assert "decoder.upscore2.bias" in model.state_dict()
    assert "decoder.upscore_pool4.bias" not in model.state_dict()
    path = save(tmp_path / file, cvprs(name, model))
    again = create_model(name, weights=path, upsampling="full", **SMALL)
    assert_equal(model, again)
    assert (again.normalization.bgr, again.normalization.span) == (True, 255)
    for upsampling in ("frozen", "learned"):
        with pytest.raises(ModelError, match=r"have a bias in 'score2', and this network's upsampling has none: .*upsampling='full'"):
            create_model(name, weights=path, upsampling=upsampling, **SMALL)
    state = cvprs(name, model)
    del state["score2.bias"]
    with pytest.raises(ModelError, match=r"mix classes in 'score2\.weight'.*upsampling='full'"):
        create_model(name, weights=save(tmp_path / f"unbiased{file}", state), upsampling="learned", **SMALL)


def test_the_releases_kernels_fit_a_network_of_full_ones(tmp_path):
    """They begin as the bilinear ones, with a bias of zero."""
    model = stirred(create_model("fcn8s", **SMALL))
    path = save(tmp_path / "w.pth", theirs("fcn8s", model))
    full = create_model("fcn8s", weights=path, upsampling="full", **SMALL).eval()
    images = torch.rand(1, 3, 40, 50)
    with torch.no_grad():
        expected, found = create_model("fcn8s", weights=path, **SMALL).eval()(images), full(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
