"""The recipe: everything a run needs, as a value that a TOML file holds.

A setting left out is chosen from the data and the machine (:mod:`upscore.training.auto_config`)
before the run starts; the complete recipe, with the reason of every choice in its
``[chosen]`` table, is saved in the run folder and can be run again as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer, field_validator

from upscore.documents import parse_toml, parse_value
from upscore.errors import RecipeError, nearest_name
from upscore.files import read_text, write_atomically
from upscore.text import literal
from upscore.training.recipes import find_recipe

__all__ = [
    "MAY_CHANGE",
    "AugmentSection",
    "CropsSection",
    "DataSection",
    "Lengthening",
    "LossSection",
    "ModelSection",
    "OptimizerSection",
    "Recipe",
    "RunSection",
    "ScheduleSection",
    "describe_settings",
    "parse_settings",
]

MAY_CHANGE = ("data.path", "run.device", "run.devices", "run.workers", "run.checkpoint_minutes", "run.tensorboard")
"""Settings a resumed run may be given anew: where its data lies and how it is computed, not what is computed."""

LARGEST_FILE = 1 << 20
"""Bytes; a recipe is a page of text, and a file beyond this is something else."""

Size = Annotated[list[Annotated[int, Field(ge=1, le=65536)]], Field(min_length=2, max_length=2)]
Interval = Annotated[list[Annotated[float, Field(gt=0, le=16)]], Field(min_length=2, max_length=2)]
Term = Literal["cross_entropy", "focal", "ohem", "dice", "lovasz", "boundary"]
Strength = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True, protected_namespaces=(), allow_inf_nan=False)

    @field_validator("*", mode="after")
    @classmethod
    def _can_be_kept(cls, value: Any) -> Any:
        """Refuse a name whose bytes are no text, such as of a folder: TOML is UTF-8."""
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError("expected a name in UTF-8, which a recipe can keep: rename it, or choose another") from None
        return value


class DataSection(_Section):
    """Where the images and masks are."""

    path: str | None = Field(
        None, description="a dataset.yaml, a folder of images/ and masks/ or of a.jpg and a_mask.png, a PASCAL VOC folder, or 'shapes'"
    )
    train: str = Field("train", description="the split to learn from")
    val: str = Field("val", description="the split to validate on")
    fingerprint: str | None = Field(None, description="of the training split, found when a run starts; a resumed run must find the same")


class CropsSection(_Section):
    """What a training image is: whole, or cut around an object, as DeconvNet learns in two stages (ICCV 2015, §4.2)."""

    of: Literal["images", "objects", "proposals"] = Field(
        "images",
        description="'objects' cuts around each object and calls all else background (stage 1), 'proposals' around boxes that meet one, "
        "with all labels (stage 2); both need instance masks",
    )
    background: str = Field("background", description="objects: the class of everything else")
    enlarge: Annotated[float, Field(ge=1, le=10)] = Field(1.2, description="sides of a cut over those of its box")
    side: Annotated[int, Field(ge=1, le=4096)] = Field(250, description="height and width of a cut, before augment.crop_size")
    least_side: Annotated[int, Field(ge=1, le=4096)] = Field(
        1, description="leave out objects, or proposals, narrower or lower than that many pixels: slivers of what others hide"
    )
    balanced: bool = Field(True, description="repeat cuts of rare classes, up to the class in the middle")
    overlap: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="proposals: least intersection over union with an object's tight box"
    )
    by: Literal["edge-boxes", "selective-search", "windows"] = Field("edge-boxes", description="proposals: what finds them")
    most: Annotated[int, Field(ge=1, le=100_000)] = Field(2000, description="proposals: of an image, at most")
    boxes: str = Field("", description="proposals: a JSON file of boxes in place of finding them")
    edges: str = Field("", description="proposals: a structured-edge model file of your own for edge-boxes")


class ModelSection(_Section):
    """The network, its backbone and the weights it starts from."""

    name: str = Field("fcn8s", description="an architecture; 'upscore models' lists them")
    backbone: str | None = Field(None, description="'alexnet', 'googlenet', 'vgg16' or any timm backbone with strides 8, 16 and 32")
    weights: str | None = Field(None, description="of the backbone: a file, 'imagenet' (fetched) or 'none'")
    start_from: str | None = Field(None, description="a bundle to start from: of a coarser FCN, or of the same network (staged training)")
    new_classes: bool = Field(False, description="start_from: for other classes, by beginning the score layers anew")
    arguments: dict[str, Any] = Field(default_factory=dict, description="the architecture's own, e.g. width or upsampling")


class AugmentSection(_Section):
    """How training images vary; validation images never do."""

    crop_size: Size | None = Field(None, description="[H, W] in pixels")
    scale: Interval | None = Field(None, description="[smallest, largest] zoom")
    flip: Strength | None = Field(None, description="probability of a left-right mirror")
    rotation: Annotated[float, Field(ge=0, le=180)] | None = Field(None, description="largest turn, in degrees")
    brightness: Strength | None = Field(None, description="strength, 0 is off")
    contrast: Strength | None = Field(None, description="strength, 0 is off")
    saturation: Strength | None = Field(None, description="strength, 0 is off")
    hue: Annotated[float, Field(ge=0, le=0.5)] | None = Field(None, description="strength in turns of the colour wheel, 0 is off")
    elastic: Annotated[float, Field(ge=0, le=1000)] = Field(
        0.0, description="standard deviation of elastic displacements, in pixels of the crop; 0 is off, U-Net's is 10"
    )
    elastic_grid: Annotated[int, Field(ge=2, le=32)] = Field(3, description="knots a side of the grid they are drawn on")
    border: Literal["ignore", "mirror"] = Field(
        "ignore", description="what lies beyond an image: grey with ignored labels, or image and label as in a mirror"
    )

    @field_validator("scale")
    @classmethod
    def _ordered(cls, value: list[float] | None) -> list[float] | None:
        if value is not None and value[0] > value[1]:
            raise ValueError(f"the smallest zoom {value[0]:g} is above the largest {value[1]:g}")
        return value


class LossSection(_Section):
    """What training makes small: a sum of losses, and what is done to them."""

    terms: dict[Term, Annotated[float, Field(gt=0)]] = Field(
        {"cross_entropy": 1.0},
        min_length=1,
        description="weight of each loss that is added up: cross_entropy, focal, ohem, dice, lovasz, boundary",
    )
    class_weights: Literal["none", "median", "enet", "inverse"] | None = Field(None, description="how rare classes are lifted")
    normalize: Literal["valid", "none"] = Field(
        "valid", description="'valid' divides by the labelled pixels of the whole step; 'none' sums over an image, as the papers trained"
    )
    sampling: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="probability of keeping a pixel's loss (loss sampling = patchwise training, FCN §3.4); 1 keeps all"
    )
    focal_gamma: Annotated[float, Field(ge=0, le=20)] = Field(2.0, description="focal: how fast easy pixels fade")
    ohem_share: Annotated[float, Field(gt=0, le=1)] = Field(0.25, description="ohem: share of each image's pixels kept, the hardest")
    ohem_threshold: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="ohem: pixels whose class is less probable than this are kept beyond that share"
    )
    border_weight: Annotated[float, Field(ge=0, le=1e6)] = Field(
        0.0, description="weight added on the ground between two objects; 0 is off, U-Net's is 10"
    )
    border_sigma: Annotated[float, Field(gt=0, le=1000)] = Field(5.0, description="how far it reaches, in pixels of the crop")
    border_of: list[str] = Field(
        default_factory=list, description="classes whose connected pieces are the objects, for data without instance masks"
    )
    separate_with: str = Field("", description="a class put between touching objects, two pixels wide; '' leaves them")


class OptimizerSection(_Section):
    """How gradients become steps."""

    name: Literal["adamw", "sgd"] | None = Field(None, description="adamw or sgd")
    lr: Annotated[float, Field(gt=0, le=100)] | None = Field(None, description="the schedule's peak")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="SGD's")
    weight_decay: Annotated[float, Field(ge=0, le=1)] | None = Field(None, description="never on biases and norms")
    bias_lr: Annotated[float, Field(gt=0, le=100)] = Field(
        1.0, description="learning rate of biases over that of weights; the papers use 2"
    )


class ScheduleSection(_Section):
    """How the learning rate falls."""

    name: Literal["poly", "step", "constant"] = Field("poly", description="poly, step or constant")
    power: Annotated[float, Field(gt=0, le=10)] = Field(0.9, description="poly: (1 - step / steps) ** power")
    step_epochs: Annotated[int, Field(ge=1)] = Field(10, description="step: epochs between two falls")
    step_every: Annotated[int, Field(ge=0)] = Field(
        0, description="step: the same in optimizer steps; above 0 it takes the place of step_epochs"
    )
    gamma: Annotated[float, Field(gt=0, le=1)] = Field(0.1, description="step: the factor of a fall")
    warmup_steps: Annotated[int, Field(ge=0)] | None = Field(None, description="steps of linear rise before it")


class Lengthening(_Section):
    """Where a run was lengthened: what its recipe was until then."""

    step: Annotated[int, Field(ge=1)]
    """Steps it had taken."""
    of: Annotated[int, Field(ge=1)]
    """Steps it was planned for."""
    recipe: str
    """The recipe's digest."""


class RunSection(_Section):
    """How long, on what, and where to."""

    out: str | None = Field(None, description="the run folder")
    epochs: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(None, description="times every image is read")
    steps: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = Field(
        None, description="steps to take at most: the last epoch is cut short; gives run.epochs where that is not set"
    )
    batch_size: Annotated[int, Field(ge=1, le=65536)] | None = Field(None, description="images in one step over all devices")
    accumulate: Annotated[int, Field(ge=1, le=65536)] = Field(
        1, description="parts a step is computed in; changes memory and not the objective"
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(0, description="of everything random")
    device: Literal["cpu", "cuda", "mps"] | None = Field(None, description="cpu, cuda or mps")
    devices: Annotated[int, Field(ge=1, le=1024)] | None = Field(None, description="processes, one device each")
    precision: Literal["fp32", "bf16"] | None = Field(None, description="fp32, or bf16 where the arithmetic is native")
    channels_last: bool | None = Field(None, description="memory layout")
    workers: Annotated[int, Field(ge=0, le=256)] | None = Field(None, description="processes that read images, per device")
    average: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="decay per step of the running mean of the weights that is evaluated and kept; 0 is off"
    )
    precise_bn: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        0,
        description="batches that batch normalisation's statistics are measured over before a network is evaluated or kept; 0 is off",
    )
    validate_every: Annotated[float, Field(gt=0)] | None = Field(
        None, description="epochs, whole ones or a part of one: 0.1 is ten times in each"
    )
    patience: Annotated[int, Field(ge=1)] | None = Field(None, description="validations without a better mIoU before the run stops")
    checkpoint_minutes: Annotated[float, Field(gt=0)] = Field(
        10.0, description="between checkpoints inside an epoch; one ends every epoch that takes much longer than writing it"
    )
    tensorboard: bool | None = Field(None, description="event files in the run folder")
    lengthened: list[Lengthening] = Field(
        default_factory=list,
        description="written where --resume is given more epochs: up to which step the run was planned for how many, and that "
        "recipe's digest",
    )

    @field_validator("validate_every")
    @classmethod
    def _whole_or_a_part(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value != int(value):
            raise ValueError("expected whole epochs, or a part of one below 1")
        return value

    @field_serializer("validate_every")
    def _whole_as_such(self, value: float | None) -> int | float | None:
        return int(value) if value is not None and value >= 1 else value  # 5 and not 5.0: digests are of what is written

    def parts_of(self, *, an_epoch: int) -> int:
        """Return in how many parts, each with a validation and a row in the log, an epoch of ``an_epoch`` steps is run."""
        every = self.validate_every or 1
        return 1 if every >= 1 else min(an_epoch, round(1 / every))

    def steps_in_all(self, *, an_epoch: int) -> int:
        """Return the optimizer steps of a run whose epochs take ``an_epoch`` of them; ``epochs`` is set."""
        assert self.epochs is not None
        return min(an_epoch * self.epochs, self.steps or an_epoch * self.epochs)

    def steps_planned(self, step: int, *, an_epoch: int) -> int:
        """Return for how many steps the run was planned when it took ``step``, which is counted from 0: its schedule's length then."""
        return next((before.of for before in self.lengthened if step < before.step), self.steps_in_all(an_epoch=an_epoch))

    def lengthened_at(self, step: int) -> bool:
        """Return whether the run was lengthened when it had taken ``step`` steps."""
        return any(before.step == step for before in self.lengthened)


class Recipe(_Section):
    """Everything a run needs; settings that are ``None`` are still to be chosen.

    A value: read it from TOML with :meth:`load`, change it with :meth:`with_values`,
    write it with :meth:`save`. Unknown names are refused with the nearest known one.
    """

    data: DataSection = DataSection()
    crops: CropsSection = CropsSection()
    model: ModelSection = ModelSection()
    augment: AugmentSection = AugmentSection()
    loss: LossSection = LossSection()
    optimizer: OptimizerSection = OptimizerSection()
    schedule: ScheduleSection = ScheduleSection()
    run: RunSection = RunSection()
    chosen: dict[str, str] = Field(default_factory=dict, description="why each setting that was left open is what it is")

    @classmethod
    def parse(cls, values: dict[str, Any], *, source: str = "recipe") -> Recipe:
        """Return the recipe that nested ``values`` describe.

        Raises
        ------
        RecipeError
            A name is unknown (the nearest one is offered), or a value has the wrong type or range.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise RecipeError(f"{source}: {_first_fault(error)}") from None

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a recipe from a TOML file, or one that comes with upscore by its name.

        Raises
        ------
        RecipeError
            There is no recipe of that name, or the file is missing, too large, not TOML, or holds what a recipe does not.
        """
        path = find_recipe(path)
        text = read_text(path, max_bytes=LARGEST_FILE, what="a recipe", error=RecipeError)
        try:
            values = parse_toml(text)
        except ValueError as error:
            raise RecipeError(f"{path}: not valid TOML: {error}") from None
        return cls.parse(values, source=str(path))

    def save(self, path: str | Path) -> None:
        """Write the recipe as TOML, atomically; settings still open are left out."""
        write_atomically(Path(path), self.dumps().encode())

    def dumps(self) -> str:
        """Return the recipe as TOML text."""
        return tomli_w.dumps(self.model_dump(exclude_none=True, mode="json"))

    def with_values(self, values: Mapping[str, Any], *, source: str = "flags") -> Recipe:
        """Return a copy with the values of dotted setting names changed; the rest stays as it is.

        Raises
        ------
        RecipeError
            A name is unknown or a value does not fit; ``source`` is what the error calls them.
        """
        changed = self.model_dump()
        for name, value in values.items():
            *sections, key = name.split(".")
            place: Any = changed
            for section in sections:
                if not isinstance(place, dict) or not isinstance(place.get(section), dict):
                    known = [k for k, v in place.items() if isinstance(v, dict) and k != "chosen"] if isinstance(place, dict) else []
                    raise RecipeError(f"{source}: no section '{section}'{nearest_name(section, known)}; there are {', '.join(known)}")
                place = place[section]
            place[key] = value
            changed["chosen"].pop(name, None)
        if values.keys() & {"run.epochs", "run.steps"} and "run.lengthened" not in values:
            changed["run"]["lengthened"] = []  # of the length it had
        return type(self).parse(changed, source=source)

    def value_of(self, name: str) -> Any:
        """Return the value of a dotted setting name, such as ``optimizer.lr``; None where it is not set."""
        value: Any = self.model_dump()
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def open_settings(self) -> Iterator[str]:
        """Yield the dotted names of settings still to be chosen, in order."""
        for section, values in self.model_dump(exclude={"chosen"}).items():
            yield from (f"{section}.{key}" for key, value in values.items() if value is None)

    def digest(self) -> str:
        """Return 16 hexadecimal digits that name what determines the result: all but :data:`MAY_CHANGE`, ``run.out`` and ``chosen``.

        Settings that have their default do not count: a setting that a later version brings leaves the digests of earlier runs alone.
        """
        left_out = {*MAY_CHANGE, "run.out"}
        usual = type(self)().model_dump(mode="json")
        values = {
            f"{section}.{key}": value
            for section, values in self.model_dump(mode="json", exclude={"chosen"}).items()
            for key, value in values.items()
            if f"{section}.{key}" not in left_out and value != usual[section][key]
        }
        return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=8).hexdigest()

    def digests(self) -> tuple[str, ...]:
        """Return the digest, and those the recipe had before the run was lengthened."""
        return (self.digest(), *(before.recipe for before in self.run.lengthened))


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Return the dotted names and the values of ``section.key=value`` settings; values are TOML, bare words are strings.

    Raises
    ------
    RecipeError
        A setting is not of that form.
    """
    values = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or "." not in name:
            raise RecipeError(f"--set {setting}: expected section.key=value, such as optimizer.lr=1e-4")
        values[name.strip()] = parse_value(text)
    return values


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in fault["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if fault["type"] == "extra_forbidden":
        section: type[BaseModel] = Recipe
        for part in fault["loc"][:-1]:
            inner = section.model_fields[str(part)].annotation
            assert isinstance(inner, type)
            section = inner
        known = list(section.model_fields)
        return f"unknown setting '{place}'{nearest_name(str(fault['loc'][-1]), known)}; known there: {', '.join(known)}{more}"
    what = fault["msg"].removeprefix("Value error, ")
    return f"{place} = {literal(fault['input'])}: {what[:1].lower()}{what[1:]}{more}"


NEVER_CHOSEN = ("data.path", "data.fingerprint", "model.start_from", "run.steps")
"""Settings that stay as they are when left out: they are given, found or not there."""


def describe_settings() -> list[tuple[str, str, str]]:
    """Return (dotted name, default, meaning) of every setting, for help texts and documents."""
    rows = []
    for section, field in Recipe.model_fields.items():
        inner = field.annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            continue
        for key, setting in inner.model_fields.items():
            default, name = setting.get_default(call_default_factory=True), f"{section}.{key}"
            unset = "none" if name in NEVER_CHOSEN else "chosen"
            rows.append((name, unset if default is None else json.dumps(default), setting.description or ""))
    return rows
