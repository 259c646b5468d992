"""Measure what docs/papers answers with numbers: `python docs/measure_answers.py STUDY`; it prints one JSON object.

Each study trains small networks on the synthetic dataset, on one thread, with Adam and a learning rate that falls to zero:

fields     one network with four dilations, which differ in nothing but the receptive field: mean IoU by the size of objects
labels     the same network, with fewer and fewer labelled pixels
alignment  FCN-8s whose skips are aligned, or some cells off in training, or only in evaluation; FCN-32s
gradients  how similar the gradients of two pixels are by their distance, and what a sample of pixels does to the error of a step's gradient
proposals  the time of DeconvNet over more and more proposals, relative to one pass over the image
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscore import create_model, measure_levels
from upscore.data.open_dataset import open_dataset
from upscore.inference.image_tensors import image_to_tensor
from upscore.inference.proposal_aggregation import over_boxes
from upscore.inference.segmenter import NetworkSegmenter
from upscore.metrics import ConfusionMatrix
from upscore.models.alignment import SkipFusion
from upscore.ops.receptive_field import measure_receptive_fields
from upscore.proposals import EdgeBoxes

SIZE, TRAIN, VAL, CLASSES = (128, 128), 400, 100, 7
STEPS, BATCH, LEARNING_RATE, SEEDS = 250, 8, 3e-3, (0, 1)
EDGES = (8, 16, 32)
"""Sizes of objects, the square roots of their areas in pixels, between which results are averaged."""


@dataclass(frozen=True)
class Scenes:
    """Images (N, 3, H, W), labels (N, H, W), and objects (N, H, W) by number."""

    images: Tensor
    labels: Tensor
    instances: npt.NDArray[np.int32]

    @classmethod
    def of(cls, split: str, count: int) -> "Scenes":
        """Return the first images of a split of the synthetic dataset."""
        data = open_dataset("shapes", split, size=SIZE, count=count)
        samples = [data[index] for index in range(count)]
        labels = [sample.label for sample in samples if sample.label is not None]
        instances = [sample.instances for sample in samples if sample.instances is not None]
        images = torch.stack([image_to_tensor(sample.image) for sample in samples])
        return cls(images, torch.from_numpy(np.stack(labels)).long(), np.stack(instances))


def dilated_network(dilation: int, channels: int = 16) -> nn.Sequential:
    """Return a network of stride 4 with four dilated convolutions: a receptive field of 12 + 32 × ``dilation`` pixels."""
    layers = [nn.Conv2d(3, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    for _ in range(4):
        convolution = nn.Conv2d(2 * channels, 2 * channels, 3, padding=dilation, dilation=dilation)
        layers += [convolution, nn.BatchNorm2d(2 * channels), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(2 * channels, CLASSES, 1))


def train(network: nn.Module, scenes: Scenes, seed: int, labels: Tensor | None = None) -> nn.Module:
    """Train on random batches of the scenes, with their own labels or those given, and return the network in eval mode."""
    labels = scenes.labels if labels is None else labels
    rng = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    network.train().to(memory_format=torch.channels_last)
    for _ in range(STEPS):
        batch = torch.randint(len(labels), (BATCH,), generator=rng)
        F.cross_entropy(predict(network, scenes.images[batch]), labels[batch], ignore_index=255).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return network.eval()


def predict(network: nn.Module, images: Tensor) -> Tensor:
    """Return logits of the images' size."""
    logits = network(images.contiguous(memory_format=torch.channels_last))
    return F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)


def label_maps(network: nn.Module, scenes: Scenes) -> npt.NDArray[np.uint8]:
    """Return the predicted classes of all scenes."""
    with torch.no_grad():
        return np.concatenate([predict(network, images).argmax(1).byte().numpy() for images in scenes.images.split(20)])


def mean_iou(truth: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8]) -> float:
    """Return the mean IoU in per cent."""
    matrix = ConfusionMatrix(CLASSES)
    matrix.add(truth, predicted)
    return 100 * matrix.metrics().mean_iou


def study_fields() -> dict[str, object]:
    """Train the network with each dilation, and evaluate it by the size of objects."""
    scenes, val = Scenes.of("train", TRAIN), Scenes.of("val", VAL)
    rows: dict[str, object] = {}
    for dilation in (1, 3, 8):
        results = []
        for seed in SEEDS:
            torch.manual_seed(seed)
            results.append(results_by_size(label_maps(train(dilated_network(dilation), scenes, seed), val), val))
        with torch.device("meta"):
            network = dilated_network(dilation).eval()
        (measured,) = measure_receptive_fields(lambda images, network=network: [network(images)])
        rows[f"receptive field {measured.geometry.receptive_field}"] = {
            name: [round(result[name], 2) for result in results] for name in results[0]
        }
    return rows


def results_by_size(predicted: npt.NDArray[np.uint8], val: Scenes) -> dict[str, float]:
    """Return mean IoU and how many objects are split or lost, of objects of each size.

    For the mean IoU of one size, the pixels of all other objects are ignored, and of the background all pixels that are farther than 8
    pixels from objects of this size. An object is split if no class has 75 % of its pixels, and lost if background has.
    """
    truth = val.labels.numpy().astype(np.uint8)
    kernel = torch.ones(1, 1, 17, 17)
    groups = np.full(truth.shape, -1)
    split: list[list[bool]] = [[] for _ in range(len(EDGES) + 1)]
    lost: list[list[bool]] = [[] for _ in range(len(EDGES) + 1)]
    for index, instances in enumerate(val.instances):
        for number in np.unique(instances[instances > 0]):
            inside = instances == number
            group = int(np.searchsorted(EDGES, inside.sum() ** 0.5))
            groups[index][inside] = group
            counts = np.bincount(predicted[index][inside], minlength=CLASSES)
            split[group].append(bool(counts.max() < 0.75 * counts.sum()))
            lost[group].append(bool(counts[0] >= 0.75 * counts.sum()))
    results = {"all: mean IoU": mean_iou(truth, predicted)}
    for group in range(len(EDGES) + 1):
        near = F.conv2d(torch.from_numpy(groups == group).float()[:, None], kernel, padding=8)[:, 0].numpy() > 0
        counted = (groups == group) | ((groups == -1) & near)
        name = f"{(0, *EDGES)[group]} to {(*EDGES, 'all')[group]}"
        results[f"{name}: mean IoU"] = mean_iou(np.where(counted, truth, 255).astype(np.uint8), predicted)
        results[f"{name}: split"] = 100 * fmean(split[group])
        results[f"{name}: lost"] = 100 * fmean(lost[group])
        results[f"{name}: objects"] = len(split[group])
    return results


def study_labels() -> dict[str, object]:
    """Train with the labels of some pixels alone: every image has its own random pixels, the same in every step."""
    scenes, val = Scenes.of("train", TRAIN), Scenes.of("val", VAL)
    rows: dict[str, object] = {}
    for fraction in (1.0, 0.1, 0.01, 0.001):
        results = []
        for seed in SEEDS:
            torch.manual_seed(seed)
            unknown = torch.rand(scenes.labels.shape, generator=torch.Generator().manual_seed(seed)) >= fraction
            network = train(dilated_network(3), scenes, seed, scenes.labels.masked_fill(unknown, 255))
            results.append(round(mean_iou(val.labels.numpy().astype(np.uint8), label_maps(network, val)), 2))
        rows[f"{100 * fraction:g} % of the pixels"] = results
    return rows


class SmallBackbone(nn.Module):
    """Five stages of two 3×3 convolutions, the first of stride 2, with batch normalisation."""

    padding, mean, std = "external", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

    def __init__(self, channels: tuple[int, ...] = (16, 32, 48, 64, 96)) -> None:
        super().__init__()
        self.stages, before = nn.ModuleList(), 3
        for after in channels:
            layers: list[nn.Module] = []
            for stride, width in ((2, before), (1, after)):
                layers += [nn.Conv2d(width, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            self.stages.append(nn.Sequential(*layers))
            before = after
        self.levels = {int(level.geometry.stride): level for level in measure_levels(self.eval().maps)}

    def maps(self, x: Tensor) -> list[Tensor]:
        """Return the map of each stage."""
        return [x := stage(x) for stage in self.stages]

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """Return the maps by stride."""
        return dict(zip((2, 4, 8, 16, 32), self.maps(x), strict=True))


@dataclass(frozen=True)
class Misaligned:
    """A skip whose features lie some cells further down and to the right than its scores say."""

    fusion: SkipFusion
    cells: int

    def __call__(self, scores: Tensor, upscore: nn.Module, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the skip returns, of features that are shifted."""
        return self.fusion(scores, upscore, features.roll((self.cells, self.cells), (-2, -1)))


def study_alignment() -> dict[str, object]:
    """Train FCN-8s with and without aligned skips, and FCN-32s."""
    scenes, val = Scenes.of("train", TRAIN), Scenes.of("val", VAL)
    truth = val.labels.numpy().astype(np.uint8)
    rows: dict[str, list[float]] = {}
    for seed in SEEDS:
        for name, cells in (("fcn32s", 0), ("fcn8s", 0), ("fcn8s", 1), ("fcn8s", 4)):
            torch.manual_seed(seed)
            network = create_model(name, backbone=SmallBackbone(), num_classes=CLASSES)
            if cells:
                misalign(network.decoder, cells)
            train(network, scenes, seed)
            row = f"{name}{f', {cells} off' if cells else ''}"
            rows.setdefault(row, []).append(round(mean_iou(truth, label_maps(network, val)), 2))
            if row == "fcn8s":
                misalign(network.decoder, 1)
                rows.setdefault("fcn8s, 1 off in evaluation alone", []).append(round(mean_iou(truth, label_maps(network, val)), 2))
    return dict(rows)


def misalign(decoder: nn.Module, cells: int) -> None:
    """Shift both skips of an FCN-8s by some cells."""
    for name in ("at_pool4", "at_pool3"):
        setattr(decoder, name, Misaligned(getattr(decoder, name), cells))


def study_gradients() -> dict[str, object]:
    """Compare the gradients of single pixels, of the last layer's weights, in a network that has learned for a third of its steps."""
    torch.manual_seed(0)
    scenes = Scenes.of("train", TRAIN)
    network = train(dilated_network(3), Scenes(scenes.images, scenes.labels, scenes.instances), 0)
    features = network[:-1]
    assert isinstance(features, nn.Sequential)
    score = network[-1]
    val = Scenes.of("val", VAL)
    with torch.no_grad():
        # The loss of pixel i has the gradient (p_i − y_i) ⊗ x_i, with x_i the features and y_i the label as a unit vector.
        x = torch.cat([features(images) for images in val.images.split(20)])
        labels = val.labels[:, 2::4, 2::4]
        error = F.softmax(score(x), 1) - F.one_hot(labels, CLASSES).permute(0, 3, 1, 2)
    gradients = torch.einsum("nkhw,nchw->nhwkc", error, x).flatten(3)
    mean = gradients.mean((0, 1, 2))
    centred = gradients - mean
    variance = centred.square().sum(-1).mean()
    rows: dict[str, object] = {}
    for cells in (1, 2, 4, 8, 16):
        product = (centred[:, :, cells:] * centred[:, :, :-cells]).sum(-1).mean() / variance
        rows[f"correlation at {4 * cells} pixels"] = round(float(product), 3)
    shuffled = centred[torch.randperm(len(centred), generator=torch.Generator().manual_seed(0))]
    rows["correlation of two images"] = round(float((centred * shuffled).sum(-1).mean() / variance), 3)
    rng = torch.Generator().manual_seed(1)
    for images, sampling in ((1, 1.0), (1, 0.25), (4, 0.25), (20, 0.05), (4, 1.0)):
        errors = []
        for _ in range(400):
            batch = torch.randint(len(gradients), (images,), generator=rng)
            sampled = torch.rand((images, *gradients.shape[1:3]), generator=rng) < sampling
            step = gradients[batch][sampled].sum(0) / (sampling * sampled.numel())
            errors.append(float((step - mean).square().sum()))
        rows[f"error of a step's gradient, {images} images, p = {sampling:g}"] = round(
            (fmean(errors) / float(mean.square().sum())) ** 0.5, 3
        )
    return rows


def study_proposals() -> dict[str, object]:
    """Time DeconvNet, an eighth as wide as the paper's, over the first proposals of an image of 375×500."""
    torch.manual_seed(0)
    network = create_model("deconvnet", num_classes=21, width=1 / 8).eval()
    image = open_dataset("shapes", "val", size=(375, 500), count=1)[0].image
    tensor, score = image_to_tensor(image), NetworkSegmenter(network).scores
    started = time.process_time()
    boxes = EdgeBoxes(max_proposals=200)(image)
    proposing = time.process_time() - started
    runs: dict[str, Callable[[], object]] = {"whole image": lambda: score(tensor[None])}
    for count in (1, 5, 10, 25, 50, 100):
        runs[f"{count} proposals"] = lambda count=count: over_boxes(score, tensor, boxes.best(count))
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(3):
        for name, run in runs.items():
            started = time.process_time()
            run()
            times[name].append(time.process_time() - started)
    one = median(times["1 proposals"])
    ratios: dict[str, object] = {name: round(median(seconds) / one, 2) for name, seconds in times.items()}
    return ratios | {"finding the proposals": round(proposing / one, 2), "proposals found": len(boxes)}


STUDIES: dict[str, Callable[[], dict[str, object]]] = {
    "fields": study_fields,
    "labels": study_labels,
    "alignment": study_alignment,
    "gradients": study_gradients,
    "proposals": study_proposals,
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(STUDIES[sys.argv[1]](), indent=2, ensure_ascii=False))
