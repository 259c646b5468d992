"""Kinds of damage to a dataset of images/, masks/ and a dataset.yaml, each with the check that has to find it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from upscore.data.open_dataset import open_dataset
from upscore.data.png_files import write_image, write_label_map
from upscore.types import voc_palette

Plant = Callable[[Path], None]


def draw(root: Path, *, two: bool) -> Path:
    """Write generated scenes, of two classes or seven."""
    for split, count in (("train", 12), ("val", 5)):
        scenes = open_dataset("shapes", split, size=(96, 128), count=count)
        for i in range(count):
            sample = scenes[i]
            label = (sample.label > 0).astype(np.uint8) if two else sample.label
            write_image(root / "images" / split / f"s{split}{i:02}x.png", sample.image)
            write_label_map(root / "masks" / split / f"s{split}{i:02}x.png", label, scenes.labels)
    names = ["background", "shape"] if two else list(scenes.labels.names)
    (root / "dataset.yaml").write_text(f"path: .\ntrain: images/train\nval: images/val\nmasks_dir: masks\nnames: {json.dumps(names)}\n")
    return root


def masks(root: Path, split: str = "*") -> list[Path]:
    return sorted((root / "masks").glob(f"{split}/*.png"))


def image_of(mask: Path) -> Path:
    (image,) = (mask.parents[2] / "images" / mask.parent.name).glob(f"{mask.stem}.*")
    return image


def rgb(path: Path) -> Image.Image:
    with Image.open(path) as file:
        return file.convert("RGB")


def stored(path: Path) -> np.ndarray:
    with Image.open(path) as file:
        return np.array(file)


def save(path: Path, pixels: np.ndarray, **options) -> None:
    path.unlink()  # it may be a link
    Image.fromarray(pixels).save(path, **options)


def every(change: Callable[[np.ndarray], np.ndarray], split: str = "*") -> Plant:
    def plant(root: Path) -> None:
        for path in masks(root, split):
            save(path, np.ascontiguousarray(change(stored(path))))

    return plant


def one(change: Callable[[np.ndarray], np.ndarray], index: int = 1, **options) -> Plant:
    def plant(root: Path) -> None:
        path = masks(root, "train")[index]
        save(path, np.ascontiguousarray(change(stored(path))), **options)

    return plant


def one_image(change: Callable[[np.ndarray], np.ndarray], index: int = 1) -> Plant:
    def plant(root: Path) -> None:
        path = image_of(masks(root, "train")[index])
        pixels = np.array(rgb(path))
        path.unlink()
        Image.fromarray(np.ascontiguousarray(change(pixels)).astype(np.uint8)).save(path.with_suffix(".png"))

    return plant


def shifted(rows: int, columns: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda mask: np.roll(mask, (rows, columns), (0, 1))


def salted(mask: np.ndarray) -> np.ndarray:
    result = mask.copy()
    for y in range(2, mask.shape[0] - 2, 5):
        for x in range(2, mask.shape[1] - 2, 5):
            box = mask[y - 1 : y + 2, x - 1 : x + 2]
            if (box == 0).all():
                result[y, x] = 1
    return result


def holed(mask: np.ndarray) -> np.ndarray:
    result = mask.copy()
    for y in range(2, mask.shape[0] - 2, 3):
        for x in range(2, mask.shape[1] - 2, 3):
            box = mask[y - 1 : y + 2, x - 1 : x + 2]
            if box[0, 0] and (box == box[0, 0]).all():
                result[y, x] = 0
    return result


def interpolated(mask: np.ndarray) -> np.ndarray:
    height, width = mask.shape
    small = cv2.resize(mask, (width // 2, height // 2), interpolation=cv2.INTER_NEAREST)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def exif(root: Path) -> None:
    path = masks(root, "train")[1]
    image = image_of(path)
    tags = Image.Exif()
    tags[0x0112] = 6
    picture = rgb(image).transpose(Image.Transpose.ROTATE_90)  # what the tag turns back
    image.unlink()
    picture.save(image.with_suffix(".jpg"), exif=tags, quality=95)
    save(path, np.ascontiguousarray(np.rot90(stored(path))))


def turned_over(root: Path) -> None:
    """An image stored upside down with a tag, and a mask drawn on it as stored: their sizes agree."""
    path = masks(root, "train")[1]
    image = image_of(path)
    tags = Image.Exif()
    tags[0x0112] = 3
    picture = rgb(image).transpose(Image.Transpose.ROTATE_180)
    image.unlink()
    picture.save(image.with_suffix(".jpg"), exif=tags, quality=95)
    save(path, np.ascontiguousarray(np.rot90(stored(path), 2)))


def truncated(root: Path) -> None:
    path = image_of(masks(root, "train")[1])
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])


def emptied(root: Path) -> None:
    path = masks(root, "train")[1]
    path.unlink()
    path.write_bytes(b"")


def without_mask(root: Path) -> None:
    masks(root, "train")[1].unlink()


def without_image(root: Path) -> None:
    image_of(masks(root, "train")[1]).unlink()


def coloured(mask: np.ndarray) -> np.ndarray:
    return np.array([*voc_palette(255), (224, 224, 192)], np.uint8)[mask]


def with_alpha(mask: np.ndarray) -> np.ndarray:
    alpha = np.full(mask.shape, 255, np.uint8)
    alpha[: mask.shape[0] // 2] = 128
    return np.dstack([mask, mask, mask, alpha])


def copied_into_val(root: Path) -> None:
    source = masks(root, "train")[1]
    rgb(image_of(source)).save(root / "images" / "val" / "copied.png")
    shutil.copyfile(source, root / "masks" / "val" / "copied.png")


def brightened_into_val(root: Path) -> None:
    source = masks(root, "train")[1]
    pixels = np.array(rgb(image_of(source))).astype(int) + 3
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / "images" / "val" / "nearly.png")
    shutil.copyfile(source, root / "masks" / "val" / "nearly.png")


def repeated(root: Path) -> None:
    source = masks(root, "train")[1]
    rgb(image_of(source)).save(root / "images" / "train" / "zz.png")
    shutil.copyfile(source, root / "masks" / "train" / "zz.png")


def copied_mask(root: Path) -> None:
    """The mask of one image saved for another of the same size."""
    found = masks(root, "train")
    shapes = [stored(path).shape for path in found]
    first, second = next((i, j) for i in range(len(found)) for j in range(i + 1, len(found)) if shapes[i] == shapes[j])
    save(found[second], stored(found[first]))


def case(root: Path) -> None:
    source = masks(root, "train")[1]
    for folder in ("images", "masks"):
        path = image_of(source) if folder == "images" else source
        shutil.copyfile(path, root / folder / "train" / f"Aa{path.suffix}")
    other = masks(root, "train")[2]
    for folder in ("images", "masks"):
        path = image_of(other) if folder == "images" else other
        shutil.copyfile(path, root / folder / "train" / f"aA{path.suffix}")


def mostly_ignored(mask: np.ndarray) -> np.ndarray:
    result = np.full_like(mask, 255)
    result[:2] = mask[:2]
    return result


def dilated(mask: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.dilate(mask, np.ones((5, 5), np.uint8)))


def deep(mask: np.ndarray) -> np.ndarray:
    return mask.astype(np.uint16) * 1000 + (mask > 0)


GENERAL: dict[str, tuple[Plant, str, str]] = {
    "a truncated image": (truncated, "files.unreadable", "left out"),
    "an empty mask file": (emptied, "files.unreadable", "left out"),
    "an image without mask": (without_mask, "files.layout", ""),
    "a mask without image": (without_image, "files.layout", ""),
    "names that differ in case": (case, "files.case", ""),
    "a JPEG mask": (one(lambda m: m * 20 + 3, format="JPEG"), "values.lossy", "left out"),
    "a mask of colours": (one(coloured), "values.colours", "equal"),
    "transparency": (one(with_alpha), "values.alpha", "equal"),
    "16-bit numbers": (one(deep), "values.range", "equal"),
    "a mask drawn before the image was turned": (exif, "sizes.turned", "equal"),
    "a mask drawn before the image was turned over": (turned_over, "sizes.orientation", "equal"),
    "a mask twice as large": (one(lambda m: m.repeat(2, 0).repeat(2, 1)), "sizes.scaled", "equal"),
    "a mask without its last row and column": (every(lambda m: m[:-1, :-1]), "sizes.off-by-one", "covered"),
    "a mask without its first row": (every(lambda m: m[1:]), "sizes.off-by-one", "covered"),
    "a mask of another size": (one(lambda m: m[: m.shape[0] // 2, :-5]), "sizes.differ", "left out"),
    "all masks shifted": (every(shifted(3, -2)), "geometry.shifted", "covered"),
    "one mask shifted": (one(shifted(0, 6), index=3), "geometry.shifted", ""),
    "a mirrored mask": (one(lambda m: m[:, ::-1], index=3), "geometry.mirrored", "equal"),
    "masks upside down": (every(lambda m: m[::-1, ::-1]), "geometry.mirrored", "equal"),
    "an ignored mask": (one(lambda m: np.full_like(m, 255)), "ignored.whole-mask", ""),
    "a mask that is mostly ignored": (one(mostly_ignored), "ignored.mostly", ""),
    "a split that is ignored": (every(lambda m: np.full_like(m, 255), "val"), "ignored.whole-split", ""),
    "a training image in val": (copied_into_val, "splits.shared-images", "left out"),
    "a brightened training image in val": (brightened_into_val, "splits.near-duplicates", ""),
    "an image that is there twice": (repeated, "splits.repeated-images", "left out"),
    "a mask copied to another image": (copied_mask, "splits.same-masks", ""),
    "a dark image": (one_image(lambda i: i // 12), "images.dark", ""),
    "a blurred image": (one_image(lambda i: cv2.GaussianBlur(i, (0, 0), 9)), "images.blurred", ""),
    "an image of one colour": (one_image(lambda i: np.full_like(i, 127)), "images.constant", ""),
    "a grey image": (one_image(lambda i: i[..., 1:2].repeat(3, 2)), "images.grey", ""),
}
"""Damage that any dataset can have: what plants it, the check that finds it, and what a corrected copy holds."""

OBJECTS: dict[str, tuple[Plant, str, str]] = {
    "0/255": (every(lambda m: (m > 0).astype(np.uint8) * 255), "values.object-as-255", "equal"),
    "classes numbered from 1": (every(lambda m: m + 1), "values.no-class", "equal"),
    "one mask of 0 and 255": (one(lambda m: (m > 0).astype(np.uint8) * 255), "values.mixed-encodings", ""),
    "blurred edges": (
        every(lambda m: cv2.GaussianBlur((m > 0).astype(np.uint8) * 255, (3, 3), 0)), "values.blurred", "nearly",
    ),
    "objects dilated": (every(dilated), "geometry.dilated", ""),
    "holes in an object": (one(holed), "geometry.holes", "asked"),
    "specks on the background": (one(salted), "geometry.specks", "asked"),
}  # fmt: skip
"""Damage to masks of objects on a background."""

MANY: dict[str, tuple[Plant, str, str]] = {
    "masks resized with interpolation": (every(interpolated), "values.interpolated", "nearly"),
}
"""Damage to masks of many classes."""
