"""DeconvNet's two stages: what training is shown of a dataset's images, from recipe to bundle."""

import json

import numpy as np
import pytest

from painting import paint_objects
from upscore.data.object_crops import CroppedObjects
from upscore.data.open_dataset import open_dataset
from upscore.data.selection import thin
from upscore.errors import DataError, RecipeError
from upscore.models.bundle import Bundle
from upscore.proposals import EdgeBoxes, SlidingWindows
from upscore.training.crop_splits import MAX_VALIDATED, _box_source, count_crops, crop_splits
from upscore.training.launch import train
from upscore.training.plan import plan
from upscore.training.recipe import Recipe
from upscore.training.recipe_sections import CropsSection
from upscore.training.resume import resume


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """Ten images of shapes with instance masks, as a folder; and the same without those."""
    root = tmp_path_factory.mktemp("objects")
    text = paint_objects(root / "with").read_text()
    bare = root / "without"
    bare.mkdir()
    (bare / "dataset.yaml").write_text(text)
    for kind in ("images", "masks"):
        (bare / kind).symlink_to(root / "with" / kind)
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UPSCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def stage(data, out, of, **values):
    return Recipe.parse(
        {
            "data": {"path": str(data)},
            "model": {"name": "fcn32s", "backbone": "resnet10t", "weights": "none"},
            "crops": {"of": of, "side": 40},
            "augment": {"crop_size": [32, 32]},
            "run": {"out": str(out), "epochs": 1, "batch_size": 8, "device": "cpu"},
        }
    ).with_values(values)


def test_the_second_stage_starts_from_the_first(objects, tmp_path, cache):
    first = train(stage(objects / "with", tmp_path / "one", "objects"))
    recipe = stage(objects / "with", tmp_path / "two", "proposals", **{"model.start_from": str(first.folder)})
    second = train(recipe)
    assert len(list((cache / "proposals").iterdir())) == 10, "the boxes of every image are kept"
    one, two = (Bundle.load(run.folder) for run in (first, second))
    assert one.labels == two.labels
    assert two.card["recipe"]["crops"]["of"] == "proposals"
    assert any((one.weights[name] != two.weights[name]).any() for name in one.weights)


def test_cuts_are_counted_in_place_of_images(objects, tmp_path):
    whole = plan(stage(objects / "with", tmp_path / "whole", "images"))
    ready = plan(stage(objects / "with", tmp_path / "cut", "objects", **{"augment.crop_size": None, "run.epochs": None}))
    view = CroppedObjects(open_dataset(objects / "with", "train"), side=40)
    assert list(ready.train.keys) == list(view.keys)
    assert ready.census.images == len(view) > whole.census.images == 6
    assert ready.census.median == (40, 40)
    assert ready.recipe.augment.crop_size == [32, 32]
    assert ready.recipe.data.fingerprint == whole.recipe.data.fingerprint, "that of the images"
    assert any(f"{len(view)} crops around objects of 6 images" in note for note in ready.messages)
    background = ready.census.class_pixels[0] / ready.census.class_pixels.sum()
    assert background < whole.census.class_pixels[0] / whole.census.class_pixels.sum()


def test_what_is_evaluated_is_cut_alike_but_not_repeated(objects):
    parts = [open_dataset(objects / "with", split) for split in ("train", "val")]
    seen = crop_splits(CropsSection(of="objects", side=40), *parts)
    plain = CroppedObjects(parts[1], side=40, balanced=False)
    assert list(seen.val.keys) == list(plain.keys)
    np.testing.assert_array_equal(seen.val[1].label, plain[1].label)


def test_without_instance_masks_to_evaluate_by_whole_images_are_evaluated(objects):
    train_part, val = open_dataset(objects / "with", "train"), open_dataset(objects / "without", "val")
    seen = crop_splits(CropsSection(of="objects", side=40), train_part, val)
    assert seen.val is val
    assert "no instance masks" in seen.messages[1]


def test_a_run_of_cuts_is_resumed_to_the_same_weights(objects, tmp_path, monkeypatch):
    from upscore.training import loop, run_state

    recipe = stage(objects / "with", tmp_path / "unbroken", "objects", **{"run.epochs": 2})
    whole = train(recipe)
    monkeypatch.setattr(loop, "MIN_INTERVAL", 0)
    steps = iter(range(100))
    plain = run_state.lr_factor

    def broken(*args, **values):
        if next(steps) == whole.progress.step * 3 // 4:
            raise KeyboardInterrupt
        return plain(*args, **values)

    monkeypatch.setattr(run_state, "lr_factor", broken)
    with pytest.raises(KeyboardInterrupt):
        train(recipe.with_values({"run.out": str(tmp_path / "broken")}))
    monkeypatch.setattr(run_state, "lr_factor", plain)
    again = resume(tmp_path / "broken")
    one, other = (Bundle.load(run.folder / "last").weights for run in (whole, again))
    assert all((one[name] == other[name]).all() for name in one)


def test_thinning_spreads_evenly_and_keeps_the_ends():
    images = open_dataset("shapes", "val", count=11)
    thinned = thin(images, 3)
    assert list(thinned.keys) == [images.keys[i] for i in (0, 5, 10)]
    np.testing.assert_array_equal(thinned[1].image, images[5].image)
    assert list(thin(images, MAX_VALIDATED).keys) == list(images.keys)
    assert count_crops(images).images == 11


def test_boxes_of_a_file_are_taken_by_key(objects, tmp_path):
    data = open_dataset(objects / "with", "train")
    entries = {key: {"size": list(data[i].image.shape[:2]), "boxes": [[0, 0, 80, 64]]} for i, key in enumerate(data.keys)}
    (tmp_path / "boxes.json").write_text(json.dumps(entries))
    settings = CropsSection(of="proposals", min_overlap=0.01, side=40, boxes=str(tmp_path / "boxes.json"), balanced=False)
    view = crop_splits(settings, data, open_dataset(objects / "without", "val")).train
    assert len(view) == 6
    np.testing.assert_array_equal(np.unique(view[0].label), np.unique(np.append(data[0].label, 255)))


def test_the_settings_of_edge_boxes_reach_the_proposer():
    own = {"alpha": 0.5, "beta": 0.75, "min_area": 1000.0}
    source = _box_source(CropsSection(of="proposals", max_proposals=77, **own))
    assert source.proposer == EdgeBoxes(77, **own)
    assert _box_source(CropsSection(of="proposals")).proposer == EdgeBoxes()
    assert _box_source(CropsSection(of="proposals", proposer="windows")).proposer == SlidingWindows()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"crops.background": "backgrund"}, "no class 'backgrund'"),
        ({"crops.of": "proposals", "crops.min_overlap": 1.0}, "no proposal overlaps an object by 1"),
        ({"crops.of": "proposals", "crops.boxes": "nowhere.json"}, "nowhere.json: cannot be read as boxes"),
        ({"crops.of": "proposals", "crops.edges": "nowhere.yml"}, "nowhere.yml"),
        ({"crops.of": "proposals", "crops.edges": "a", "crops.boxes": "b"}, "are both set"),
        ({"crops.of": "proposals", "crops.edges": "a", "crops.proposer": "windows"}, "uses no edges"),
        ({"crops.of": "proposals", "crops.beta": 0.9, "crops.proposer": "windows"}, "crops.beta is set, which only edge-boxes reads"),
        ({"crops.boxes": "b"}, "no crops around proposals"),
    ],
)
def test_what_cannot_be_cut_is_said_before_anything_is_written(objects, tmp_path, values, said):
    with pytest.raises((DataError, RecipeError), match=said) as caught:
        plan(stage(objects / "with", tmp_path / "run", "objects", **values))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_objects_are_asked_of_data_that_has_none(objects, tmp_path):
    with pytest.raises(DataError, match="has no instance mask: add an instances/ folder"):
        plan(stage(objects / "without", tmp_path / "run", "objects"))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"crops.of": "object"}, "crops.of = 'object'"),
        ({"crops.min_overlap": 0}, "crops.min_overlap = 0"),
        ({"crops.min_overlap": float("nan")}, "crops.min_overlap = nan"),
        ({"crops.enlarge": 0.5}, "crops.enlarge = 0.5"),
        ({"crops.side": 0}, "crops.side = 0"),
        ({"crops.by": "edge"}, "unknown setting 'crops.by'"),
    ],
)
def test_bad_settings_are_one_line(values, said):
    with pytest.raises(RecipeError, match=said):
        Recipe().with_values(values)
