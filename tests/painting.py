"""A dataset small enough to train on in a test, and a recipe for it."""

from pathlib import Path

import numpy as np

from upscore.data.open_dataset import open_dataset
from upscore.data.png_files import write_image, write_label_map
from upscore.training.recipe import Recipe
from upscore.types import LabelSpace


def paint(folder: Path, *, train: int = 6, val: int = 3, scale: int = 1) -> Path:
    """Write images of a bright square and a dark bar on grey, with their masks; return the dataset.yaml."""
    size = (48 * scale, 56 * scale)
    labels = LabelSpace(("ground", "square", "bar"))
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for i in range(count):
            image = rng.integers(90, 130, (*size, 3), dtype=np.uint8)
            label = np.zeros(size, np.uint8)
            y, x = rng.integers(0, size[0] - 20 * scale), rng.integers(0, size[1] - 20 * scale)
            square = np.s_[y : y + 16 * scale, x : x + 16 * scale]
            image[square], label[square] = (220, 200, 90), 1
            row = rng.integers(0, size[0] - 6 * scale)
            bar = np.s_[row : row + 5 * scale]
            image[bar], label[bar] = (20, 30, 60), 2
            label[-1] = 255
            write_image(folder / "images" / split / f"{i:03}.png", image)
            write_label_map(folder / "masks" / split / f"{i:03}.png", label, labels)
    (folder / "dataset.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nmasks_dir: masks\nnames: [ground, square, bar]\n")
    return folder / "dataset.yaml"


def paint_objects(folder: Path, *, train: int = 6, val: int = 4) -> Path:
    """Write images of shapes with masks and instance masks; return the dataset.yaml."""
    for split, count in (("train", train), ("val", val)):
        images = open_dataset("shapes", split, size=(64, 80), count=count)
        for i in range(count):
            sample = images[i]
            write_image(folder / "images" / split / f"{i}.png", sample.image)
            write_label_map(folder / "masks" / split / f"{i}.png", sample.label, images.labels)
            write_label_map(folder / "instances" / split / f"{i}.png", sample.instances.astype(np.uint8), images.labels)
    names = "".join(f"  {k}: {name}\n" for k, name in enumerate(images.labels.names))
    (folder / "dataset.yaml").write_text(f"path: .\ntrain: images/train\nval: images/val\nmasks_dir: masks\nnames:\n{names}")
    return folder / "dataset.yaml"


def small_recipe(data: Path, out: Path, **values) -> Recipe:
    """Return a recipe that takes a second or two: VGG16 a thirty-second as wide, with dropout."""
    return Recipe().with_values(
        {
            "data.path": str(data),
            "model.name": "fcn8s",
            "model.backbone": "vgg16",
            "model.weights": "none",
            "model.arguments": {"width": 0.03125},
            "augment.crop_size": [48, 48],
            "run.out": str(out),
            "run.device": "cpu",
            "run.precision": "fp32",
            "run.epochs": 2,
            "run.batch_size": 2,
            "run.tensorboard": False,
            **values,
        }
    )
