"""``upscore predict`` beside a plain loop: PIL reads, the eager network predicts, PIL writes the palette PNG.

    python benchmarks/bench_predict.py [--images FOLDER] [--count 60] [--model fcn8s --backbone vgg16 --width 0.25]

Both label the same files with the same bundle, in turn, in one process and as processes of their own; the
plain loop writes no overlays. Label maps are asserted to be equal but for ties within rounding. What a process
imports is timed by itself. Without ``--images``, images of 360×480 are made.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timing import interleave, machine, report, summary

from upscore.inference.predict_files import predict_files
from upscore.inference.predictor import Predictor
from upscore.models.bundle import Bundle
from upscore.models.factory import create_model
from upscore.types import LabelSpace

CAMVID = Path(__file__).resolve().parents[2] / "shared" / "data" / "camvid" / "images" / "val"
CLASSES = 11
PLAIN = "plain loop"


def plain_loop(model: torch.nn.Module, palette: bytes, files: list[Path], out: Path) -> None:
    """What people write themselves."""
    out.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        for file in files:
            image = np.array(Image.open(file).convert("RGB"))
            logits = model(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)
            label_map = Image.fromarray(logits.argmax(1)[0].byte().numpy())
            label_map.putpalette(palette)
            label_map.save(out / f"{file.stem}.png")


def run_plain_loop(bundle: str, folder: str, out: str) -> None:
    """The plain loop as a process of its own."""
    loaded = Bundle.load(bundle)
    plain_loop(loaded.build(), loaded.labels.colours().tobytes(), sorted(Path(folder).iterdir()), Path(out))


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--images", type=Path, default=CAMVID)
    flags.add_argument("--count", type=int, default=60)
    flags.add_argument("--model", default="fcn8s")
    flags.add_argument("--backbone", default="vgg16")
    flags.add_argument("--width", type=float)
    flags.add_argument("--threads", type=int, default=torch.get_num_threads())
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--processes", action=argparse.BooleanOptionalAction, default=True)
    flags.add_argument("--plain", nargs=3, metavar=("BUNDLE", "FOLDER", "OUT"), help=argparse.SUPPRESS)
    values = flags.parse_args()
    torch.set_num_threads(values.threads)
    if values.plain:
        run_plain_loop(*values.plain)
        return
    with tempfile.TemporaryDirectory() as folder:
        report(measure(values, Path(folder)))


def measure(values: argparse.Namespace, folder: Path) -> dict[str, object]:
    files = _files(values.images, values.count, folder / "images")
    bundle = _bundle(values)
    bundle.save(folder / "bundle")
    predictor, model, palette = Predictor(bundle, device="cpu"), bundle.build(), bundle.labels.colours().tobytes()

    def ours(overlay: bool) -> Callable[[], object]:
        return lambda: list(predict_files(predictor, folder / "images", folder / f"ours-{overlay}", overlay=overlay))

    variants = {
        PLAIN: lambda: plain_loop(model, palette, files, folder / "plain"),
        "predict_files": ours(False),
        "predict_files, overlays": ours(True),
    }
    results = {"in one process": summary(interleave(variants, rounds=values.rounds), peer=PLAIN)}
    agreement = [np.mean(_read(folder / "plain", file) == _read(folder / "ours-True", file)) for file in files]
    assert min(agreement) > 0.999, f"the label maps differ: {min(agreement)}"
    if values.processes:
        results["as processes"] = summary(interleave(_processes(folder, values), rounds=values.rounds, warmup=0), peer=PLAIN)
    return {
        "what": f"{len(files)} images of {Image.open(files[0]).size} through {values.model} on {values.backbone}",
        "width": values.width,
        "threads": values.threads,
        "rounds": values.rounds,
        "results": results,
        "import_seconds": {name: _imports(code) for name, code in IMPORTS.items()} if values.processes else {},
        "equal_pixels": float(min(agreement)),
        **machine("torch", "Pillow", "numpy"),
    }


IMPORTS = {
    PLAIN: "import torch, numpy, PIL.Image; from upscore.models.bundle import Bundle",
    "upscore predict": "from upscore.inference.predict_files import predict_files",
}


def _processes(folder: Path, values: argparse.Namespace) -> dict[str, Callable[[], object]]:
    threads = ["--threads", str(values.threads)]
    plain = [sys.executable, __file__, *threads, "--plain", folder / "bundle", folder / "images", folder / "plain"]
    command = [sys.executable, "-m", "upscore.cli", "predict", folder / "bundle", folder / "images", "--device", "cpu", "--out"]

    def process(*words: object) -> Callable[[], object]:
        return lambda: subprocess.run([str(word) for word in words], check=True, capture_output=True)

    return {
        PLAIN: process(*plain),
        "upscore predict": process(*command, folder / "ours", "--no-overlay"),
        "upscore predict, overlays": process(*command, folder / "ours"),
    }


def _imports(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return round(time.perf_counter() - started, 2)


def _bundle(values: argparse.Namespace) -> Bundle:
    arguments = {} if values.model == "unet" else {"backbone": values.backbone}
    arguments |= {} if values.width is None else {"width": values.width}
    labels = LabelSpace(tuple(f"class {number}" for number in range(CLASSES)))
    torch.manual_seed(0)
    model = create_model(values.model, num_classes=CLASSES, **arguments)
    for name, parameter in model.named_parameters():
        if "score" in name and parameter.ndim == 4 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)  # they start at zero, where all classes are equal
    return Bundle.of(values.model, arguments, model, labels)


def _files(source: Path, count: int, folder: Path) -> list[Path]:
    """Return ``count`` images in a folder of their own."""
    folder.mkdir()
    if source.is_dir():
        for file in sorted(source.iterdir())[:count]:
            (folder / file.name).write_bytes(file.read_bytes())
    else:
        rng = np.random.default_rng(0)
        for number in range(count):
            small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
            small.resize((480, 360), Image.Resampling.BICUBIC).save(folder / f"{number:03}.jpg", quality=90)
    return sorted(folder.iterdir())


def _read(folder: Path, file: Path) -> np.ndarray:
    return np.asarray(Image.open(folder / f"{file.stem}.png"))


if __name__ == "__main__":
    main()
