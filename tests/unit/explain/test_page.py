import base64
import math
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from browsing import read
from upscore.data.png_files import write_label_map
from upscore.errors import BundleError, DataError, RecipeError
from upscore.explain import explain_image, explain_model, write_explanation
from upscore.explain.explanation import choose_pixel, find_object
from upscore.explain.page import ANSWERS, PAPERS
from upscore.models.bundle import Bundle
from upscore.models.factory import create_model
from upscore.types import LabelSpace

HOSTILE = '</style><script>alert(1)</script><img src="http://evil.example/x" onerror=1>'
LABELS = LabelSpace(("ground", HOSTILE, "=1+1"))
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)

NETWORKS = {
    "fcn32s": {"width": 1 / 64},
    "fcn16s": {"width": 1 / 64},
    "fcn8s": {"width": 1 / 64, "padding": 1},
    "fcn32s-late": {"width": 1 / 64},
    "segnet": {"width": 1 / 64},
    "segnet-basic": {"width": 1 / 16},
    "deconvnet": {"width": 1 / 64},
    "unet": {"width": 1 / 64},
    "unet-backbone": {"width": 1 / 64, "channels": 2},
}


def network(name):
    torch.manual_seed(0)
    model = create_model(name, num_classes=3, **NETWORKS[name])
    for part in model.modules():
        if isinstance(part, nn.Conv2d) and not part.weight.any():  # an FCN's scores begin as zeros
            nn.init.normal_(part.weight)
    return model.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_every_section(name, tmp_path):
    explanation = explain_model(network(name), LABELS, IMAGE, grid=(1, 2), key=f"folder/{HOSTILE}.png", source=HOSTILE)
    place = write_explanation(explanation, tmp_path / "new" / "page.html", command=f"upscore explain '{HOSTILE}'")
    page, source = read(place), place.read_text()
    assert not {"script", "link", "iframe", "object", "embed", "form"} & set(page.tags)
    assert page.addresses
    assert all(address.startswith("data:image/webp;base64,") for address in page.addresses)
    assert "url(" not in source
    assert "<script" not in source
    assert HOSTILE in page.text
    for heading in ("Class probabilities", "Receptive fields", "Feature maps, from coarse to fine", "Skip contributions", "Provenance"):
        assert heading in page.text
    assert len(explanation.skip_predictions) == {"fcn32s": 1, "fcn16s": 2, "fcn8s": 3}.get(name, 0)
    assert ("no skips" in page.text) == (name == "fcn32s")
    assert source.count('type="radio"') == 3
    assert source.count(" checked>") == 1
    assert all(image["alt"] is not None for image in page.images)
    for record in explanation.activations:
        assert record.name in page.text or record.name.rpartition(".")[2] in page.text


def decode(uri):
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8), cv2.IMREAD_UNCHANGED)
    return pixels[..., ::-1]


class Halves(nn.Module):
    """Says class 0 on the left and class 1 on the right, whatever it sees, the surer the further out."""

    geometry = None

    def __init__(self, classes=3):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.classes = classes

    def forward(self, images):
        across = torch.linspace(-20, 20, images.shape[-1]).expand(1, images.shape[-2], -1)
        logits = torch.stack([-across, across, *[torch.full_like(across, -60)] * (self.classes - 2)], 1)
        return self.scale * logits + 0 * images.mean()


def test_what_is_shown_of_the_classes():
    explanation = explain_model(Halves(), LABELS, IMAGE, grid=(0, 0))
    from upscore.explain.page import _entropy, _view_classes

    shown, rest = _view_classes(explanation)
    assert [view.name for view in shown] == ["ground", HOSTILE]
    assert [(view.name, view.fraction) for view in rest] == [("=1+1", 0)]
    left = decode(shown[0].map).astype(int).sum(2)
    assert left[:, :20].min() > 400 > 60 > left[:, -20:].max()
    entropy = _entropy(explanation.probs)
    assert entropy[:, 27:29].min() > 0.5
    assert entropy[:, 0].max() < 1e-3
    np.testing.assert_allclose(_entropy(np.full((4, 2, 2), 0.25, np.float32)), 1, rtol=1e-6)
    assert not _entropy(np.ones((1, 2, 2), np.float32)).any()


def test_a_constant_score_and_an_unbounded_field_are_said_in_words(tmp_path):
    explanation = explain_model(Halves(), LABELS, IMAGE, grid=(0, 0), pixel=(3, 50))
    text = " ".join(read(write_explanation(explanation, tmp_path / "page.html")).text.split())
    assert explanation.receptive_fields[0].theoretical_side == math.inf
    assert "No pixel of the image changes this score" in text
    assert "the theoretical receptive field is the whole image" in text
    assert "At row 3, column 50" in text
    assert "No pixel was given" not in text


def words_of(explanation, tmp_path):
    return " ".join(read(write_explanation(explanation, tmp_path / "page.html")).text.split())


@pytest.mark.parametrize("name", ["fcn8s", "unet"])
def test_nothing_false_is_said_of_a_network_with_one_class(name, tmp_path):
    model = create_model(name, num_classes=1, **NETWORKS[name]).eval()
    text = words_of(explain_model(model, LabelSpace(("tissue",)), IMAGE, grid=(0, 0)), tmp_path)
    for false in ("second largest", "another class can be more probable", "Uncertainty", "Pixels whose class a skip changed"):
        assert false not in text
    assert "middle of the image, as one class is predicted everywhere" in text
    assert "The network has one class: its probability is 100 % at every pixel" in text
    assert "the object at the pixel is the whole image" in text
    assert ("With one class no skip can change a label" in text) == (name == "fcn8s")


def test_nothing_false_is_said_where_one_of_several_classes_is_predicted(tmp_path):
    text = words_of(explain_model(Halves(), LABELS, IMAGE[:, :1], grid=(0, 0)), tmp_path)
    assert "second largest" not in text
    assert "as one class is predicted everywhere" in text
    assert "another class can be more probable" in text
    assert "second largest class" in words_of(explain_model(Halves(), LABELS, IMAGE, grid=(0, 0)), tmp_path)


def test_the_legend_names_what_is_drawn_and_an_unbounded_field(tmp_path):
    text = words_of(explain_model(Halves(), LABELS, IMAGE, grid=(0, 0)), tmp_path)
    assert "the whole image: the theoretical receptive field" in text
    assert "any pixel can change any score" in text
    assert "pixels outside it cannot change the score" not in text
    explanation = explain_model(network("segnet-basic"), LABELS, IMAGE, grid=(1, 1))
    page = write_explanation(explanation, tmp_path / "page.html").read_text()
    assert "pixels outside it cannot change the score" in page
    for line in ('class="rect"', 'class="rect enclosing"'):
        assert page.count(f"<path {line}") == 1
        assert page.count(f"<rect {line}") == 2
    classes = page.partition('aria-label="Colours of the classes"')[2].partition("</ul>")[0]
    assert classes.count("<li>") == len(np.unique(explanation.label_map))


def test_the_truth_and_the_errors_are_shown(tmp_path):
    truth = np.zeros(IMAGE.shape[:2], np.uint8)
    truth[:, 28:] = 1
    truth[:10, :] = 2
    truth[:, 50:] = 255
    explanation = explain_model(Halves(), LABELS, IMAGE, grid=(0, 0), pixel=(3, 5), truth=truth)
    page = read(write_explanation(explanation, tmp_path / "page.html"))
    text = " ".join(page.text.split())
    assert "The truth there is =1+1: the prediction is wrong." in text
    assert "75.0 % of this image's pixels are predicted correctly; the IoU of ground in it is 75.0 %." in text
    errors, of_ground = (
        decode(image["src"])
        for image in page.images
        if image["alt"] in ("Where the prediction is wrong", "Where ground is missed and invented")
    )
    red, blue, yellow = (204, 50, 30), (20, 110, 220), (245, 190, 0)
    assert [tuple(errors[3, column]) for column in (5, 40, 52)] == [red, yellow, (150, 150, 150)]
    assert tuple(of_ground[3, 5]) == blue
    assert of_ground[3, 40].min() >= 170 <= errors[30, 5].min()
    for pixel, expected in (((30, 5), "The truth there is the same."), ((30, 52), "The truth there is unknown.")):
        assert expected in words_of(explain_model(Halves(), LABELS, IMAGE, grid=(0, 0), pixel=pixel, truth=truth), tmp_path)
    assert "The truth there" not in words_of(explain_model(Halves(), LABELS, IMAGE, grid=(0, 0)), tmp_path)


def test_a_mask_is_read_shrunk_with_the_image_and_checked(tmp_path):
    model = network("segnet-basic")
    bundle = Bundle.of("segnet-basic", NETWORKS["segnet-basic"], model, LABELS)
    truth = np.repeat(np.arange(40, dtype=np.uint8)[:, None] // 20, 56, axis=1)
    write_label_map(tmp_path / "mask.png", truth, LABELS)
    explained = explain_image(bundle, IMAGE, truth=tmp_path / "mask.png", grid=(0, 0), max_pixels=20 * 28, device="cpu")
    assert explained.truth.shape == (20, 28)
    np.testing.assert_array_equal(explained.truth, truth[::2, ::2])
    for mask, match in ((truth[1:], "expected the image's size"), (truth + 2, r"found 3 in the mask, expected 0 to 2 for the 3 classes")):
        with pytest.raises(DataError, match=match):
            explain_model(Halves(), LABELS, IMAGE, truth=mask)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_page_names_the_network_and_the_page_of_its_paper(name, tmp_path):
    explanation = explain_model(network(name), LABELS, IMAGE, grid=(0, 0))
    assert explanation.network in PAPERS
    assert (Path(__file__).parents[3] / PAPERS[explanation.network]).is_file()
    words = words_of(explanation, tmp_path)
    assert PAPERS[explanation.network] in words
    for _, path in ANSWERS.get(explanation.network, ()):
        assert path in words


def test_the_questions_are_headings_of_the_pages_of_papers():
    assert set(ANSWERS) <= set(PAPERS)
    for network_class, answers in ANSWERS.items():
        for _, path in answers:
            page, _, anchor = path.partition("#")
            assert page == PAPERS[network_class]
            headings = re.findall(r"^### (.+)$", (Path(__file__).parents[3] / page).read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_large_images_are_shrunk_and_the_pixel_with_them(tmp_path):
    image = np.zeros((300, 400, 3), np.uint8)
    explanation = explain_model(Halves(), LABELS, image, pixel=(299, 399), grid=(0, 0), max_pixels=1200)
    assert explanation.image.shape == (30, 40, 3)
    assert explanation.pixel == (29, 39)
    text = " ".join(read(write_explanation(explanation, tmp_path / "page.html")).text.split())
    assert "300 × 400 pixels were shrunk to 30 × 40" in text


def test_points_lie_in_the_middle_of_their_parts_and_are_never_more_than_pixels():
    explanation = explain_model(Halves(), LABELS, np.zeros((2, 9, 3), np.uint8), grid=(5, 3), pixel=(0, 0))
    assert explanation.grid == (2, 3)
    assert [field.pixel for field in explanation.receptive_fields] == [(0, 0), (0, 1), (0, 4), (0, 7), (1, 1), (1, 4), (1, 7)]


@pytest.mark.parametrize("name", ["segnet", "unet", "fcn32s"])
def test_a_image_of_one_pixel_is_explained(name, tmp_path):
    assert read(write_explanation(explain_model(network(name), LABELS, IMAGE[:1, :1]), tmp_path / "page.html")).text


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"pixel": (40, 0)}, DataError, "pixel 40,0 outside the image: expected rows 0 to 39, columns 0 to 55"),
        ({"pixel": (0, -1)}, DataError, "outside"),
        ({"grid": (21, 20)}, RecipeError, "at most 400"),
        ({"grid": (-1, -1)}, RecipeError, "grid of -1x-1"),
        ({"max_pixels": 0}, RecipeError, "at least 1"),
        ({"channels": {"layer": 0}}, RecipeError, "unknown layer 'layer'"),
    ],
)
def test_impossible_wishes_are_refused(arguments, error, match):
    with pytest.raises(error, match=match):
        explain_model(Halves(), LABELS, IMAGE, **arguments)


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(BundleError, match="gives 4 classes, but its labels name 3"):
        explain_model(Halves(4), LABELS, IMAGE)
    broken = Halves()
    nn.init.constant_(broken.scale, math.nan)
    with pytest.raises(BundleError, match="not numbers"):
        explain_model(broken, LABELS, IMAGE)
    with pytest.raises(DataError, match="expected an image"):
        explain_model(Halves(), LABELS, IMAGE[..., 0])


def test_a_bundle_is_explained_as_its_network_is(tmp_path):
    model = network("segnet-basic")
    bundle = Bundle.of("segnet-basic", NETWORKS["segnet-basic"], model, LABELS)
    explained, live = explain_image(bundle, IMAGE, grid=(0, 0), device="cpu"), explain_model(model, LABELS, IMAGE, grid=(0, 0))
    np.testing.assert_array_equal(explained.probs, live.probs)
    assert (explained.source, explained.network) == ("segnet-basic", "SegNetBasic")
    page = write_explanation(explained, tmp_path / "page.html").read_text()
    assert re.search(r"explain_image\(&#39;segnet-basic&#39;, &#39;image&#39;\)", page)


def test_the_pixel_chosen_lies_deepest_in_the_second_largest_class():
    label_map = np.zeros((20, 30), np.uint8)
    label_map[2:9, 3:10] = 2
    label_map[15:18, 20:23] = 1
    assert choose_pixel(label_map) == (5, 6)
    assert choose_pixel(np.full((20, 30), 7, np.uint8)) == (10, 15)
    label_map[15:18, 20:23] = 2
    assert choose_pixel(label_map) == (5, 6)
    region = find_object(label_map, (5, 6))
    assert region.sum() == 49  # the square alone, not the other of its class
    assert region[2:9, 3:10].all()
