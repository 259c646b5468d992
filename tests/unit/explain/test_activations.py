import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from upscore.errors import RecipeError
from upscore.explain.activations import occlude, record_activations, split_at_coarsest
from upscore.models.factory import create_model
from upscore.models.segnet import DECODER
from upscore.ops.unpool import max_pool, max_unpool

IMAGE = torch.rand(1, 3, 40, 56, generator=torch.Generator().manual_seed(0))
REGION = np.zeros((40, 56), bool)
REGION[10:25, 20:40] = True


def built(name, **arguments):
    torch.manual_seed(1)
    return create_model(name, num_classes=3, **arguments).eval()


def agree(record, expected):
    """Whether a record is this map (1, C, H, W): its chosen channels and its mean."""
    assert record.shape == expected.shape[1:]
    torch.testing.assert_close(torch.from_numpy(record.maps), expected[0, list(record.channels)])
    torch.testing.assert_close(torch.from_numpy(record.mean), expected[0].mean(0))


@torch.no_grad()
def test_segnets_maps_are_those_of_its_figure_computed_by_hand():
    model = built("segnet", width=1 / 16)
    expected, pooled = [], []
    x = model.normalization(IMAGE)
    for number in range(1, 6):
        if number > 1:
            expected.append((f"encoder.conv{number}", "pooled", x))
        x = model.encoder.get_submodule(f"conv{number}")(x)
        expected.append((f"encoder.conv{number}", "", x))
        size = x.shape[-2:]
        x, switches = max_pool(x)
        pooled.append((switches, tuple(size)))
    for number in range(5, 0, -1):
        x = max_unpool(x, *pooled.pop())
        expected.append((f"decoder.conv{number}_D", "unpooled", x))
        x = model.decoder.get_submodule(f"conv{number}_D")(x)
        expected.append((f"decoder.conv{number}_D", "", x))
    expected.append(("conv1_1_D", "", model(IMAGE)))
    records = record_activations(model, IMAGE, REGION)
    assert [(record.name, record.step) for record in records] == [(name, step) for name, step, _ in expected]
    for record, (_, _, x) in zip(records, expected, strict=True):
        agree(record, x)
    down, up = split_at_coarsest(records)
    assert [(up[0].name, up[0].step), up[-1].name] == [("encoder.conv5", "pooled"), "conv1_1_D"]
    assert down + up == records
    assert len(DECODER) == sum(record.step == "unpooled" for record in up)


@torch.no_grad()
def test_an_fcns_sums_are_seen_between_its_layers():
    model = built("fcn8s", width=1 / 32)
    for layer in (model.decoder.score_fr, model.decoder.score_pool4, model.decoder.score_pool3):
        nn.init.normal_(layer.weight, std=0.1)
    maps = model.backbone(model.normalization(IMAGE))
    upscore2, pool4 = model.decoder.at_pool4(model.decoder.score_fr(maps[32]), model.decoder.upscore2, maps[16])
    fuse_pool4 = upscore2 + model.decoder.score_pool4(pool4)
    fuse_pool3 = model.decoder(maps)
    records = {(record.name, record.step): record for record in record_activations(model, IMAGE, REGION)}
    for stride in (8, 16, 32):
        agree(records[f"backbone/{stride}", ""], maps[stride])
    agree(records["upscore_pool4", "added"], fuse_pool4)
    agree(records["upscore", "added"], fuse_pool3)
    agree(records["upscore", ""], model(IMAGE))
    assert list(records)[:4] == [("backbone/8", ""), ("backbone/16", ""), ("backbone/32", ""), ("score_fr", "")]


def test_a_unets_maps_are_concatenated_and_its_dropout_is_no_layer():
    records = record_activations(built("unet", width=1 / 32), IMAGE, REGION)
    concatenated = [record for record in records if record.step == "concatenated"]
    assert [record.name for record in concatenated] == [f"expanding.stage{n}" for n in (4, 3, 2, 1)]
    assert all(record.name != "dropout" for record in records)
    contracting = {record.name: record for record in records if record.step == ""}
    for record in concatenated:  # the contracting map, cropped, and as many channels doubled
        assert record.shape[0] == 2 * contracting[record.name.replace("expanding", "contracting")].shape[0]


class Painted(nn.Module):
    """Channel 0 is the same everywhere, 1 is bright where the image is red, 2 where it is not."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([[0.0, 0, 0], [1, 0, 0], [-1, 0, 0]])[..., None, None])
            self.layer.bias.copy_(torch.tensor([5.0, 0, 1]))

    def forward(self, images):
        return self.layer(F.pad(images, (30, 0, 0, 0)))[..., 30:]


def test_the_channel_that_fires_at_the_object_comes_first_even_in_a_map_that_is_shifted():
    images = torch.zeros(1, 3, 40, 56)
    images[0, 0, 10:25, 20:40] = 1
    (record,) = record_activations(Painted(), images, REGION)
    assert record.channels == (1, 0, 2)


def test_a_channel_can_be_chosen_and_what_cannot_be_is_said():
    model = built("segnet", width=1 / 16)
    first = {record.key: record.channels[0] for record in record_activations(model, IMAGE, REGION)}
    other = (first["decoder.conv3_D"] + 1) % 8
    records = record_activations(model, IMAGE, REGION, channels={"decoder.conv3_D": other})
    assert [record.channels[0] for record in records if record.key == "decoder.conv3_D"] == [other]
    assert all(len(set(record.channels)) == len(record.channels) for record in records)
    assert all(record.channels[0] == first[record.key] for record in records if record.key != "decoder.conv3_D")
    records = record_activations(model, IMAGE, REGION, channels={"decoder.conv3_D.unpooled": 13})  # 16 go in, 8 come out
    assert {record.key: record.channels[0] for record in records}["decoder.conv3_D.unpooled"] == 13
    with pytest.raises(RecipeError, match=r"did you mean 'decoder\.conv3_D'"):
        record_activations(model, IMAGE, REGION, channels={"decoder.conv3D": 0})
    with pytest.raises(RecipeError, match=r"channel 99 of 'decoder\.conv3_D', which has 8: expected 0 to 7"):
        record_activations(model, IMAGE, REGION, channels={"decoder.conv3_D": 99})
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_maps_are_kept_small():
    (record,) = record_activations(Painted(), torch.rand(1, 3, 40, 2000), np.ones((40, 2000), bool))
    assert record.shape == (3, 40, 2030)
    assert record.maps.shape == (3, 9, 440)
    assert record.mean.shape == (9, 440)


def test_painting_over_takes_the_mean_colour_and_leaves_the_rest():
    painted = occlude(IMAGE, REGION)
    inside = torch.from_numpy(REGION)
    torch.testing.assert_close(painted[..., ~inside], IMAGE[..., ~inside], rtol=0, atol=0)
    torch.testing.assert_close(painted[..., inside], IMAGE.mean((-2, -1))[..., None].expand(1, 3, int(inside.sum())))


def test_both_streams_of_a_late_fusion_are_recorded():
    model = create_model("fcn32s-late", num_classes=2, width=1 / 64)
    names = [record.key for record in record_activations(model, torch.rand(1, 3, 40, 50), np.ones((40, 50), bool))]
    streams = [f"streams.{i}.{part}" for i in range(2) for part in ("backbone/8", "backbone/16", "backbone/32", "decoder.score_fr")]
    assert names == [*streams, "upscore.added", "upscore"]
