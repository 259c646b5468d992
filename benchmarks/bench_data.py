"""Images and masks decoded and augmented to 256×256 a second, beside torchvision's v2 transforms on the same files.

Both read JPEG and PNG files, scale by 0.5 to 2, crop with padding, flip, and (second table) jitter colours; one
process, one thread. torchvision is given its PIL and its tensor form, with and without antialiasing.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from timing import interleave, is_installed, machine, report, summary

from upscore.data.open_dataset import open_dataset
from upscore.data.paired_files import Pair, PairedFiles
from upscore.data.transforms import Augmentation, rng_for
from upscore.models.backbones import import_timm
from upscore.types import LabelSpace

CROP = (256, 256)
SCALE = (0.5, 2.0)
FILL = (124, 116, 104)
COLOUR = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.05}


def draw_files(folder: Path, count: int) -> PairedFiles:
    """Write shapes as 480×360 JPEG images of quality 90 and palette PNG masks."""
    pairs = []
    for i, sample in enumerate(open_dataset("shapes", "train", count=count, size=(180, 240))):
        image, mask = folder / f"{i}.jpg", folder / f"{i}.png"
        large = cv2.resize(sample.image, (480, 360), interpolation=cv2.INTER_CUBIC)
        Image.fromarray(large).save(image, quality=90)
        Image.fromarray(cv2.resize(sample.label, (480, 360), interpolation=cv2.INTER_NEAREST_EXACT)).save(mask)
        pairs.append(Pair(str(i), image, mask))
    return PairedFiles(pairs, LabelSpace(tuple("abcdefg")), split="train", name="drawn")


def ours(dataset: PairedFiles, indices: list[int], colour: dict[str, float]) -> Callable[[], None]:
    augment = Augmentation(scale=SCALE, crop=CROP, flip=0.5, **colour)
    epoch = 0

    def run() -> None:
        nonlocal epoch
        epoch += 1
        for index in indices:
            sample = dataset[index]
            sample = augment(sample, rng=rng_for(0, epoch, sample.key))
            assert sample.image.shape == (*CROP, 3)

    return run


def torchvision(dataset: PairedFiles, indices: list[int], colour: dict[str, float], *, tensor: bool, antialias: bool) -> Callable[[], None]:
    import_timm()  # mends torchvision's import where torch has no CUDA
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    fill = {tv_tensors.Image: FILL, Image.Image: FILL, tv_tensors.Mask: 255}
    rest = v2.Compose(
        [
            v2.RandomCrop(CROP, pad_if_needed=True, fill=fill),
            v2.RandomHorizontalFlip(0.5),
            *([v2.ColorJitter(**colour)] if colour else []),
            *([] if tensor else [v2.PILToTensor()]),
        ]
    )
    rng = np.random.default_rng(0)

    def run() -> None:
        for index in indices:
            pair = dataset.pairs[index]
            image = Image.open(pair.image).convert("RGB")
            mask = tv_tensors.Mask(np.array(Image.open(pair.mask)))
            if tensor:
                image = tv_tensors.Image(v2.functional.pil_to_tensor(image))
            scale = SCALE[0] * (SCALE[1] / SCALE[0]) ** rng.random()
            height, width = mask.shape
            resize = v2.Resize((round(height * scale), round(width * scale)), antialias=antialias)
            image, mask = rest(*resize(image, mask))
            assert mask.shape == CROP

    return run


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--data", help="a dataset to read instead of drawn files")
    flags.add_argument("--images", type=int, default=32)
    flags.add_argument("--rounds", type=int, default=9)
    values = flags.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    peer = is_installed("torchvision")
    with tempfile.TemporaryDirectory() as folder:
        dataset = open_dataset(values.data, "train") if values.data else draw_files(Path(folder), values.images)
        assert isinstance(dataset, PairedFiles)
        indices = list(range(min(values.images, len(dataset))))
        results = {}
        for name, colour in (("geometry", {}), ("geometry and colour", COLOUR)):
            variants = {"upscore": ours(dataset, indices, colour)}
            if peer:
                variants |= {
                    "torchvision v2, tensor": torchvision(dataset, indices, colour, tensor=True, antialias=True),
                    "torchvision v2, tensor, no antialias": torchvision(dataset, indices, colour, tensor=True, antialias=False),
                    "torchvision v2, PIL": torchvision(dataset, indices, colour, tensor=False, antialias=True),
                }
            seconds = interleave(variants, rounds=values.rounds, clock=time.process_time)
            fastest = min(set(seconds) - {"upscore"} or seconds, key=lambda key: sorted(seconds[key])[len(seconds[key]) // 2])
            results[name] = {"fastest peer": fastest, **summary(seconds, peer=fastest)}
            for key, times in seconds.items():
                results[name][key]["images_per_second"] = round(len(indices) / sorted(times)[len(times) // 2], 1)
    report(
        {
            "what": f"decode and augment to {CROP[0]}×{CROP[1]}",
            "data": (values.data and Path(values.data).name) or "drawn, 480×360",
            "images": len(indices),
            "threads": 1,
            "clock": "processor time",
            "results": results,
            **machine("numpy", "opencv-contrib-python-headless", "pillow", "torch", "torchvision"),
        }
    )


if __name__ == "__main__":
    main()
