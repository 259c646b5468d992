import numpy as np
import pytest
import torch
from torch import nn

from upscore.errors import DataError, ModelError, RecipeError
from upscore.localization.localizer import Localizer, box_around_peak
from upscore.models.classifier import create_classifier

NAMES = ("red", "green", "blue")


class Colours(nn.Module):
    """Averages each colour over the image, of cells of eight pixels: its cells' logits are known."""

    input_size = 32

    def __init__(self, gain=20.0):
        super().__init__()
        self.cells = nn.AvgPool2d(8)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(3, 3)
        with torch.no_grad():
            self.linear.weight.copy_(gain * torch.eye(3))
            self.linear.bias.copy_(torch.tensor([0.0, 0.5, 0.0]))

    def forward(self, images):
        return self.linear(self.average(self.cells(images)).flatten(1))


def scene(height=64, width=96):
    image = np.zeros((height, width, 3), np.uint8)
    image[16:48, 8:40, 0] = 255
    image[24:40, 64:88, 2] = 200
    return image


def test_scores_are_those_of_the_classifier_on_the_resized_image():
    found = Localizer(Colours(), NAMES, side=64).localize(scene())
    pixels = torch.from_numpy(scene()).permute(2, 0, 1)[None].float() / 255
    expected = Colours()(pixels).softmax(1)[0]
    assert found.classes[0].name == "red"
    for each in found.classes:
        assert each.score == pytest.approx(expected[each.label_class].item(), abs=1e-5)
        assert each.name == NAMES[each.label_class]
    assert sorted((each.score for each in found.classes), reverse=True) == [each.score for each in found.classes]


def test_boxes_are_where_the_classes_are():
    boxes = {each.name: each.box for each in Localizer(Colours(), NAMES, side=64, threshold=0.5).localize(scene()).classes}
    assert abs(np.array(boxes["red"]) - [8, 16, 40, 48]).max() <= 4  # half a cell
    assert abs(np.array(boxes["blue"]) - [64, 24, 88, 40]).max() <= 4


@pytest.mark.parametrize("scale", [2, 3])
def test_boxes_are_in_the_pixels_of_the_image_as_it_was_given(scale):
    small = Localizer(Colours(), NAMES, side=64, threshold=0.5).localize(scene())
    large = Localizer(Colours(), NAMES, side=64, threshold=0.5).localize(scene().repeat(scale, 0).repeat(scale, 1))
    for each, other in zip(small.classes, large.classes, strict=True):
        assert abs(scale * np.array(each.box) - other.box).max() <= scale
        assert other.score == pytest.approx(each.score, abs=1e-4)
    assert large.heat_maps.shape == (3, scale * 64, scale * 96)


def test_the_heat_at_a_cells_centre_is_its_logit_less_the_mean_of_all_classes():
    image = scene()
    found = Localizer(Colours(), NAMES, side=64).localize(image)
    logits = Colours()
    for row, column in ((3, 2), (0, 0), (4, 9), (7, 11)):
        cell = image[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        expected = logits(torch.from_numpy(cell).permute(2, 0, 1)[None].float() / 255)[0].detach().numpy()
        middle = found.heat_maps[:, 8 * row + 3 : 8 * row + 5, 8 * column + 3 : 8 * column + 5].mean((1, 2))
        for each, heat in zip(found.classes, middle, strict=True):
            # Around a centre, two interpolations of slopes that may differ by a logit or two a pixel.
            assert heat == pytest.approx(expected[each.label_class] - expected.mean(), abs=2.6)


def test_any_size_and_fewer_classes():
    localizer = Localizer(Colours(), NAMES, top=1)
    for height, width in ((1, 1), (5, 70), (200, 3)):
        found = localizer.localize(np.full((height, width, 3), 90, np.uint8))
        (each,) = found.classes
        left, top, right, bottom = each.box
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert found.heat_maps.shape == (1, height, width)
    with pytest.raises(DataError, match="80 times"):
        localizer.localize(np.zeros((1, 5000, 3), np.uint8))


@pytest.mark.parametrize("name", ["alexnet", "vgg16", "googlenet"])
def test_the_papers_classifiers(name, monkeypatch):
    torch.manual_seed(0)
    classifier = create_classifier(name, num_classes=4, width=1 / 32).train()
    localizer = Localizer(classifier, "abcd", top=2, side=classifier.input_size)
    assert classifier.training
    averages = name == "googlenet"
    assert localizer.window == (32 if averages else classifier.input_size)
    image = np.random.default_rng(0).integers(0, 256, (classifier.input_size, classifier.input_size, 3), dtype=np.uint8)
    with torch.no_grad():
        logits = classifier.eval()(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)[0]
    found = localizer.localize(image)
    assert [each.score for each in found.classes] == pytest.approx(logits.softmax(0).topk(2).values.tolist(), abs=1e-4)


def test_boxes_around_peaks():
    heat = np.array([[0, 0, 0, 0, 3], [0, 4, 2, 0, 3], [0, 2, 1, 0, 0], [0, 0, 0, 2, 0]], np.float32)
    assert box_around_peak(heat, 0.5) == (1, 1, 3, 3)
    assert box_around_peak(heat, 0.25) == (1, 1, 3, 3)  # what touches at a corner alone is not connected
    assert box_around_peak(heat, 0.9) == (1, 1, 2, 2)
    assert box_around_peak(-heat - 1, 0.5) == (0, 0, 5, 4)


@pytest.mark.parametrize("values", [{"threshold": 0}, {"threshold": 1}, {"top": 0}, {"side": 8}, {"side": 5000}])
def test_impossible_settings_are_refused(values):
    with pytest.raises(RecipeError):
        Localizer(Colours(), NAMES, **values)


def test_mistakes_are_one_line():
    with pytest.raises(ModelError, match="3 classes, and there are 2 names"):
        Localizer(Colours(), NAMES[:2]).localize(scene())
    localizer = Localizer(Colours(), NAMES)
    for tensor in localizer._dense.parameters():
        tensor.data.fill_(float("nan"))
    with pytest.raises(ModelError, match="not numbers"):
        localizer.localize(scene())
    with pytest.raises(ModelError):
        Localizer(nn.Conv2d(3, 3, 1), NAMES)
