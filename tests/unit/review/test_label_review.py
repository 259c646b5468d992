"""One pass over painted scenes with a network that is right: what was planted is found first, and nothing else."""

import cv2
import numpy as np
import pytest
from torch import nn

from colour_network import colour_predictor
from painting import paint
from upscore.data.open_dataset import open_dataset
from upscore.data.overlap import dataset_identity
from upscore.data.pixel_digests import PixelDigests, digest_pixels
from upscore.data.png_files import write_image, write_label_map
from upscore.errors import BundleError, DataError
from upscore.inference.predictor import Predictor
from upscore.input_spec import InputSpec
from upscore.review.label_review import review_labels
from upscore.review.regions import DoubtfulRegion


@pytest.fixture
def data(tmp_path):
    return paint(tmp_path / "data", train=2, val=4)


def opened(data, *splits):
    return [open_dataset(data, split) for split in splits or ("val",)]


def damage(data, key, change):
    dataset = open_dataset(data, "val")
    label = dataset[list(dataset.keys).index(key)].label.copy()
    change(label)
    write_label_map(data.parent / "masks" / "val" / f"{key}.png", label, dataset.labels)


def drop(label):
    label[label == 1] = 0


def test_a_clean_dataset_has_no_doubtful_region(data):
    review = review_labels(colour_predictor(), opened(data, "val"))
    assert review.regions == []
    assert max(abs(image.doubt) for image in review.images) < 2
    assert all(abs(bias) < 0.5 for bias in review.border_bias.values())


@pytest.mark.parametrize("given", [0, 2])
def test_a_planted_mistake_comes_first(data, given):
    damage(data, "002", lambda label: np.putmask(label, label == 1, given))
    review = review_labels(colour_predictor(), opened(data))
    assert review.images[0].name == ("val", "002")
    [(image, region)] = review.regions
    assert image is review.images[0]
    assert (region.given, region.predicted) == (given, 1)
    assert review.images[1].doubt < 2 < review.images[0].doubt
    assert review.doubtful == []  # its region is reported


def test_ignored_pixels_do_not_matter(data):
    damage(data, "002", lambda label: np.putmask(label, label == 1, 255))
    assert review_labels(colour_predictor(), opened(data)).regions == []


def test_dilated_objects_show_in_the_distances_of_borders(data):
    for key in ("000", "001", "002", "003"):
        damage(data, key, lambda label: np.putmask(label, cv2.dilate((label == 1).astype(np.uint8), np.ones((5, 5))) > 0, 1))
    review = review_labels(colour_predictor(), opened(data))
    assert review.border_bias["val", 1] == pytest.approx(2, abs=0.5)


def trained_on(predictor, dataset, *, digests=True):
    known = PixelDigests(len(dataset), {key: digest_pixels(dataset[i].image) for i, key in enumerate(dataset.keys)})
    data = {"split": dataset.split, "identity": dataset_identity(dataset)}
    predictor.cards = ({"data": data | ({"pixels": known.to_card()} if digests else {})},)
    return predictor


@pytest.mark.parametrize("digests", [True, False])
def test_images_that_it_was_trained_on_are_left_out_unless_asked_for(data, digests):
    train, val = opened(data, "train", "val")
    predictor = trained_on(colour_predictor(), train, digests=digests)
    review = review_labels(predictor, [train, val])
    assert [name[0] for name in review.left_out] == ["train"] * 2
    assert {image.name[0] for image in review.images} == {"val"}
    everything = review_labels(predictor, [train, val], include_trained=True)
    assert [image.trained_on for image in everything.images if image.name[0] == "train"] == [True] * 2
    assert not everything.left_out
    with pytest.raises(DataError, match=r"trained on all 2 images.*--include-trained"):
        review_labels(predictor, [train])


def test_a_training_image_in_another_split_is_known_by_its_pixels(data):
    train, val = opened(data, "train", "val")
    predictor = trained_on(colour_predictor(), train)
    write_image(data.parent / "images" / "val" / "000.png", train[0].image)
    assert ("val", "000") in review_labels(predictor, opened(data, "train", "val")).left_out
    assert len(val) == 4


def test_without_a_record_the_training_split_is_left_out_and_that_is_told(data):
    review = review_labels(colour_predictor(), opened(data, "train", "val"))
    assert {name[0] for name in review.left_out} == {"train"}
    assert "does not record which images it was trained on: the split train" in review.messages[0]


def test_a_network_of_other_classes_is_refused(data):
    with pytest.raises(BundleError, match="class 1 is 'disc' against 'square'"):
        review_labels(colour_predictor(("ground", "disc", "bar")), opened(data))


def test_an_image_that_cannot_be_read_is_counted_and_where_none_can_it_is_an_error(data):
    (data.parent / "images" / "val" / "001.png").write_bytes(b"no image")
    review = review_labels(colour_predictor(), opened(data))
    assert len(review.images) == 3
    assert "1 of 4 images could not be examined" in review.messages[-1]
    every = frozenset(("val", key) for key in ("000", "002", "003"))
    with pytest.raises(DataError, match=r"001\.png"):
        review_labels(colour_predictor(), opened(data), unreadable=every)
    with pytest.raises(DataError, match="holds no image that can be read"):
        review_labels(colour_predictor(), opened(data), unreadable=every | {("val", "001")})


def test_a_network_of_other_bands_is_refused(data):
    network = Predictor(nn.Conv2d(1, 3, 1), labels=list(opened(data)[0].labels.names), input=InputSpec(("grey",), mean=(0.5,), std=(0.2,)))
    with pytest.raises(DataError):
        review_labels(network, opened(data))


def test_a_region_of_less_than_the_usual_probability_is_not_doubtful(data, monkeypatch):
    damage(data, "002", drop)
    assert review_labels(colour_predictor(), opened(data)).regions
    monkeypatch.setattr(DoubtfulRegion, "confident_fraction", lambda region, threshold: 0.4)
    assert review_labels(colour_predictor(), opened(data)).regions == []


def test_an_interrupt_is_no_unreadable_image(data):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        review_labels(colour_predictor(), opened(data), progress=stop)
