import math

import pytest
import torch

from upscore.errors import ModelError
from upscore.models.architectures import ARCHITECTURES
from upscore.models.backbones import OWN_BACKBONES
from upscore.models.factory import LISTED_BACKBONES, create_model, list_models
from upscore.models.fcn import FCN
from upscore.models.normalization import Normalization
from upscore.models.timm_backbone import inspect_backbone


@pytest.mark.parametrize(("name", "finest"), [("fcn32s", 32), ("fcn16s", 16), ("fcn8s", 8), ("fcn8s-atonce", 8)])
def test_names(name, finest):
    with torch.device("meta"):
        model = create_model(name, num_classes=3)
    assert isinstance(model.decoder, FCN)
    assert model.decoder.finest == finest
    assert model.num_classes == 3
    assert model(torch.empty(1, 3, 50, 40, device="meta")).shape == (1, 3, 50, 40)


def test_fcn32s_has_the_papers_number_of_parameters():
    with torch.device("meta"):
        model = create_model("fcn32s", num_classes=21)
    assert sum(p.numel() for p in model.parameters()) == 134_346_581


def test_only_score_layers_are_added_by_the_finer_nets():
    with torch.device("meta"):
        names = [set(create_model(name, num_classes=21).state_dict()) for name in ("fcn32s", "fcn16s", "fcn8s")]
    assert names[1] - names[0] == {"decoder.score_pool4.weight", "decoder.score_pool4.bias"}
    assert names[2] - names[1] == {"decoder.score_pool3.weight", "decoder.score_pool3.bias"}


def test_learned_upsampling_adds_the_intermediate_kernels_only():
    with torch.device("meta"):
        frozen, learned = (create_model("fcn8s", num_classes=21, upsampling=how).state_dict() for how in ("frozen", "learned"))
    assert {name: tuple(learned[name].shape) for name in set(learned) - set(frozen)} == {
        "decoder.upscore2.weight": (21, 1, 4, 4),
        "decoder.upscore_pool4.weight": (21, 1, 4, 4),
    }


def test_at_once_scales_pool4_and_pool3():
    torch.manual_seed(0)
    staged, at_once = (create_model(name, num_classes=2, width=1 / 32).eval() for name in ("fcn8s", "fcn8s-atonce"))
    for layer in (staged.decoder.score_fr, staged.decoder.score_pool4, staged.decoder.score_pool3):
        torch.nn.init.normal_(layer.weight)
    at_once.load_state_dict(staged.state_dict())
    with torch.no_grad():
        staged.decoder.score_pool4.weight.mul_(0.01)
        staged.decoder.score_pool3.weight.mul_(0.0001)
        x = torch.rand(1, 3, 40, 50)
        torch.testing.assert_close(at_once(x), staged(x))


def test_normalization_is_the_backbones_or_the_one_asked_for():
    def of(**arguments):
        return create_model("fcn32s", num_classes=2, width=1 / 64, **arguments).normalization

    assert torch.equal(of().mean, Normalization.imagenet().mean)
    assert of(normalization="caffe").bgr
    assert of(in_channels=1).mean.shape == of(in_channels=1, normalization="imagenet").mean.shape == (1, 1, 1)
    with pytest.raises(ModelError, match=r"unknown normalization 'cafe' \(did you mean 'caffe'\?\)"):
        of(normalization="cafe")
    with pytest.raises(ModelError, match="expected 3"):
        of(normalization="caffe", in_channels=1)


def test_images_of_other_channels():
    model = create_model("fcn16s", num_classes=2, width=1 / 64, in_channels=5).eval()
    assert model(torch.rand(2, 5, 33, 20)).shape == (2, 2, 33, 20)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"name": "fcn-8s"}, r"unknown model 'fcn-8s' \(did you mean 'fcn8s'\?\)"),
        ({"name": "x" * 500}, "unknown model 'xxx"),
        (
            {"widht": 0.5},
            r"no argument 'widht' \(did you mean 'width'\?\): expected upsampling, at_once, width, dropout, batch_norm, padding",
        ),
        ({"backbone": "resnet18", "width": 0.5}, r"'fcn8s' with backbone 'resnet18' takes no argument 'width': expected upsampling"),
        ({"name": "fcn32s", "upsampling": "learned"}, "no argument 'upsampling'"),
        ({"upsampling": "bilinear"}, "expected 'frozen', 'learned' or 'full'"),
        ({"name": "fcn8s-atonce", "at_once": False}, "no argument 'at_once'"),
        ({"at_once": "no"}, "expected true or false"),
        ({"num_classes": 0}, "found 0 classes"),
        ({"num_classes": 256}, "found 256 classes"),
        ({"in_channels": 0}, "found 0 input channels"),
        ({"in_channels": 10**9}, "input channels"),
        ({"backbone": "resnet81"}, r"unknown backbone 'resnet81' \(did you mean 'resnet18'\?\)"),
        ({"backbone": "vgg61"}, "did you mean"),
        ({"weights": "absent.pth"}, "no weights file at 'absent.pth'"),
        ({"name": "segnet", "backbone": "resnet18"}, "found backbone 'resnet18' for 'segnet', which has its own encoder: leave it out"),
        ({"name": "unet", "backbone": "resnet18"}, "leave it out: 'unet-backbone' takes one"),
        ({"name": "deconvnet", "num_classes": 256}, "found 256 classes"),
        ({"name": "unet", "num_classes": True}, "found True classes"),
        ({"name": "segnet-basic", "width": 0}, "found width 0, expected above 0"),
        ({"name": "deconvnet", "width": "narrow"}, "found width 'narrow'"),
        ({"name": "unet", "dropout": 1}, "found dropout 1, expected at least 0 and below 1"),
        ({"name": "unet", "upsampling": "learned"}, "'unet' takes no argument 'upsampling': expected width, dropout"),
        ({"name": "unet", "weights": "imagenet"}, "no ImageNet weights for 'unet'"),
        ({"name": "segnet", "width": 0.5, "weights": "imagenet"}, "no ImageNet weights for 'segnet' of another width"),
        ({"name": "segnet", "weights": "absent.npz"}, "no weights file at 'absent.npz'"),
        ({"name": "unet-backbone", "channels": 0}, "found 0 channels"),
        ({"name": "unet-backbone", "backbone": "levit_128s"}, "backbone 'levit_128s'"),
        ({"name": "sliding-window", "patch": 64}, "found patch 64, expected an odd number"),
        ({"name": "full-resolution", "depth": 0}, "found depth 0"),
    ],
)
def test_what_is_unknown_is_refused(arguments, complaint):
    with pytest.raises(ModelError, match=complaint) as error, torch.device("meta"):
        create_model(**{"name": "fcn8s", "num_classes": 2} | arguments)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_listing():
    rows = {(row.name, row.backbone): row for row in list_models(backbones=("vgg16", "mobilenetv2_100", "mobilenetv3_large_100"))}
    assert {name for name, _ in rows} == set(ARCHITECTURES)
    assert rows["fcn32s", "vgg16"].parameters == pytest.approx(134.346581)
    assert (rows["fcn8s", "vgg16"].stride, rows["fcn8s", "vgg16"].receptive_field) == (32, 404)
    assert rows["fcn8s", "mobilenetv2_100"].receptive_field == 491
    assert rows["fcn8s", "mobilenetv3_large_100"].receptive_field == math.inf


def test_the_list_shows_convolutions_attention_and_a_plain_transformer():
    listed = {backbone: inspect_backbone(backbone) for backbone in LISTED_BACKBONES if backbone not in OWN_BACKBONES}
    bounded = {name: info.levels[max(info.levels)].geometry.receptive_field < math.inf for name, info in listed.items()}
    assert {name for name, finite in bounded.items() if not finite} == {"pvt_v2_b0", "flexivit_small"}
    assert tuple(listed["flexivit_small"].levels) == (16,)


def test_whole_networks_have_rows_of_their_own():
    rows = {row.name: row for row in list_models(backbones=("vgg16",)) if not row.backbone}
    assert set(rows) == {"fcn32s-late", "deconvnet", "segnet", "segnet-basic", "unet", "sliding-window", "full-resolution"}
    assert rows["deconvnet"].parameters == pytest.approx(251.772245 + 0.033408)
    assert (rows["segnet"].stride, rows["unet"].stride) == (32, 16)


def test_a_network_for_grey_images_reads_the_luminance_of_colour():
    model = create_model("unet", num_classes=2, in_channels=1, width=1 / 32).eval()
    grey = torch.rand(1, 1, 20, 30)
    torch.testing.assert_close(model(grey.expand(-1, 3, -1, -1)), model(grey), rtol=1e-4, atol=1e-5)
    colour = torch.rand(1, 3, 20, 30)
    luminance = 0.299 * colour[:, :1] + 0.587 * colour[:, 1:2] + 0.114 * colour[:, 2:]
    torch.testing.assert_close(model(colour), model(luminance), rtol=1e-4, atol=1e-5)
    with pytest.raises(ModelError, match=r"found images of shape \(1, 2, 4, 4\)"):
        model(torch.rand(1, 2, 4, 4))


def test_weights_of_another_network_are_refused_in_one_line(tmp_path):
    path = tmp_path / "unet.pth"
    torch.save(create_model("unet", num_classes=2, width=1 / 32).state_dict(), path)
    for name, arguments in (("segnet", {"width": 1 / 32}), ("deconvnet", {"width": 1 / 32}), ("fcn8s", {"width": 1 / 32})):
        with pytest.raises(ModelError, match="do not fit this") as error:
            create_model(name, num_classes=2, weights=path, **arguments)
        assert "\n" not in str(error.value)


def test_a_whole_network_comes_back_from_its_own_file(tmp_path):
    for name in ("segnet", "deconvnet", "unet", "segnet-basic", "fcn32s-late"):
        model = create_model(name, num_classes=2, width=1 / 32)
        torch.save(model.state_dict(), tmp_path / f"{name}.pth")
        again = create_model(name, num_classes=2, width=1 / 32, weights=tmp_path / f"{name}.pth")
        assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in model.state_dict().items())
