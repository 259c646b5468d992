"""Write the embedded shapes as a folder of images, masks and instance masks, larger than they are by default.

    python benchmarks/shapes_folder.py FOLDER

docs/objects.md trains and evaluates on it: 300 and 60 images of 240×320.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from upscore.data.readers.shapes import SHAPES_LABELS, open_shapes


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("folder", type=Path)
    flags.add_argument("--images", type=int, nargs=2, default=(300, 60), metavar=("TRAIN", "VAL"))
    values = flags.parse_args()
    folder: Path = values.folder
    for split, count in zip(("train", "val"), values.images, strict=True):
        dataset = open_shapes(split, size=(240, 320), count=count)
        for kind in ("images", "masks", "instances"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            sample = dataset[index]
            Image.fromarray(sample.image).save(folder / "images" / split / f"{index:03d}.png")
            Image.fromarray(sample.label).save(folder / "masks" / split / f"{index:03d}.png")
            Image.fromarray(sample.instances.astype("uint16")).save(folder / "instances" / split / f"{index:03d}.png")
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(SHAPES_LABELS.names))
    (folder / "dataset.yaml").write_text(f"path: .\ntrain: images/train\nval: images/val\nmasks_dir: masks\nnames:\n{names}")


if __name__ == "__main__":
    main()
