"""Several networks that label an image together, in one folder.

::

    edeconvnet/
    ├── ensemble.json      how they are combined, card
    ├── member-1/          bundles
    └── member-2/

Each member has its own inference settings, of which ``proposals`` count: DeconvNet over proposals and
FCN over whole images are EDeconvNet (Noh, Hong and Han, ICCV 2015, §5.2). An ensemble may come from anywhere, as a bundle
may: reading one runs no code, and follows no path in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from torch import nn

from upscore.errors import BundleError
from upscore.files import beside, refuse_other_contents, replace_folder
from upscore.input_spec import InputSpec
from upscore.models.bundle import ENSEMBLE, Bundle, find_bundle, refuse_unless_bundle
from upscore.models.manifest import FORMAT_VERSION, Card, as_json, read_document, write_document
from upscore.settings import InferenceSettings
from upscore.types import LabelSpace

__all__ = ["Ensemble", "check_output_folder", "find_model", "load_model"]

MAX_MEMBERS = 16
"""Members of an ensemble."""


class EnsembleManifest(BaseModel):
    """``ensemble.json``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal["upscore-ensemble"] = "upscore-ensemble"
    version: int = FORMAT_VERSION
    members: int = Field(ge=1, le=MAX_MEMBERS)
    inference: dict[str, JsonValue] = {}
    card: Card = {}


@dataclass(frozen=True)
class Ensemble:
    """Networks of the same classes; BundleError where there is no member, there are too many, or their classes differ."""

    members: tuple[Bundle, ...]  #: at most 16
    inference: InferenceSettings = field(default_factory=InferenceSettings)  #: defaults for all; ``combine`` is how they are combined
    card: dict[str, Any] = field(default_factory=dict, repr=False)  #: where it comes from; JSON values

    def __post_init__(self) -> None:
        if not 1 <= len(self.members) <= MAX_MEMBERS:
            raise BundleError(f"found {len(self.members)} networks for an ensemble, expected 1 to {MAX_MEMBERS}")
        for other in self.members[1:]:
            if difference := self.members[0].labels.difference(other.labels):
                raise BundleError(f"the bundles' classes differ: {difference}: an ensemble needs the same labels")
            if difference := self.members[0].input.difference(other.input):
                raise BundleError(f"the bundles' images differ: {difference}: an ensemble needs networks of the same images")

    @classmethod
    def of(cls, models: Sequence[Bundle | Ensemble], *, inference: InferenceSettings | None = None) -> Self:
        """Return the ensemble of all networks in ``models``, with the settings of the first where none are given; errors as the class."""
        members = [member for model in models for member in (model.members if isinstance(model, Ensemble) else (model,))]
        return cls(tuple(members), inference or (models[0].inference if models else InferenceSettings()))

    def resolve_settings(self, settings: InferenceSettings | None = None, **overrides: object) -> Self:
        """Return the ensemble with the settings that are in force after ``settings`` and ``overrides``.

        ``settings``, or the ensemble's own, hold for all networks, but for ``proposals``, which each network has of
        its own: EDeconvNet is DeconvNet over proposals and FCN over whole images. Given ``proposals`` go to the
        networks that use proposals anyway, or if none does to the first. Then ``inference.proposals`` are those of the first
        network that uses any. RecipeError where an override is unknown or impossible.
        """
        inference = (settings or self.inference).with_overrides(**overrides)
        given = overrides.get("proposals", settings.proposals if settings is not None else None)
        own = [member.inference for member in self.members]
        receivers = [i for i, its in enumerate(own) if its.proposals is not None] or [0]
        own = [its.with_overrides(proposals=given) if i in receivers else its for i, its in enumerate(own)]
        used = [its.proposals for its in own if its.proposals is not None]
        for proposals in used:  # each member's own, under the scales of all
            proposals.check_pixels(max_scale=max(inference.scales))
        members = tuple(replace(member, inference=its) for member, its in zip(self.members, own, strict=True))
        return replace(self, members=members, inference=inference.model_copy(update={"proposals": used[0] if used else None}))

    @property
    def labels(self) -> LabelSpace:
        """Those of every member."""
        return self.members[0].labels

    @property
    def input(self) -> InputSpec:
        """The images that every member takes; the statistics, by which pages show bands, are the first one's."""
        return self.members[0].input

    def save(self, folder: str | Path) -> Path:
        """Write the ensemble to ``folder``, which afterwards holds all of it, or what it held before; return the folder.

        An ensemble that is there already is replaced. OutputError where the folder holds something else, or cannot be written.
        """
        with replace_folder(Path(folder), what="ensemble", holds=_contents()) as partial:
            for path, member in zip(_member_paths(partial, len(self.members)), self.members, strict=True):
                member.save(path)
            manifest = EnsembleManifest(
                members=len(self.members), inference=self.inference.model_dump(mode="json"), card=as_json(self.card)
            )
            write_document(manifest, partial / ENSEMBLE)
        return Path(folder).absolute()

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read and check an ensemble.

        BundleError where there is none, it or a member is damaged, foreign or made by a newer version, or the classes differ.
        """
        folder = _find(Path(folder)) or Path(folder)
        manifest = read_document(folder / ENSEMBLE, EnsembleManifest)
        members = []
        for path in _member_paths(folder, manifest.members):
            if path.is_symlink() or not path.is_dir():
                raise BundleError(f"the ensemble '{folder}' lacks {path.name}: copy it again")
            members.append(Bundle.load(path))
        try:
            inference = InferenceSettings.from_stored(manifest.inference)
        except BundleError as error:
            raise BundleError(f"the ensemble '{folder}' cannot be used: {error}") from error
        return cls(tuple(members), inference, dict(manifest.card))


def load_model(folder: str | Path, *, build: Callable[..., nn.Module] | str | None = None) -> Bundle | Ensemble:
    """Read what is in a folder: a bundle, a run's best, or an ensemble; BundleError where there is none, or it is damaged.

    ``build`` is as in :meth:`upscore.models.bundle.Bundle.load`.
    """
    return Ensemble.load(folder) if _find(Path(folder)) is not None else Bundle.load(folder, build=build)


def find_model(folder: str | Path) -> Path:
    """Return the folder that :func:`load_model` reads; BundleError where there is none."""
    return Path(folder) if _find(Path(folder)) is not None else find_bundle(folder)


def check_output_folder(folder: Path, model: Bundle | Ensemble) -> None:
    """Raise an OutputError where ``model`` could not be saved for what the folder holds."""
    if isinstance(model, Bundle):
        refuse_unless_bundle(folder)
    else:
        refuse_other_contents(folder, what="ensemble", holds=_contents())


def _find(folder: Path) -> Path | None:
    """Return where the ensemble is: here, or beside where its replacement was interrupted; None where there is none."""
    try:
        return next((path for path in (folder, beside(folder, "replaced")) if (path / ENSEMBLE).is_file()), None)
    except (OSError, ValueError):
        return None


def _member_paths(folder: Path, count: int) -> list[Path]:
    return [folder / f"member-{number}" for number in range(1, count + 1)]


def _contents() -> tuple[str, ...]:
    return (ENSEMBLE, *(path.name for path in _member_paths(Path(), MAX_MEMBERS)))
