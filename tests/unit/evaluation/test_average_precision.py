import math

import numpy as np
import pytest

from upscore.errors import UpscoreError
from upscore.evaluation import average_precision
from upscore.evaluation.average_precision import ObjectCounts, check_pycocotools
from upscore.objects.detected import DetectedObject
from upscore.types import LabelSpace

LABELS = LabelSpace(("background", "car", "bus"))


def square(left, top, side=10, *, score=0.5, label_class=1):
    return DetectedObject(label_class, score, np.ones((side, side), bool), left, top, (60, 60))


def counted(*images):
    pytest.importorskip("pycocotools")
    counts = ObjectCounts(LABELS)
    for true, found in images:
        counts.add(true, found)
    return counts


def test_a_missing_pycocotools_is_one_sentence(monkeypatch):
    monkeypatch.setattr(average_precision, "find_spec", lambda name: None)
    with pytest.raises(UpscoreError, match=r"pip install 'upscore\[coco\]'"):
        check_pycocotools()


def test_perfect_objects_in_several_images():
    two = [square(0, 0), square(20, 20, label_class=2)]
    images = [(two, two[::-1]), ([], []), ([square(5, 5)], [square(5, 5)])]
    for of in ("boxes", "masks"):
        found = counted(*images).average_precision(of)
        assert found.ap == pytest.approx(1)
        assert found.classes == pytest.approx({"car": 1, "bus": 1})


def test_precision_is_averaged_over_recall_in_the_order_of_scores():
    true = [square(0, 0), square(20, 20)]
    wrong_first = [square(40, 40, score=0.9), square(0, 0, score=0.8), square(20, 20, score=0.7)]
    found = counted((true, wrong_first)).average_precision("boxes")
    # Precision is 1/2 and 2/3 at recalls of 1/2 and 1; interpolated, 2/3 everywhere.
    assert found.ap50 == pytest.approx(2 / 3)
    half = counted((true, [square(0, 0)])).average_precision("boxes")
    assert half.ap50 == pytest.approx(51 / 101)
    assert half.recall == pytest.approx(1 / 2)


def test_the_thresholds_of_the_iou():
    shifted = counted(([square(0, 0)], [square(2, 0)])).average_precision("boxes")  # IoU 8/12
    assert (shifted.ap50, shifted.ap75) == pytest.approx((1, 0))
    assert shifted.ap == pytest.approx(4 / 10)  # .50, .55, .60, .65


def test_boxes_and_masks_differ_where_the_box_is_right_and_the_mask_is_not():
    ring = np.ones((10, 10), bool)
    ring[1:9, 1:9] = False
    counts = counted(([square(0, 0)], [DetectedObject(1, 0.9, ring, 0, 0, (60, 60))]))
    assert counts.average_precision("boxes").ap == pytest.approx(1)
    assert counts.average_precision("masks").ap == 0
    assert counts.as_dict()["masks"]["ap"] == 0


def test_the_wrong_class_is_wrong():
    found = counted(([square(0, 0)], [square(0, 0, label_class=2)])).average_precision("masks")
    assert found.classes["car"] == 0
    assert math.isnan(found.classes["bus"])  # there is none to find


def test_nothing_to_find_and_nothing_found():
    assert math.isnan(counted(([], [square(0, 0)])).average_precision("boxes").ap)
    missed = counted(([square(0, 0)], []))
    assert missed.average_precision("boxes").ap == 0
    assert missed.as_dict() | {"boxes": 0, "masks": 0} == {"images": 1, "true": 1, "found": 0, "boxes": 0, "masks": 0}
