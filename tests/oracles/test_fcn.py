"""FCN against the reference release's network, written out with plain operations and its published numbers."""

import pytest
import torch
import torch.nn.functional as F

from upscore.input_spec import InputSpec
from upscore.models.factory import create_model


def caffe_bilinear(kernel):
    """The filler of the reference release: one bilinear kernel."""
    reach = (kernel + 1) // 2
    centre = reach - 1 if kernel % 2 == 1 else reach - 0.5
    line = torch.tensor([1 - abs(i - centre) / reach for i in range(kernel)], dtype=torch.float64)
    return line[:, None] * line[None, :]


def dense_deconv(x, kernel, stride):
    """A full K×K-channel transposed convolution with the filler on its diagonal, as in Caffe."""
    classes = x.shape[1]
    weight = torch.zeros(classes, classes, kernel, kernel, dtype=x.dtype)
    for k in range(classes):
        weight[k, k] = caffe_bilinear(kernel)
    return F.conv_transpose2d(x, weight, stride=stride)


def crop(x, offset, like):
    assert offset + like.shape[-2] <= x.shape[-2]
    assert offset + like.shape[-1] <= x.shape[-1]
    return x[:, :, offset : offset + like.shape[-2], offset : offset + like.shape[-1]]


def caffe_pool(x):
    return F.max_pool2d(x, 2, 2, ceil_mode=True)


def reference(state, images, *, skips, pool4_scale=1.0, pool3_scale=1.0, after_convolution=False):
    """net.py of voc-fcn32s, 16s and 8s (``skips`` 0, 1 and 2), layer by layer; or with conv5_3 and conv4_3 in place of pool4 and pool3."""

    def conv(x, name, pad):
        return F.relu(F.conv2d(x, state[f"backbone.{name}.weight"], state[f"backbone.{name}.bias"], padding=pad))

    def score(x, name):
        return F.conv2d(x, state[f"decoder.{name}.weight"], state[f"decoder.{name}.bias"])

    blue_first = images.flip(1) * 255
    x = blue_first - torch.tensor([104.00699, 116.66877, 122.67892], dtype=x_dtype(images)).view(1, 3, 1, 1)
    x = caffe_pool(conv(conv(x, "conv1_1", 100), "conv1_2", 1))
    x = caffe_pool(conv(conv(x, "conv2_1", 1), "conv2_2", 1))
    pool3 = caffe_pool(conv(conv(conv(x, "conv3_1", 1), "conv3_2", 1), "conv3_3", 1))
    conv4_3 = conv(conv(conv(pool3, "conv4_1", 1), "conv4_2", 1), "conv4_3", 1)
    pool4 = caffe_pool(conv4_3)
    conv5_3 = conv(conv(conv(pool4, "conv5_1", 1), "conv5_2", 1), "conv5_3", 1)
    pool5 = caffe_pool(conv5_3)
    if after_convolution:
        pool4, pool3 = conv5_3, conv4_3
    score_fr = score(conv(conv(pool5, "fc6", 0), "fc7", 0), "score_fr")
    if skips == 0:
        return crop(dense_deconv(score_fr, 64, 32), 19, images)
    upscore2 = dense_deconv(score_fr, 4, 2)
    fuse_pool4 = upscore2 + crop(score(pool4 * pool4_scale, "score_pool4"), 5, upscore2)
    if skips == 1:
        return crop(dense_deconv(fuse_pool4, 32, 16), 27, images)
    upscore_pool4 = dense_deconv(fuse_pool4, 4, 2)
    fuse_pool3 = upscore_pool4 + crop(score(pool3 * pool3_scale, "score_pool3"), 9, upscore_pool4)
    return crop(dense_deconv(fuse_pool3, 16, 8), 31, images)


def x_dtype(x):
    return x.dtype


def randomised(name, **arguments):
    torch.manual_seed(0)
    model = create_model(name, num_classes=4, width=1 / 32, normalization="caffe", **arguments).double().eval()
    for layer in model.decoder.children():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.normal_(layer.weight)
            torch.nn.init.normal_(layer.bias)
    return model


NETS = [
    ("fcn32s", {"skips": 0}),
    ("fcn16s", {"skips": 1}),
    ("fcn8s", {"skips": 2}),
    ("fcn8s-atonce", {"skips": 2, "pool4_scale": 0.01, "pool3_scale": 0.0001}),
]


@pytest.mark.parametrize(("name", "arguments"), NETS)
@pytest.mark.parametrize("size", [(1, 1), (37, 50), (96, 33), (64, 95)])
def test_equals_the_reference_release(name, arguments, size):
    model = randomised(name)
    images = torch.rand(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        expected = reference(model.state_dict(), images, **arguments)
        found = model(images)
    assert expected.std() > 0
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize(("name", "count"), [("fcn16s", 1), ("fcn8s", 2)])
@pytest.mark.parametrize("size", [(1, 1), (37, 50), (96, 33)])
def test_equals_the_same_network_with_skips_from_the_convolutions(name, count, size):
    model = randomised(name, skips="convolution")
    images = torch.rand(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        expected = reference(model.state_dict(), images, skips=count, after_convolution=True)
        torch.testing.assert_close(model(images), expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize(("name", "last"), [("fcn16s", (32, 16, 27)), ("fcn8s", (16, 8, 31))])
def test_full_kernels_are_caffes_deconvolutions_over_all_classes(name, last):
    """The CVPR paper's deploy files: score2 has full kernels and a bias, score4 full kernels, and the last step is bilinear."""
    model = randomised(name, upsampling="full")
    torch.nn.init.normal_(model.decoder.upscore2.weight)
    torch.nn.init.normal_(model.decoder.upscore2.bias)
    images = torch.rand(1, 3, 45, 70, dtype=torch.float64)
    with torch.no_grad():
        levels = model.backbone(model.normalization(images))
        decoder = model.decoder
        x = F.conv_transpose2d(decoder.score_fr(levels[32]), decoder.upscore2.weight, decoder.upscore2.bias, stride=2)
        x = x + crop(decoder.score_pool4(levels[16]), 5, x)
        if name == "fcn8s":
            torch.nn.init.normal_(decoder.upscore_pool4.weight)
            x = F.conv_transpose2d(x, decoder.upscore_pool4.weight, stride=2)
            x = x + crop(decoder.score_pool3(levels[8]), 9, x)
        expected = crop(dense_deconv(x, *last[:2]), last[2], images)
        torch.testing.assert_close(model(images), expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


def test_the_terms_of_a_network_with_a_bias_add_up():
    from upscore.explain.skip_contributions import split_logits

    model = randomised("fcn8s", upsampling="full")
    torch.nn.init.normal_(model.decoder.upscore2.bias)
    images = torch.rand(1, 3, 45, 70, dtype=torch.float64)
    with torch.no_grad():
        expected = model(images)
    torch.testing.assert_close(sum(split_logits(model, images).values()), expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("upsampling", ["learned", "full"])
def test_learned_upsampling_starts_as_the_frozen_one(upsampling):
    frozen, learned = randomised("fcn8s"), randomised("fcn8s", upsampling=upsampling)
    learned.load_state_dict(frozen.state_dict(), strict=False)
    images = torch.rand(1, 3, 45, 70, dtype=torch.float64)
    torch.testing.assert_close(learned(images), frozen(images), rtol=1e-6, atol=1e-5)


def test_finer_net_with_zero_skips_is_the_coarser_one_interpolated_in_steps():
    from upscore.models.weights.transplant import start_from

    coarse = randomised("fcn32s")
    images = torch.rand(1, 3, 90, 61, dtype=torch.float64)
    with torch.no_grad():
        scores = coarse.decoder.score_fr(coarse.backbone(coarse.normalization(images))[32])
        for name, steps, offset in (("fcn16s", [(4, 2), (32, 16)], 27), ("fcn8s", [(4, 2), (4, 2), (16, 8)], 31)):
            finer = create_model(name, num_classes=4, width=1 / 32, normalization="caffe").double().eval()
            start_from(finer, coarse.state_dict())
            expected = scores
            for kernel, stride in steps:
                expected = dense_deconv(expected, kernel, stride)
            expected = crop(expected, offset, images)
            torch.testing.assert_close(finer(images), expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize(("name", "final"), [("fcn32s", 19), ("fcn16s", 27), ("fcn8s", 31)])
def test_crops_are_the_papers(name, final):
    with torch.device("meta"):
        model = create_model(name, num_classes=21)
    assert model.crop == (final, final)
    if name != "fcn32s":
        assert (model.decoder.at_pool4.crop, model.decoder.at_pool4.kernel, model.decoder.at_pool4.offset) == (5, 4, None)
    if name == "fcn8s":
        assert (model.decoder.at_pool3.crop, model.decoder.at_pool3.kernel, model.decoder.at_pool3.offset) == (9, 4, None)


@pytest.mark.parametrize(
    ("backbone", "size", "on_corners"),
    [("mobilenetv2_035", (97, 129), True), ("convnext_atto", (96, 128), False), ("regnetx_002", (65, 33), True)],
)
def test_modern_backbones_equal_plain_interpolation(backbone, size, on_corners):
    """On sizes that cells cover: odd backbones as torch interpolates between corners, even ones between pixel edges."""
    torch.manual_seed(0)
    model = create_model("fcn8s", backbone=backbone, num_classes=4).double().eval()
    for score in (model.decoder.score_fr, model.decoder.score_pool4, model.decoder.score_pool3):
        torch.nn.init.normal_(score.weight)
    images = torch.rand(1, 3, *size, dtype=torch.float64)

    def interpolate(x, to):
        return F.interpolate(x, size=to, mode="bilinear", align_corners=on_corners)

    with torch.no_grad():
        levels = model.backbone(model.normalization(images))
        y = model.decoder.score_fr(levels[32])
        for stride, score in ((16, model.decoder.score_pool4), (8, model.decoder.score_pool3)):
            y = interpolate(y, levels[stride].shape[-2:]) + score(levels[stride])
        expected = interpolate(y, size)
        found = model(images)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize(("name", "arguments"), NETS[:3])
@pytest.mark.parametrize("size", [(1, 1), (37, 50)])
def test_two_heads_equal_the_release_of_sift_flow(name, arguments, size):
    """siftflow-fcn{32,16,8}s/net.py: the layers of a head end in _sem or _geo, all others are shared."""
    model = randomised(name, second_head="sky, horizontal, vertical")
    images = torch.rand(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        for found, classes in zip(model(images, both=True), (slice(0, 4), slice(4, 7)), strict=True):
            state = {key: tensor[classes] if key.startswith("decoder.score") else tensor for key, tensor in model.state_dict().items()}
            expected = reference(state, images, **arguments)
            assert expected.std() > 0
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("size", [(1, 1), (37, 50)])
def test_late_fusion_equals_the_release_of_nyud(size):
    """nyud-fcn32s-color-hha/net.py: colour is fed as BGR, HHA as it is stored, each minus the means of its bands."""
    mean = [value / 255 for value in (122.67892, 116.66877, 104.00699, 104.00699, 116.66877, 122.67892)]
    spec = InputSpec(("red", "green", "blue", "disparity", "height", "angle"), mean=tuple(mean), std=(1.0,) * 6)
    torch.manual_seed(0)
    model = create_model("fcn32s-late", num_classes=4, width=1 / 32, normalization="caffe", input=spec).double().eval()
    for stream in model.streams:
        torch.nn.init.normal_(stream.decoder.score_fr.weight)
        torch.nn.init.normal_(stream.decoder.score_fr.bias)
    images = torch.rand(2, 6, *size, dtype=torch.float64)
    fed = images[:, :3], images[:, 3:].flip(1)  # the reference reverses the bands of both
    with torch.no_grad():
        scores = [reference(stream.state_dict(), bands, skips=0) for stream, bands in zip(model.streams, fed, strict=True)]
        expected = 0.5 * scores[0] + 0.5 * scores[1]
        assert expected.std() > 0
        torch.testing.assert_close(model(images), expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))
