"""The plainest FCN-8s and smp.Unet on CamVid's photographs, in a loop of their own, to compare upscore with.

    python benchmarks/photographs.py fcn8s CAMVID WEIGHTS      # trains; a JSON line at each validation
    python benchmarks/photographs.py unet CAMVID WEIGHTS
    python benchmarks/photographs.py time CAMVID WEIGHTS       # steps of upscore's loop and of this one, in turn

CAMVID holds images/{train,val}/*.jpg and masks/{train,val}/*.png, classes 0 to 10, anything
above is void. WEIGHTS are torchvision's of MobileNetV2. Batch 8, crops 352×480, flips, scales
0.75 to 1.5, AdamW 1e-3 with weight decay 1e-4, poly 0.9, plain cross-entropy: the recipe of
``upscore recipes camvid``. Nothing but the timing uses upscore; whole images are evaluated.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from timing import is_installed, machine, report, summary
from torch import Tensor, nn

from upscore.models.backbones import import_timm

CLASSES, VOID, BATCH, CROP = 11, 255, 8, (352, 480)
RGB_MEAN, RGB_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Pair = tuple[Path, np.ndarray]


class PlainestFCN8s(nn.Module):
    """1×1 scores on strides 8, 16 and 32, zero at first, each resized to the next finer one and added."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        timm = import_timm()
        # Both networks list the same layers in the same order, under other names.
        names = [name for name in timm.create_model("mobilenetv2_100").state_dict() if not name.startswith("classifier")]
        tensors = [tensor for name, tensor in torch.load(weights, weights_only=True).items() if name.startswith("features.")]
        self.backbone = timm.create_model("mobilenetv2_100", features_only=True, out_indices=(2, 3, 4))
        missing, _ = self.backbone.load_state_dict(dict(zip(names, tensors, strict=True)), strict=False)
        assert not missing
        self.scores = nn.ModuleList(nn.Conv2d(channels, CLASSES, 1) for channels in self.backbone.feature_info.channels())
        for layer in self.scores:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        finer = [score(features) for score, features in zip(self.scores, self.backbone(x), strict=True)]
        y = finer[2]
        for scores in finer[1::-1]:
            y = scores + F.interpolate(y, size=scores.shape[-2:], mode="bilinear")
        return F.interpolate(y, size=x.shape[-2:], mode="bilinear")


class Unet(nn.Module):
    """smp's, on images padded to multiples of 32."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        import segmentation_models_pytorch as smp

        self.net = smp.Unet("mobilenet_v2", encoder_weights=None, classes=CLASSES)
        self.net.encoder.load_state_dict(torch.load(weights, weights_only=True))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        return self.net(F.pad(x, (0, -width % 32, 0, -height % 32), mode="replicate"))[..., :height, :width]


def load(root: Path, split: str) -> list[Pair]:
    pairs = []
    for path in sorted((root / "images" / split).glob("*.jpg")):
        mask = cv2.imread(str(root / "masks" / split / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED)
        mask[mask >= CLASSES] = VOID
        pairs.append((path, mask))
    assert pairs, f"{root}: no images in images/{split}"
    return pairs


def read(path: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def normalized(images: np.ndarray) -> Tensor:
    x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 255
    return (x - torch.tensor(RGB_MEAN).view(1, 3, 1, 1)) / torch.tensor(RGB_STD).view(1, 3, 1, 1)


def varied(pair: Pair, rng: random.Random) -> tuple[np.ndarray, np.ndarray]:
    image, mask = read(pair[0]), pair[1]
    scale = rng.uniform(0.75, 1.5)
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    image, mask = cv2.resize(image, size), cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    below, beside = max(0, CROP[0] - size[1]), max(0, CROP[1] - size[0])
    image = cv2.copyMakeBorder(image, 0, below, 0, beside, cv2.BORDER_CONSTANT, value=(124, 116, 104))
    mask = cv2.copyMakeBorder(mask, 0, below, 0, beside, cv2.BORDER_CONSTANT, value=VOID)
    y, x = rng.randint(0, image.shape[0] - CROP[0]), rng.randint(0, image.shape[1] - CROP[1])
    window = np.s_[y : y + CROP[0], x : x + CROP[1]]
    mirror = -1 if rng.random() < 0.5 else 1
    return image[window][:, ::mirror], mask[window][:, ::mirror]


def steps_of(model: nn.Module, train: list[Pair], *, epochs: int, rng: random.Random) -> Iterator[float]:
    """Yield the loss of each step."""
    in_all = epochs * (len(train) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 - step / in_all) ** 0.9)
    for _ in range(epochs):
        rng.shuffle(train)
        for first in range(0, len(train) - BATCH + 1, BATCH):
            model.train()
            images, masks = zip(*(varied(pair, rng) for pair in train[first : first + BATCH]), strict=True)
            loss = F.cross_entropy(model(normalized(np.stack(images))), torch.from_numpy(np.stack(masks)).long(), ignore_index=VOID)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            yield loss.item()


def evaluate(model: nn.Module, val: list[Pair]) -> dict[str, Any]:
    model.eval()
    counts = np.zeros((CLASSES, CLASSES), np.int64)
    with torch.inference_mode():
        for path, mask in val:
            label = model(normalized(read(path)[None])).argmax(1)[0].numpy()
            valid = mask < CLASSES
            counts += np.bincount(CLASSES * mask[valid].astype(int) + label[valid], minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    hits = np.diag(counts)
    iou = hits / (counts.sum(0) + counts.sum(1) - hits)
    return {"miou": float(np.nanmean(iou)), "pixel_accuracy": float(hits.sum() / counts.sum()), "iou": iou.tolist()}


def train(model: nn.Module, data: Path, *, epochs: int, every: int, seed: int) -> None:
    pairs, val = load(data, "train"), load(data, "val")
    an_epoch, losses, seconds = len(pairs) // BATCH, [], 0.0
    steps = steps_of(model, pairs, epochs=epochs, rng=random.Random(seed))
    for epoch in range(1, epochs + 1):
        began = time.perf_counter()
        losses = [next(steps) for _ in range(an_epoch)]
        seconds += time.perf_counter() - began
        row = {"epoch": epoch, "loss": sum(losses) / an_epoch, "training_seconds": round(seconds)}
        print(json.dumps(row | (evaluate(model, val) if epoch % every == 0 or epoch == epochs else {})), flush=True)


class InTurn:
    """A display of upscore's loop that takes a step of the other loop after each of upscore's, and times both."""

    def __init__(self, other: Callable[[], object], *, warmup: int) -> None:
        self.other, self.warmup = other, warmup
        self.seconds: dict[str, list[float]] = {"plainest": [], "upscore": []}
        self.began = 0.0

    def begin(self, **_: Any) -> None:
        self.began = time.perf_counter()

    def step(self, **_: Any) -> None:
        between = time.perf_counter()
        self.other()
        now = time.perf_counter()
        if self.warmup:
            self.warmup -= 1
        else:
            self.seconds["upscore"].append(between - self.began)
            self.seconds["plainest"].append(now - between)
            print(f"upscore {between - self.began:.2f} s, plainest {now - between:.2f} s", flush=True)
        self.began = time.perf_counter()

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **values: None


def compare_steps(data: Path, weights: Path, *, steps: int, threads: int) -> None:
    """Time whole steps: reading, varying, forward, backward, update."""
    from upscore.training.launch import train as train_with_upscore
    from upscore.training.recipe import Recipe

    warmup = 2
    pairs = load(data, "train")[: BATCH * (warmup + steps)]
    plain = steps_of(PlainestFCN8s(weights), pairs, epochs=10**6, rng=random.Random(0))
    display = InTurn(lambda: next(plain), warmup=warmup)
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder) / "data"
        for kind, suffix in (("images", "jpg"), ("masks", "png")):
            for split, chosen in (("train", pairs), ("val", pairs[:1])):
                (few / kind / split).mkdir(parents=True)
                for path, _ in chosen:
                    (few / kind / split / f"{path.stem}.{suffix}").symlink_to((data / kind / "train" / f"{path.stem}.{suffix}").resolve())
        (few / "dataset.yaml").write_text((data / "dataset.yaml").read_text())
        recipe = Recipe.load("camvid").with_values(
            {
                "data.path": str(few / "dataset.yaml"),
                "model.weights": str(weights),
                "augment.crop_size": list(CROP),
                "run.batch_size": BATCH,
                "run.epochs": 1,
                "run.out": str(Path(folder) / "run"),
            }
        )
        train_with_upscore(recipe, listener=lambda: display)
    setting = {"batch": BATCH, "crop": list(CROP), "threads": threads, "steps": len(display.seconds["upscore"])}
    results = summary(display.seconds, peer="plainest")
    report({"what": "a training step on CamVid", **setting, "results": results, **machine("torch", "timm")})


def main() -> None:
    global BATCH, CROP
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("what", choices=["fcn8s", "unet", "time"])
    flags.add_argument("data", type=Path)
    flags.add_argument("weights", type=Path)
    flags.add_argument("--epochs", type=int, default=20)
    flags.add_argument("--every", type=int, default=5, help="epochs between validations")
    flags.add_argument("--steps", type=int, default=12, help="to time")
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--threads", type=int, default=2)
    flags.add_argument("--batch", type=int, default=BATCH)
    flags.add_argument("--crop", type=int, nargs=2, default=CROP)
    values = flags.parse_args()
    BATCH, CROP = values.batch, tuple(values.crop)
    torch.set_num_threads(values.threads)
    cv2.setNumThreads(1)
    torch.manual_seed(values.seed)
    import_timm()  # mends torchvision's import, which smp needs, where torch has no CUDA
    if values.what == "unet" and not is_installed("segmentation_models_pytorch"):
        return
    if values.what == "time":
        compare_steps(values.data, values.weights, steps=values.steps, threads=values.threads)
    else:
        network = {"fcn8s": PlainestFCN8s, "unet": Unet}[values.what](values.weights)
        train(network, values.data, epochs=values.epochs, every=values.every, seed=values.seed)


if __name__ == "__main__":
    main()
