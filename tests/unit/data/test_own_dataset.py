"""A caller's own dataset has everything that a dataset needs, from the little that it must have."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from painting import paint
from upscore.data.dataset import second_labels_of
from upscore.data.mask_check import check_dataset
from upscore.data.open_dataset import open_dataset
from upscore.data.own_dataset import ImagesWithMasks, as_dataset
from upscore.data.selection import Selection
from upscore.errors import DataError
from upscore.types import LabelSpace, Sample

IMAGE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
MASK = np.array([[0, 1, 255, 0, 1, 0]] * 4, np.uint8)


class Pairs:
    labels = ("ground", "square")

    def __init__(self, *samples, **attributes):
        self.samples = samples or ((IMAGE, MASK), (IMAGE, MASK))
        vars(self).update(attributes)

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def test_what_is_missing_has_defaults():
    data = as_dataset(Pairs(), split="val")
    assert (data.name, data.split, tuple(data.keys), tuple(data.warnings), len(data)) == ("Pairs", "val", ("0", "1"), (), 2)
    assert data.labels == LabelSpace(("ground", "square"))
    assert isinstance(Pairs(), ImagesWithMasks)


def test_what_is_there_is_used():
    labels = LabelSpace(("x", "y"))
    data = as_dataset(Pairs(name="roads", split="test", keys=["a", "b"], warnings=["one"], labels=labels), split="val")
    assert (data.name, data.split, tuple(data.keys), data.warnings) == ("roads", "test", ("a", "b"), ("one",))
    assert data.labels is labels
    assert data[1].key == "b"


@pytest.mark.parametrize(
    "sample",
    [
        (IMAGE, MASK),
        [torch.from_numpy(IMAGE).permute(2, 0, 1) / 255, torch.from_numpy(MASK).long()],
        (Image.fromarray(IMAGE), Image.fromarray(MASK).convert("P")),
        Sample("another", IMAGE, MASK),
    ],
    ids=["arrays", "tensors", "PIL", "Sample"],
)
def test_samples_of_every_form_are_the_same(sample):
    found = as_dataset(Pairs(sample))[0]
    assert found.key == "0"
    np.testing.assert_array_equal(found.image, IMAGE)
    np.testing.assert_array_equal(found.label, MASK)


def test_weights_and_instances_of_a_sample_stay():
    sample = Sample("s", IMAGE, MASK, instances=MASK.astype(np.int32), weights=np.ones(MASK.shape, np.float32), warnings=("w",))
    found = as_dataset(Pairs(sample))[0]
    assert found.instances is sample.instances
    assert found.weights is sample.weights
    assert found.warnings == ("w",)


def test_datasets_of_files_are_taken_as_they_are(tmp_path):
    files = open_dataset(paint(tmp_path), "train")
    assert as_dataset(files) is files
    once = as_dataset(Pairs())
    assert as_dataset(once) is once
    with pytest.raises(DataError, match=r"class 0 is 'road' against 'ground'.*leave labels out"):
        as_dataset(files, labels=["road", "square", "bar"])


def test_the_masks_are_counted_in_the_thread_that_asks():
    import threading

    class Here(Pairs):
        def __getitem__(self, index):
            assert threading.current_thread() is threading.main_thread()
            return super().__getitem__(index)

    statistics = check_dataset(as_dataset(Here()))
    assert statistics.class_pixels.tolist() == [24, 16]
    assert statistics.ignored_pixels == 8


def test_keys_may_be_a_method_of_another_meaning():
    assert tuple(as_dataset(Pairs(keys=lambda: ["image", "mask"])).keys) == ("0", "1")


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        (SimpleNamespace(labels=["a"]), "found SimpleNamespace as dataset, expected a path, or an object with labels, __len__"),
        ({"a": 1}, "found dict as dataset"),
        (Pairs(keys=["a"]), "has 1 keys for 2 samples"),
        (Pairs(keys=["a", "a"]), "the key 'a' occurs twice"),
        (Pairs(labels="ab"), "found labels of type str"),
        (Pairs(labels=["a", "a"]), "'a' is given 2 times"),
        (Pairs(labels=[0, 1]), "found labels of type list, expected a list of class names"),
    ],
)
def test_what_is_no_dataset_is_a_line(dataset, said):
    with pytest.raises(DataError, match=said):
        as_dataset(dataset)


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        (Sample("s", IMAGE.astype(float), MASK), r"Pairs\[0\]: found an array .*float64 as image, .*convert it to uint8, rounded"),
        (Sample("s", IMAGE, MASK.astype(np.int64)), r"Pairs\[0\]: .*int64 as mask, expected uint8"),
        (Sample("s", IMAGE, MASK, weights=np.ones((2, 2), np.float32)), r"Pairs\[0\]: .*\(2, 2\).* as weights of an image of 4×6"),
        (Sample("s", IMAGE, MASK, instances=MASK[1:]), r"Pairs\[0\]: .*\(3, 6\).* as instances"),
        ("ab", r"Pairs\[0\]: found str of 2, expected a Sample"),
        ({"image": IMAGE, "mask": MASK}, r"Pairs\[0\]: found dict, expected a Sample"),
    ],
    ids=["floats", "wide numbers", "weights", "instances", "a word", "a dictionary"],
)
def test_what_is_no_sample_is_a_line(sample, said):
    data = as_dataset(Pairs(sample))
    with pytest.raises(DataError, match=said):
        data[0]


def test_second_labels_stay():
    sample = Sample("k", IMAGE, MASK, second_label=MASK)
    data = as_dataset(Pairs(sample, second_labels=["low", "high"]), split="val")
    assert second_labels_of(data) == second_labels_of(Selection(data, [0])) == LabelSpace(("low", "high"))
    assert np.array_equal(data[0].second_label, MASK)
    for wrong, message in ((MASK[1:], "as second_label of an image of 4×6"), (MASK.astype(float), "as mask, expected uint8")):
        with pytest.raises(DataError, match=message):
            as_dataset(Pairs(Sample("k", IMAGE, MASK, second_label=wrong)), split="val")[0]
    assert second_labels_of(as_dataset(Pairs(), split="val")) is None
