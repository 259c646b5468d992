"""Guesses: within the image, the same every time, better than blind where there is something to see."""

import pickle

import cv2
import numpy as np
import pytest

from upscore.data.open_dataset import open_dataset
from upscore.errors import DataError, RecipeError
from upscore.proposals import (
    Boxes,
    EdgeBoxes,
    LearnedEdges,
    SelectiveSearch,
    SlidingWindows,
    boxes_of_objects,
    create_proposer,
    detect_edges,
    pairwise_iou,
    proposal_recall,
)

ALL = [EdgeBoxes(200), SelectiveSearch(200), SlidingWindows(200)]

every = pytest.mark.parametrize("propose", ALL, ids=lambda proposer: type(proposer).__name__)


def scene(*objects, size=(120, 160)):
    """A grey plane with bright rectangles (left, top, right, bottom) on it."""
    image = np.full((*size, 3), 90, np.uint8)
    for number, (left, top, right, bottom) in enumerate(objects):
        image[top:bottom, left:right] = ((220, 40, 30), (30, 60, 230), (240, 240, 60))[number % 3]
    return image


@every
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 300), (17, 16), (90, 130)])
def test_boxes_lie_in_any_image_best_first(propose, size):
    for image in (np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8), np.full((*size, 3), 7, np.uint8)):
        found = propose(image)
        assert len(found) <= 200
        assert (np.diff(found.objectness) <= 0).all()
        np.testing.assert_array_equal(found.clipped(*size).corners, found.corners)
        assert len(np.unique(found.corners, axis=0)) == len(found)


@every
def test_they_are_the_same_every_time_and_elsewhere(propose):
    image = scene((20, 30, 60, 80), (90, 20, 140, 100))
    again = pickle.loads(pickle.dumps(propose))
    assert again == propose
    assert repr(again) == repr(propose)
    np.testing.assert_array_equal(propose(image).corners, again(image).corners)


@pytest.mark.parametrize("propose", ALL[:2], ids=lambda proposer: type(proposer).__name__)
def test_what_stands_out_is_found_at_once(propose):
    objects = [(20, 30, 60, 80), (90, 20, 140, 100)]
    found = propose(scene(*objects)).best(10)
    assert (pairwise_iou(Boxes(np.array(objects)), found).max(1) >= 0.7).all()


def test_edges_find_more_than_blind_windows_do():
    shapes = open_dataset("shapes", "val", size=(192, 240), count=6)
    images = {EdgeBoxes(): [], SlidingWindows(): []}
    for sample in (shapes[i] for i in range(len(shapes))):
        _, objects = boxes_of_objects(sample.instances)
        objects = objects[objects.areas() >= 100]
        for propose, found in images.items():
            found.append((objects, propose(sample.image)))
    (edges, many), (blind, _) = (proposal_recall(found, [50, 200], min_ious=[0.5]) for found in images.values())
    assert many > 30
    assert (edges > 1.3 * blind).all()


def test_an_edge_is_where_colour_changes_and_faces_across():
    image = scene((40, 30, 120, 90))
    strength, normal = detect_edges(image)
    assert strength.shape == normal.shape == image.shape[:2]
    assert (strength >= 0).all()
    assert (strength <= 1).all()
    row, column = strength[60], strength[:, 80]
    assert set(np.flatnonzero(row > 0.5 * row.max()).tolist()) <= {39, 40, 119, 120}
    assert set(np.flatnonzero(column > 0.5 * column.max()).tolist()) <= {29, 30, 89, 90}
    assert np.isclose(np.sin(normal[60, np.argmax(row)]), 0, atol=1e-3)
    assert np.isclose(np.cos(normal[np.argmax(column), 80]), 0, atol=1e-3)
    assert (strength[:25] == 0).mean() > 0.9
    flat = np.full((9, 7, 3), 50, np.uint8)
    assert not detect_edges(flat).strength.any()
    assert len(EdgeBoxes()(flat)) == 0


@pytest.mark.parametrize(("propose", "size"), [(EdgeBoxes(), (4097, 4096)), (SelectiveSearch(), (2049, 2048))])
def test_images_too_large_to_search_are_refused(propose, size):
    with pytest.raises(DataError, match=rf"found an image of {size[0]}×{size[1]} pixels, expected at most .*'windows'"):
        propose(np.broadcast_to(np.uint8(9), (*size, 3)))
    assert len(SlidingWindows()(np.broadcast_to(np.uint8(9), (*size, 3)))) == 2000


@pytest.mark.parametrize("most", [1, 7, 55, 300])
def test_windows_are_the_first_of_all_however_many_there_are(most):
    blank = np.zeros((45, 70, 3), np.uint8)
    every_one = SlidingWindows(100_000, step=0.1)(blank)
    np.testing.assert_array_equal(SlidingWindows(most, step=0.1)(blank).corners, every_one.corners[:most])
    low = SlidingWindows(100_000, step=0.01, aspects=(2.0,))(blank)  # whose rows are many
    np.testing.assert_array_equal(SlidingWindows(most, step=0.01, aspects=(2.0,))(blank).corners, low.corners[:most])


def test_tiny_steps_take_no_memory():
    found = SlidingWindows(500, step=1e-12)(np.broadcast_to(np.uint8(9), (8000, 9000, 3)))
    assert len(np.unique(found.corners, axis=0)) == len(found) == 500


def test_windows_cover_every_place_and_size():
    found = SlidingWindows(5000)(np.zeros((64, 96, 3), np.uint8))
    assert found.corners[0].tolist() == [0, 0, 96, 64]
    covered = np.zeros((64, 96), bool)
    for left, top, right, bottom in found.corners[1:]:
        covered[top:bottom, left:right] = True
    assert covered.all()
    squares = found.corners[(found.corners[:, 2] - found.corners[:, 0]) == (found.corners[:, 3] - found.corners[:, 1])]
    assert {16, 32, 64} <= set((squares[:, 2] - squares[:, 0]).tolist())


def test_the_settings_of_edge_boxes_are_used():
    image = scene((20, 30, 60, 80), (90, 20, 140, 100), (30, 40, 45, 60), (66, 60, 84, 110))
    image += np.random.default_rng(0).integers(0, 9, image.shape).astype(np.uint8)
    large = EdgeBoxes(2000, min_area=900.0)(image)
    np.testing.assert_array_equal(large.corners, EdgeBoxes(2000, min_area=900 / (120 * 160))(image).corners)  # pixels and a fraction
    assert len(large) < len(EdgeBoxes(10_000, min_area=1e-5)(image))
    coarse, dense = (EdgeBoxes(2000, alpha=alpha, beta=1.0)(image) for alpha in (0.3, 0.7))
    assert len(coarse) < len(dense)
    for beta in (0.3, 0.9):
        found = EdgeBoxes(2000, beta=beta)(image)
        assert beta - 0.05 < (pairwise_iou(found, found) - np.eye(len(found))).max() <= beta
    assert create_proposer("edge-boxes", max_proposals=9, alpha=0.5, beta=0.7, min_area=4.0) == EdgeBoxes(9, 0.5, 0.7, 4.0)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: EdgeBoxes(0),
        lambda: EdgeBoxes(alpha=1.0),
        lambda: EdgeBoxes(beta=0.0),
        lambda: EdgeBoxes(min_area=1e9),
        lambda: create_proposer("windows", beta=0.5),
        lambda: SelectiveSearch(max_proposals=2.5),
        lambda: SlidingWindows(step=float("nan")),
        lambda: SlidingWindows(aspects=()),
        lambda: SlidingWindows(aspects=(1e-9,)),
        lambda: SlidingWindows(min_side=0),
        lambda: EdgeBoxes(min_area=1e-9),
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(RecipeError, match="expected"):
        wrong()


def forest(path, **changes):
    """The smallest model: one tree of two leaves that sees an edge everywhere, or with ``changes`` something else."""
    options = {
        "stride": 2, "shrinkNumber": 2, "patchSize": 32, "patchInnerSize": 16, "numberOfGradientOrientations": 4,
        "gradientSmoothingRadius": 0, "regFeatureSmoothingRadius": 2, "ssFeatureSmoothingRadius": 8,
        "gradientNormalizationRadius": 4, "selfsimilarityGridSize": 5, "numberOfTrees": 1, "numberOfTreesToEvaluate": 1,
    } | {name: value for name, value in changes.items() if name[0].islower()}  # fmt: skip
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    storage.startWriteStruct("options", cv2.FileNode_MAP)
    for name, value in options.items():
        if value is not None:
            storage.write(name, value)
    storage.endWriteStruct()
    trees = {
        "childs": [2, 0, 0],
        "featureIds": [0, 0, 0],
        "thresholds": [0.5, 0.0, 0.0],
        "edgeBoundaries": [0, 0, 1, 2],
        "edgeBins": [3, 9],
    }
    for name, values in trees.items():
        if name == changes.get("Without"):
            continue
        storage.startWriteStruct(name, cv2.FileNode_SEQ)
        storage.startWriteStruct("", cv2.FileNode_SEQ)
        for value in values:
            storage.write("", value)
        storage.endWriteStruct()
        storage.endWriteStruct()
    storage.release()
    return path


def test_a_learned_model_is_taken_and_told_apart(tmp_path):
    one = EdgeBoxes(50, model=forest(tmp_path / "model.yml"))
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    strength, normal = LearnedEdges(tmp_path / "model.yml")(image)
    assert strength.shape == normal.shape == (60, 80)
    assert strength.dtype == np.float32
    assert len(one(image)) <= 50
    assert repr(one) != repr(EdgeBoxes(50))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(one))(image).corners, one(image).corners)


@pytest.mark.parametrize("content", [b"", b"%YAML:1.0\na: 3\n", b"\x1f\x8bnot gzip", b"{}", b"\x00" * 100])
def test_a_file_that_is_no_model_is_refused(tmp_path, content):
    (tmp_path / "model.yml").write_bytes(content)
    with pytest.raises(DataError, match="structured-edge model") as refused:
        EdgeBoxes(model=tmp_path / "model.yml")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("changes", [{"stride": None}, {"patchSize": 10**6}, {"numberOfTrees": 2}, {"Without": "edgeBins"}])
def test_a_model_that_lacks_a_part_is_refused(tmp_path, changes):
    with pytest.raises(DataError, match=r"option|holds no"):
        LearnedEdges(forest(tmp_path / "model.yml", **changes))


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        EdgeBoxes(model=tmp_path / "absent.yml.gz")


def test_recall_counts_objects_that_enough_boxes_meet():
    objects = Boxes([[0, 0, 10, 10], [20, 20, 30, 30]])
    found = Boxes([[0, 0, 10, 6], [20, 20, 30, 30], [0, 0, 10, 9]], [0.9, 0.5, 0.1])
    share, count = proposal_recall([(objects, found), (objects, Boxes(np.array([])))], [1, 2, 3, 9], min_ious=[0.5, 0.7])
    assert count == 4
    np.testing.assert_array_equal(share, [[0.25, 0], [0.5, 0.25], [0.5, 0.5], [0.5, 0.5]])
    nothing, none = proposal_recall([], [1])
    assert none == 0
    assert np.isnan(nothing).all()
    assert pairwise_iou(objects, objects).trace() == 2


@pytest.mark.parametrize("find", [detect_edges, EdgeBoxes(), SelectiveSearch(), SlidingWindows()], ids=lambda find: type(find).__name__)
@pytest.mark.parametrize(
    "image",
    [
        np.zeros((9, 9, 3)),
        np.zeros((9, 9, 3), bool),
        np.zeros((9, 9), np.uint8),
        np.zeros((9, 9, 4), np.uint8),
        np.zeros((3, 9, 9), np.uint8),
        np.zeros((0, 9, 3), np.uint8),
        np.zeros((9, 0, 3), np.uint8),
        [[0]],
        None,
    ],
    ids=str,
)
def test_what_is_no_image_is_one_line(find, image):
    with pytest.raises(DataError, match=r"expected an image \(H, W, 3\) uint8"):
        find(image)


@pytest.mark.parametrize("instances", [np.zeros((3, 3)), np.zeros(3, int), np.full((3, 3), -1), np.ones((3, 3), bool)], ids=str)
def test_objects_that_are_none_are_one_line(instances):
    with pytest.raises(DataError, match=r"expected .* integers from 0 on"):
        boxes_of_objects(instances)


def test_strength_follows_the_colour_change_whatever_the_number_of_scales():
    """The geometric mean over scales grows with the change in Lab as each scale does: twice the change, twice the gradient."""
    changes, gradients = [], []
    for grey in (90, 160, 250):
        image = np.full((64, 64, 3), 40, np.uint8)
        image[:, 32:] = grey
        dark, light = cv2.cvtColor(image[:1, ::63].astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[0, :, 0]
        strength = float(detect_edges(image).strength[32].max())
        changes.append(light - dark)
        gradients.append(strength / (1 - strength))  # of strength = gradient / (gradient + constant)
    assert np.divide(gradients, gradients[0]) == pytest.approx(np.divide(changes, changes[0]), rel=1e-3)
