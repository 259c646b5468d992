"""The sections of a recipe: every setting with its type, range, default and meaning.

Ranges that a core value checks (:class:`~upscore.data.transforms.Augmentation`) stand there alone:
the section builds the value, so that what a plan accepts a run accepts.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field, ValidationInfo, field_serializer, field_validator

from upscore.data.open_dataset import describe_readers
from upscore.data.reading_options import decided
from upscore.data.transforms import Augmentation
from upscore.errors import DataError, RecipeError
from upscore.input_spec import RGB, InputSpec
from upscore.losses import CLASS_WEIGHTINGS, LOSSES, Objective, class_weights, losses_reading
from upscore.training.optimizer_section import OptimizerSection
from upscore.training.schedules import SCHEDULES
from upscore.training.section import Section, described, one_of

__all__ = [
    "WHOLE_IMAGE",
    "AugmentSection",
    "CropsSection",
    "DataSection",
    "InputSection",
    "Lengthening",
    "LossSection",
    "ModelSection",
    "OptimizerSection",
    "RunSection",
    "ScheduleSection",
    "Section",
]


class DataSection(Section):
    """Where the images and masks are."""

    path: str | None = Field(None, description=describe_readers())
    train: str = Field("train", description="the split to train on")
    val: str = Field("val", description="the split to validate on")
    classes: Literal["", "voc"] = Field(
        "", description="'voc' maps the data's classes, such as COCO's, to PASCAL VOC's 21 by name; all others are background"
    )
    split_by: str = Field(
        "",
        description="what images have in common that are in one split, where the data is not divided: 'folder', 'column:NAME' of a table "
        "of pairs, or a regular expression whose first group it is; names with a running number, where not given",
    )
    crowd: Literal["ignore", "class"] = Field("ignore", description="what COCO's crowd regions are: ignored, or of their objects' class")
    unlabelled: Literal["format", "background", "ignore"] = Field(
        "format", description="what pixels that no shape of an annotation file covers are; 'format' leaves it to the format"
    )
    drawing: Literal["centres", "tool"] = Field(
        "centres", description="which pixels belong to a shape: those whose centres do, or those that the format's own tool draws"
    )
    annotation: str = Field(
        "first",
        pattern="^(first|latest|ground-truth|annotator:.+)$",
        description="which annotation counts where several people annotated an image in Label Studio: 'first', 'latest', 'ground-truth' "
        "(the first where none is marked so), or 'annotator:WHO', an e-mail address or a number",
    )
    skip_bad: bool = Field(
        False, description="leave out training images that cannot be read, at most half of them; they are listed in skipped.txt"
    )
    refuse_overlap: bool = Field(
        False, description="make it an error, and no warning, that images to validate on are among those to train on; it lists them"
    )
    fingerprint: str | None = Field(None, description="of the training split, found when a run starts; a resumed run must find the same")

    @property
    def reading(self) -> dict[str, str]:
        """What was decided on how the data is read: options of ``open_dataset``, which are also the flags of verbs that read it."""
        return ({"classes": self.classes} if self.classes else {}) | decided(self.model_dump())


class InputSection(Section):
    """The images: their bands and the type of their values; RGB of 8 bits, unless the files hold something else."""

    bands: list[str] | None = Field(
        None, description="name of each band, in order; found in the files, which name red, green and blue at most"
    )
    dtype: Literal["uint8", "uint16", "float32"] | None = Field(
        None, description="type of the values; found in the files. 'uint8' without bands reads every image as RGB of 8 bits"
    )
    mean: list[float] | None = Field(
        None,
        description="of each band, in fractions of the type's largest value (floats as they are); measured on the training images, but for "
        "RGB of 8 bits, where the weights determine it",
    )
    std: list[float] | None = Field(None, description="standard deviation of each band, likewise")
    shown: list[str] | None = Field(
        None, description="the band that pages show as grey, or the three that they show as red, green and blue"
    )

    @property
    def is_open(self) -> bool:
        """Whether bands or type are still to be found in the files."""
        return self.bands is None or self.dtype is None

    def spec(self, found: InputSpec = RGB) -> InputSpec:
        """Return the images that the section describes; what it leaves open is as in ``found``. RecipeError where it is impossible."""
        bands = self.bands or (RGB.bands if self.dtype == "uint8" else found.bands)
        try:
            return InputSpec(
                tuple(bands), self.dtype or found.dtype, tuple(self.mean or ()), tuple(self.std or ()), tuple(self.shown or ())
            )
        except DataError as error:
            raise RecipeError(f"[input]: {error}") from None


class CropsSection(Section):
    """What a training image is: a whole image, or a crop around an object, as DeconvNet is trained in two stages (ICCV 2015, §4.2)."""

    of: Literal["images", "objects", "proposals"] = Field(
        "images",
        description="'objects' crops around each object and labels all else background (stage 1), 'proposals' around proposals that "
        "overlap one, with all labels (stage 2); both need instance masks",
    )
    background: str = Field("background", description="objects: the class of everything else")
    enlarge: float = Field(1.2, ge=1, le=10, description="side of a crop divided by that of its box")
    side: int = Field(250, ge=1, le=4096, description="height and width that a crop is resized to, in pixels")
    min_side: int = Field(1, ge=1, le=4096, description="objects or proposals with a shorter side, in pixels, are left out")
    balanced: bool = Field(True, description="repeat crops of rare classes, up to the number of the median class")
    min_overlap: float = Field(0.5, gt=0, le=1, description="proposals: smallest IoU with the bounding box of an object")
    proposer: Literal["edge-boxes", "selective-search", "windows"] = Field("edge-boxes", description="proposals: what finds them")
    max_proposals: int = Field(2000, ge=1, le=100_000, description="proposals: largest number for an image")
    alpha: float = Field(0.65, gt=0, lt=1, description="edge-boxes: IoU of neighbouring sliding windows")
    beta: float = Field(0.6, gt=0, le=1, description="edge-boxes: largest IoU of a box with a better one; its paper has 0.75")
    min_area: float = Field(
        0.002,
        ge=1e-5,
        le=1e8,
        description="edge-boxes: smallest area, a fraction of the image up to 1 and pixels above it; its code has 1000",
    )
    boxes: str = Field("", description="proposals: a JSON file of boxes that replaces the proposer")
    edges: str = Field("", description="proposals: your own file of a structured-edge model, for edge-boxes")


class ModelSection(Section):
    """The network, its backbone and the weights it starts from."""

    name: str = Field("fcn8s", description="an architecture; 'upscore models' lists them")
    backbone: str | None = Field(None, description="'alexnet', 'googlenet', 'vgg16' or the name of a timm network")
    weights: str | None = Field(None, description="of the backbone: a file, 'imagenet' (downloaded) or 'none'")
    start_from: str | list[str] | None = Field(
        None,
        description="a bundle to start from: of a coarser FCN, or of the same network (staged training); for fcn32s-late the list of two, "
        "FCN-32s on the first bands and on the others",
    )
    new_classes: bool = Field(False, description="start_from: for other classes, with newly initialised score layers")
    freeze: list[str] = Field(
        [],
        description="parts that are not trained, by the beginning of their modules' names, such as ['backbone']; "
        "their batch normalisation and dropout stay in evaluation mode",
    )
    arguments: dict[str, Any] = Field({}, description="the architecture's own, such as width or upsampling")


WHOLE_IMAGE = "image"
"""What ``augment.crop_size`` is where images are not cropped."""


class AugmentSection(Section):
    """How training images are varied; validation images never are."""

    crop_size: list[int] | Literal["image"] | None = Field(
        None, description="[H, W] in pixels; 'image' is each image whole, at its own size, one in each part of a step"
    )
    scale: list[float] | None = Field(
        None, min_length=2, max_length=2, description="[smallest, largest] factor that an image is resized by"
    )
    flip: float | None = Field(None, description="probability of flipping left to right")
    vertical_flip: float = Field(Augmentation.vertical_flip, description="probability of flipping top to bottom")
    rotation: float | None = Field(None, description="largest angle, in degrees, in both directions")
    brightness: float | None = Field(None, description="largest relative change, 0 is off")
    contrast: float | None = Field(None, description="largest relative change, 0 is off")
    saturation: float | None = Field(None, description="largest relative change, 0 is off")
    hue: float | None = Field(None, description="largest shift, in turns of the colour wheel, 0 is off")
    elastic: float = Field(
        Augmentation.elastic, description="standard deviation of elastic displacements, in pixels of the crop; 0 is off, U-Net's is 10"
    )
    elastic_grid: int = Field(Augmentation.elastic_grid, description="points on each side of the grid of random displacements")
    border: str = Field(
        Augmentation.border,
        description="what lies beyond an image: 'ignore' is the mean colour and 'black' is 0, both with ignored labels; "
        "'mirror' mirrors image and label",
    )

    @field_validator("crop_size", mode="before")
    @classmethod
    def _size_or_word(cls, value: Any) -> Any:
        sides = isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(n, int) and not isinstance(n, bool) for n in value)
        if value is not None and value != WHOLE_IMAGE and not sides:
            raise ValueError(f"expected [H, W] in pixels, or '{WHOLE_IMAGE}' for whole images")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _augmentation_accepts(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and value != WHOLE_IMAGE:
            given: dict[str, Any] = {str(info.field_name).replace("crop_size", "crop"): tuple(value) if isinstance(value, list) else value}
            Augmentation(**given)
        return value

    def largest_size(self, largest: tuple[int, int] | None) -> tuple[int, int]:
        """Return height and width of the largest training image: the crop's, or where images are not cropped those of the ``largest``."""
        if self.crop_size is not None and not isinstance(self.crop_size, str):
            return self.crop_size[0], self.crop_size[1]
        assert largest is not None
        factor = self.scale[1] if self.scale else 1.0
        return max(1, round(largest[0] * factor)), max(1, round(largest[1] * factor))

    def augmentation(self, images: InputSpec = RGB) -> Augmentation:
        """Return the augmentation that the complete section describes, of images of these bands."""
        assert self.crop_size is not None
        assert self.scale is not None
        values = self.model_dump(exclude={"crop_size", "scale"})
        crop = None if isinstance(self.crop_size, str) else (self.crop_size[0], self.crop_size[1])
        return Augmentation(crop=crop, scale=(self.scale[0], self.scale[1]), input=images, **values)


class LossSection(Section):
    """What training minimises: a weighted sum of losses."""

    terms: dict[Annotated[str, one_of(LOSSES)], Annotated[float, Field(gt=0)]] = Field(
        {"cross_entropy": 1.0}, min_length=1, description=f"weight of each loss in the sum. {described(LOSSES)}"
    )
    class_weights: str | list[float] | dict[str, float] | None = Field(
        None,
        description="a number for each class, by name, such as {road = 0.14, pole = 4.56}, or as a list; or a weighting by frequency. "
        f"{described(CLASS_WEIGHTINGS)}",
    )
    normalize: Literal["valid", "part", "none"] = Field(
        "valid",
        description="'valid' divides by the labelled pixels of the whole step; 'part' is the mean over its parts (run.accumulate) of the "
        "mean over each part's labelled pixels, as with Caffe's iter_size; 'none' sums over an image, as FCN's release",
    )
    sampling: float = Field(
        Objective.sampling, description="probability that a pixel's loss counts (loss sampling = patchwise training, FCN §3.4); 1 uses all"
    )
    label_smoothing: float = Field(
        Objective.label_smoothing, description="cross_entropy: fraction of the target probability spread evenly over all classes; 0 is off"
    )
    focal_gamma: float = Field(
        Objective.focal_gamma, description="focal: exponent that lowers the weight of pixels that are already right; 0 is cross-entropy"
    )
    ohem_fraction: float = Field(Objective.ohem_fraction, description="ohem: fraction of each image's pixels used, the hardest")
    ohem_threshold: float = Field(
        Objective.ohem_threshold, description="ohem: pixels whose class has a probability below this are used beyond that fraction"
    )
    border_weight: float = Field(0.0, ge=0, le=1e6, description="weight added to background between two objects; 0 is off, U-Net's is 10")
    border_sigma: float = Field(5.0, gt=0, le=1000, description="how far that weight reaches, in pixels of the crop")
    border_of: list[str] = Field([], description="classes whose connected components are the objects, for data without instance masks")
    separate_with: str = Field("", description="a class put between touching objects, two pixels wide; '' for none")

    @field_validator("sampling", "label_smoothing", "focal_gamma", "ohem_fraction", "ohem_threshold")
    @classmethod
    def _loss_accepts(cls, value: float, info: ValidationInfo) -> float:
        loss = LOSSES[losses_reading(str(info.field_name))[0]]
        with torch.random.fork_rng(devices=()):
            loss.function(torch.zeros(1, 2, 1, 1), torch.zeros(1, 1, 1, dtype=torch.uint8), **{loss.settings[str(info.field_name)]: value})
        return value

    @field_validator("class_weights", mode="before")
    @classmethod
    def _weighting_accepted(cls, value: Any) -> Any:
        numbers = list(value.values()) if isinstance(value, dict) else value
        if isinstance(numbers, list) and all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in numbers):
            numbers = [float(number) for number in numbers]
            value = dict(zip(value, numbers, strict=True)) if isinstance(value, dict) else numbers
        elif not isinstance(value, str | None):
            raise ValueError(f"expected one of {', '.join(CLASS_WEIGHTINGS)}, or one number for each class")
        if value is not None:
            counts = torch.ones(len(numbers) if isinstance(numbers, list) else 1)
            class_weights(counts, counts, weighting=numbers)
        return value


class ScheduleSection(Section):
    """How the learning rate changes over the run."""

    name: Annotated[str, one_of(SCHEDULES)] = Field("poly", description=described(SCHEDULES))
    power: float = Field(0.9, gt=0, le=10, description="poly: the exponent")
    step_epochs: int = Field(10, ge=1, description="step: epochs between two falls")
    step_every: int = Field(0, ge=0, description="step: steps between two falls; above 0 it replaces step_epochs")
    gamma: float = Field(0.1, gt=0, le=1, description="step: the factor of a fall")
    warmup_steps: int | None = Field(None, ge=0, description="steps of linear rise at the beginning")


class Lengthening(Section):
    """Where a run was lengthened: what its recipe was until then."""

    step: Annotated[int, Field(ge=1)]
    """Steps it had taken."""
    of: Annotated[int, Field(ge=1)]
    """Steps it was planned for."""
    recipe: str
    """The recipe's digest."""


class RunSection(Section):
    """How long, on what, and where to."""

    out: str | None = Field(None, description="the run folder")
    epochs: int | None = Field(None, ge=1, le=1_000_000, description="times every image is read")
    steps: int | None = Field(
        None, ge=1, le=10**9, description="largest number of steps: the last epoch is shortened; gives run.epochs where that is not set"
    )
    batch_size: int | None = Field(None, ge=1, le=65536, description="images in one step over all devices")
    accumulate: int = Field(1, ge=1, le=65536, description="parts that a step is computed in; changes memory and not the objective")
    sampling: Literal["epoch", "replacement"] = Field(
        "epoch",
        description="'epoch' reads every image once in each epoch, in random order; 'replacement' draws each image of a step from all, as "
        "FCN's release: an epoch is then as many draws as there are images",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="of everything random")
    device: Literal["cpu", "cuda", "mps"] | None = Field(None, description="cpu, cuda or mps")
    devices: int | None = Field(None, ge=1, le=1024, description="processes, one device each")
    precision: Literal["fp32", "bf16", "fp16"] | None = Field(
        None, description="fp32; bf16 where the arithmetic is native; fp16 with loss scaling, on cuda, validated and saved for fp32"
    )
    sync_batch_norm: bool = Field(False, description="batch normalisation by the statistics of all devices together, on cuda")
    channels_last: bool | None = Field(None, description="memory layout")
    workers: int | None = Field(None, ge=0, le=256, description="processes that read images, per device")
    average: float | None = Field(
        None, ge=0, lt=1, description="decay per step of the running mean of the weights, which is validated and saved; 0 is off"
    )
    precise_bn: int = Field(
        0, ge=0, le=10**6, description="batches to measure the statistics of batch normalisation on, before validating and saving; 0 is off"
    )
    validate_every: float | None = Field(
        None, gt=0, description="epochs between validations: a whole number, or a fraction of one: 0.1 is ten times in each"
    )
    patience: int | None = Field(None, ge=0, description="validations without a better mIoU before the run stops; 0 never stops it")
    checkpoint_minutes: float = Field(
        10.0, gt=0, description="between checkpoints inside an epoch; every epoch that takes much longer than writing one ends with one"
    )
    tensorboard: bool | None = Field(None, description="event files in the run folder")
    lengthened: list[Lengthening] = Field(
        [], description="written where --resume is given more epochs: the step, the length until then, and that recipe's digest"
    )

    @field_validator("validate_every")
    @classmethod
    def _whole_or_fraction(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value != int(value):
            raise ValueError("expected whole epochs, or a fraction of one below 1")
        return value

    @field_serializer("validate_every")
    def _whole_as_integer(self, value: float | None) -> int | float | None:
        return int(value) if value is not None and value >= 1 else value  # 5 and not 5.0: digests are of what is written

    @property
    def inference_precision(self) -> Literal["fp32", "bf16"]:
        """The precision that the network is validated in, and that its bundle predicts in."""
        return "bf16" if self.precision == "bf16" else "fp32"

    def rows_per_epoch(self, steps_per_epoch: int) -> int:
        """Return how many rows of the log, each with a validation, an epoch has; 1 where validations are epochs apart."""
        every = self.validate_every or 1
        return 1 if every >= 1 else min(steps_per_epoch, round(1 / every))

    def total_steps(self, steps_per_epoch: int) -> int:
        """Return the optimiser steps of a run; ``epochs`` is set."""
        assert self.epochs is not None
        return min(steps_per_epoch * self.epochs, self.steps or steps_per_epoch * self.epochs)

    def planned_steps(self, step: int, *, steps_per_epoch: int) -> int:
        """Return for how many steps the run was planned when it took ``step``, counted from 0: its schedule's length then."""
        return next((before.of for before in self.lengthened if step < before.step), self.total_steps(steps_per_epoch))

    def lengthened_at(self, step: int) -> bool:
        """Return whether the run was lengthened when it had taken ``step`` steps."""
        return any(before.step == step for before in self.lengthened)
