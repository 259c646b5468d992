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

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from upscore.errors import BundleError
from upscore.files import beside, refuse_other_contents, replace_folder
from upscore.models.bundle import ENSEMBLE, Bundle, find_bundle, refuse_unless_bundle
from upscore.models.manifest import FORMAT_VERSION, Card, as_json, read_document, write_document
from upscore.settings import InferenceSettings
from upscore.types import LabelSpace

__all__ = ["Ensemble", "check_place", "find_model", "load_model"]

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
    """Networks of the same classes.

    Parameters
    ----------
    members : tuple of Bundle
        At most 16.
    inference : InferenceSettings
        Defaults for prediction that hold for all of them; ``combine`` says how they are combined.
    card : dict
        Where it comes from; JSON values.

    Raises
    ------
    BundleError
        There is no member, there are too many, or their classes differ.
    """

    members: tuple[Bundle, ...]
    inference: InferenceSettings = field(default_factory=InferenceSettings)
    card: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.members) <= MAX_MEMBERS:
            raise BundleError(f"found {len(self.members)} networks for an ensemble, expected 1 to {MAX_MEMBERS}")
        for other in self.members[1:]:
            if difference := self.members[0].labels.difference(other.labels):
                raise BundleError(f"the bundles' classes differ: {difference}: an ensemble needs the same labels")

    @classmethod
    def of(cls, models: Sequence[Bundle | Ensemble], *, inference: InferenceSettings | None = None) -> Self:
        """Return the ensemble of all networks in ``models``, with the settings of the first where none are given.

        Raises
        ------
        BundleError
            As the class.
        """
        members = [member for model in models for member in (model.members if isinstance(model, Ensemble) else (model,))]
        return cls(tuple(members), inference or (models[0].inference if models else InferenceSettings()))

    def resolve_settings(self, settings: InferenceSettings | None = None, **overrides: object) -> Self:
        """Return the ensemble with the settings that are in force after ``settings`` and ``overrides``.

        ``settings``, or the ensemble's own, hold for all networks, but for ``proposals``, which each network has of
        its own: EDeconvNet is DeconvNet over proposals and FCN over whole images. Given ``proposals`` go to the
        networks that use proposals anyway, or if none does to the first.

        Returns
        -------
        Ensemble
            ``inference.proposals`` are those of the first network that uses any; each member's are its own.

        Raises
        ------
        RecipeError
            An override is unknown or impossible.
        """
        inference = (settings or self.inference).with_overrides(**overrides)
        given = overrides.get("proposals", settings.proposals if settings is not None else None)
        own = [member.inference for member in self.members]
        receivers = [i for i, one in enumerate(own) if one.proposals is not None] or [0]
        own = [one.with_overrides(proposals=given) if i in receivers else one for i, one in enumerate(own)]
        used = [one.proposals for one in own if one.proposals is not None]
        for proposals in used:  # each member's own, under the scales of all
            proposals.check_pixels(max_scale=max(inference.scales))
        members = tuple(replace(member, inference=one) for member, one in zip(self.members, own, strict=True))
        return replace(self, members=members, inference=inference.model_copy(update={"proposals": used[0] if used else None}))

    @property
    def labels(self) -> LabelSpace:
        """The classes of every member."""
        return self.members[0].labels

    def save(self, folder: str | Path) -> Path:
        """Write the ensemble to ``folder``, which afterwards holds all of it, or what it held before.

        An ensemble that is there already is replaced.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        OutputError
            The folder holds something else, or cannot be written.
        """
        with replace_folder(Path(folder), what="ensemble", holds=_contents()) as partial:
            for path, member in zip(_member_paths(partial, len(self.members)), self.members, strict=True):
                member.save(path)
            together = EnsembleManifest(
                members=len(self.members), inference=self.inference.model_dump(mode="json"), card=as_json(self.card)
            )
            write_document(together, partial / ENSEMBLE)
        return Path(folder).absolute()

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read and check an ensemble.

        Raises
        ------
        BundleError
            There is none, it or a member is damaged, foreign or made by a newer version, or the classes of its members differ.
        """
        folder = _find(Path(folder)) or Path(folder)
        together = read_document(folder / ENSEMBLE, EnsembleManifest)
        members = []
        for path in _member_paths(folder, together.members):
            if path.is_symlink() or not path.is_dir():
                raise BundleError(f"the ensemble '{folder}' lacks {path.name}: copy it again")
            members.append(Bundle.load(path))
        try:
            inference = InferenceSettings.from_stored(together.inference)
        except BundleError as error:
            raise BundleError(f"the ensemble '{folder}' cannot be used: {error}") from error
        return cls(tuple(members), inference, dict(together.card))


def load_model(folder: str | Path) -> Bundle | Ensemble:
    """Read what is in a folder: a bundle, a run's best, or an ensemble.

    Raises
    ------
    BundleError
        There is none of them, or it is damaged.
    """
    return Ensemble.load(folder) if _find(Path(folder)) is not None else Bundle.load(folder)


def find_model(folder: str | Path) -> Path:
    """Return the folder that :func:`load_model` reads.

    Raises
    ------
    BundleError
        There is none.
    """
    return Path(folder) if _find(Path(folder)) is not None else find_bundle(folder)


def check_place(folder: Path, model: Bundle | Ensemble) -> None:
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
