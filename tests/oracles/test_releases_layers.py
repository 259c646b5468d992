"""DeconvNet and SegNet as their prototxts list the layers, run one by one with PyTorch's plain functions; and SGD as Caffe's solver has it.

Files: HyeonwooNoh/DeconvNet@8c37ba3, training/001_stage_1/stage_1_train.prototxt; alexgkendall/SegNet-Tutorial@63b77a9,
Models/segnet_train.prototxt and segnet_basic_train.prototxt; the update is that of BVLC/caffe, src/caffe/solvers/sgd_solver.cpp.
"""

import pytest
import torch
import torch.nn.functional as F

from upscore.losses import pixel_cross_entropy
from upscore.models.factory import create_model
from upscore.training.optimizers import build_optimizer, update_weights
from upscore.training.recipe import Recipe

VGG16 = (
    "conv1_1 conv1_2 pool1 conv2_1 conv2_2 pool2 conv3_1 conv3_2 conv3_3 pool3 conv4_1 conv4_2 conv4_3 pool4 conv5_1 conv5_2 conv5_3 pool5"
)
DECONVNET = f"""{VGG16} fc6 fc7 fc6-deconv unpool5 deconv5_1 deconv5_2 deconv5_3 unpool4 deconv4_1 deconv4_2 deconv4_3
    unpool3 deconv3_1 deconv3_2 deconv3_3 unpool2 deconv2_1 deconv2_2 unpool1 deconv1_1 deconv1_2 seg-score-voc"""
SEGNET = f"""{VGG16} upsample5 conv5_3_D conv5_2_D conv5_1_D upsample4 conv4_3_D conv4_2_D conv4_1_D upsample3 conv3_3_D conv3_2_D conv3_1_D
    upsample2 conv2_2_D conv2_1_D upsample1 conv1_2_D conv1_1_D"""
SEGNET_BASIC = """conv1 pool1 conv2 pool2 conv3 pool3 conv4 pool4 upsample4 conv_decode4 upsample3 conv_decode3 upsample2 conv_decode2
    upsample1 conv_decode1 conv_classifier"""


def norm_after(layer):
    """The name of the BN layer that follows a layer; none follows a score."""
    if layer in ("seg-score-voc", "conv1_1_D", "conv_classifier"):
        return None
    if layer.endswith("_D") or layer.startswith("conv_decode"):
        return f"{layer}_bn"
    if layer == "fc6-deconv":
        return "fc6-deconv-bn"
    return f"debn{layer.removeprefix('deconv')}" if layer.startswith("deconv") else f"bn{layer.removeprefix('conv')}"


def run(layers, blobs, x, *, pad, norm=norm_after, relu=lambda layer: True):
    """Run the layers of a prototxt. A layer is what its name says; ``blobs`` are those of our network by the release's names."""
    pooled = {}
    for layer in layers.split():
        if layer.startswith("pool"):
            size = x.shape[-2:]
            x, indices = F.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
            pooled[layer[-1]] = (indices, size)
            continue
        if layer.startswith(("unpool", "upsample")):
            indices, size = pooled[layer[-1]]
            x = F.max_unpool2d(x, indices, 2, 2, output_size=size)
            continue
        weight, bias = blobs[f"{layer}.weight"], blobs[f"{layer}.bias"]
        padding = pad if weight.shape[-1] == (7 if pad == 3 else 3) else 0
        convolve = F.conv_transpose2d if "deconv" in layer else F.conv2d
        x = convolve(x, weight, bias, padding=padding)
        if (name := norm(layer)) is None:
            continue
        mean, variance = (blobs[f"{name}.running_{kind}"].view(1, -1, 1, 1) for kind in ("mean", "var"))
        scale, shift = (blobs[f"{name}.{kind}"].view(1, -1, 1, 1) for kind in ("weight", "bias"))
        x = scale * (x - mean) / (variance + 1e-5).sqrt() + shift
        x = F.relu(x) if relu(layer) else x
    return x


def randomised(name, **arguments):
    torch.manual_seed(0)
    model = create_model(name, num_classes=4, width=1 / 64, **arguments).double().eval()
    for key, tensor in model.state_dict().items():
        if "running_mean" in key or key.endswith(".bias"):
            tensor.uniform_(-0.2, 0.2)
        elif "running_var" in key:
            tensor.uniform_(0.5, 1.5)
    for layer in model.modules():
        if isinstance(layer, torch.nn.ConvTranspose2d):
            torch.nn.init.kaiming_normal_(layer.weight)
    return model


def by_release_name(model, layers):
    """The tensors of a network by the last part of their layer's name, with the release's hyphens."""
    hyphened = {name.replace("-", "_"): name for name in (*layers.split(), "fc6-deconv-bn")}
    blobs = {}
    for key, tensor in model.state_dict().items():
        layer, _, kind = key.rpartition(".")
        short = layer.rpartition(".")[2]
        blobs[f"{hyphened.get(short, short)}.{kind}"] = tensor
    return blobs


def bgr(images, mean):
    return 255 * images.flip(1) - torch.tensor(mean, dtype=images.dtype).view(1, 3, 1, 1)


def assert_near(found, expected):
    assert expected.std() > 0
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


@torch.no_grad()
def test_deconvnet_equals_its_prototxt():
    model, images = randomised("deconvnet", normalization="caffe"), torch.rand(1, 3, 224, 224, dtype=torch.float64)
    x = bgr(images, (104.00699, 116.66877, 122.67892))
    assert_near(model(images), run(DECONVNET, by_release_name(model, DECONVNET), x, pad=1))


@torch.no_grad()
@pytest.mark.parametrize("size", [(45, 60), (64, 33)])
def test_segnet_equals_its_prototxt(size):
    model, images = randomised("segnet", normalization="raw"), torch.rand(2, 3, *size, dtype=torch.float64)
    x = bgr(images, (0, 0, 0))
    assert_near(
        model(images), run(SEGNET, by_release_name(model, SEGNET), x, pad=1, norm=lambda layer: norm_after(layer) and f"{layer}_bn")
    )


@torch.no_grad()
def test_segnet_basic_equals_its_prototxt():
    model, images = randomised("segnet-basic"), torch.rand(2, 3, 45, 60, dtype=torch.float64)
    x = F.local_response_norm(bgr(images, (0, 0, 0)), 5, alpha=1e-4, beta=0.75)
    found = run(
        SEGNET_BASIC,
        by_release_name(model, SEGNET_BASIC),
        x,
        pad=3,
        norm=lambda layer: norm_after(layer) and f"{layer}_bn",
        relu=lambda layer: "decode" not in layer,
    )
    assert_near(model(images), found)


def caffe_step(weight, gradient, velocity, *, lr, momentum, decay):
    """V = momentum V - lr (gradient + decay w); w = w + V."""
    velocity = momentum * velocity - lr * (gradient + decay * weight)
    return weight + velocity, velocity


MULTIPLIERS = {
    "fcn8s-voc": lambda layer, blob: (1, 1) if blob == 0 else (2, 0),
    "segnet-camvid": lambda layer, blob: (1, 1) if blob == 0 else (1, 0) if isinstance(layer, torch.nn.BatchNorm2d) else (2, 0),
}


@pytest.mark.parametrize("name", MULTIPLIERS)
def test_three_steps_are_caffes(name):
    """The recipe's optimiser, at a learning rate that moves the small network, beside Caffe's rule on a copy of it."""
    recipe = Recipe.load(name).with_values({"optimizer.lr": 1e-5 if name == "fcn8s-voc" else 0.1, "optimizer.weight_decay": 0.05})
    settings = recipe.optimizer
    torch.manual_seed(0)
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(create_model(recipe.model.name, num_classes=3, width=1 / 64, **recipe.model.arguments).double().train())
    ours, caffes = models
    for model in models:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    optimizer = build_optimizer(ours, settings)
    for group in optimizer.param_groups:
        group["lr"] = settings.lr * group["scale"]
    blobs = [(layer, blob, p) for layer in caffes.modules() for blob, p in enumerate(layer.parameters(recurse=False))]
    velocities = [torch.zeros_like(p) for _, _, p in blobs]
    start = [p.detach().clone() for p in ours.parameters()]
    for _ in range(3):
        images, labels = torch.rand(1, 3, 33, 20, dtype=torch.float64), torch.randint(3, (1, 33, 20))
        divisor = 1 if recipe.loss.normalize == "none" else labels.numel()
        for model in models:
            model.zero_grad()
            (pixel_cross_entropy(model(images).double(), labels) / divisor).backward()
        update_weights(optimizer)
        for i, (layer, blob, parameter) in enumerate(blobs):
            lr, decay = MULTIPLIERS[name](layer, blob)
            with torch.no_grad():
                moved, velocities[i] = caffe_step(
                    parameter,
                    parameter.grad,
                    velocities[i],
                    lr=settings.lr * lr,
                    momentum=settings.momentum,
                    decay=settings.weight_decay * decay,
                )
                parameter.copy_(moved)
    moved = max(float((p.detach() - before).abs().max()) for p, before in zip(ours.parameters(), start, strict=True))
    assert moved > 1e-3
    for p, q in zip(ours.parameters(), caffes.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
