"""The flags that say how an image is looked at; every command that labels images takes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from upscore.inference.predictor import Predictor

__all__ = ["InferenceOptions", "inference_options"]

PANEL = "How images are looked at"


@dataclass(frozen=True)
class InferenceOptions:
    """What a command was told; each field is a flag of it."""

    flips: Annotated[bool, typer.Option("--flips", help="Average with the mirrored image.", rich_help_panel=PANEL)] = False
    scales: Annotated[
        str | None,
        typer.Option(metavar="S,S,…", help="Average over zooms, such as 0.75,1,1.25.", show_default=False, rich_help_panel=PANEL),
    ] = None
    tile: Annotated[
        str | None,
        typer.Option(
            metavar="auto|whole|N",
            help="Work in tiles of N pixels; the result is the same. Networks that look at the whole image (squeeze-and-excitation, "
            "attention) get overlapping tiles of 256 pixels or more, blended: nearly the same, and said.",
            show_default="auto",
            rich_help_panel=PANEL,
        ),
    ] = None
    proposals: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Look at the N most promising boxes of the image, as DeconvNet does at 50; "
            "of an ensemble, with the networks made for that.",
            show_default="as the bundle says",
            rich_help_panel=PANEL,
        ),
    ] = None
    no_proposals: Annotated[
        bool, typer.Option("--no-proposals", help="Look at whole images, whatever the bundle says.", rich_help_panel=PANEL)
    ] = False
    aggregate: Annotated[
        str | None,
        typer.Option(
            metavar="max|mean",
            help="Of the boxes over a pixel, the greatest score or the mean.",
            show_default="as the bundle says",
            rich_help_panel=PANEL,
        ),
    ] = None
    boxes: Annotated[
        Path | None,
        typer.Option(
            "--boxes", metavar="FILE.json", help="Look at these boxes, by image.", show_default="found on edges", rich_help_panel=PANEL
        ),
    ] = None
    edges: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL", help="Find boxes on the edges of a structured-edge model.", show_default="computed here", rich_help_panel=PANEL
        ),
    ] = None
    ensemble: Annotated[
        list[str] | None,
        typer.Option(
            "--ensemble",
            metavar="BUNDLE",
            help="Another network to label with; may be repeated.",
            show_default=False,
            rich_help_panel=PANEL,
        ),
    ] = None
    combine: Annotated[
        str | None,
        typer.Option(
            metavar="mean|product",
            help="Of an ensemble, average probabilities or multiply scores.",
            show_default="as the bundle says",
            rich_help_panel=PANEL,
        ),
    ] = None
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="fp32|bf16",
            help="What the network computes in; scores differ a little.",
            show_default="as the bundle was validated",
            rich_help_panel=PANEL,
        ),
    ] = None
    crf: Annotated[
        bool | None,
        typer.Option(
            "--crf/--no-crf",
            help="Refine by the image's colours, with the fully connected CRF.",
            show_default="as the bundle says",
            rich_help_panel=PANEL,
        ),
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any other setting, such as proposals.min_side=112 or crf.iterations=10; may be repeated.",
            show_default=False,
            rich_help_panel=PANEL,
        ),
    ] = None

    def predictor(self, bundle: str, *, device: str) -> Predictor:
        """Return what labels images so."""
        from upscore.cli.console import say_aside
        from upscore.inference import segmenter
        from upscore.inference.predictor import Predictor
        from upscore.proposals import CachedProposer, EdgeBoxes, proposals_folder

        if self.edges is not None and self.boxes is not None:
            raise typer.BadParameter("boxes of a file need no edges: leave one out", param_hint="--edges and --boxes")
        propose = None if self.edges is None else CachedProposer(EdgeBoxes(model=self.edges), proposals_folder())
        overrides = self.overrides()
        predictor = Predictor([bundle, *(self.ensemble or ())], device=device, boxes=self.boxes, propose=propose, **overrides)
        if predictor.settings.precision == "bf16" and not segmenter.bf16_is_native(predictor.device.type):
            say_aside("the bundle's bfloat16 is emulated here, and slow: --precision fp32 is faster, and its scores differ a little")
        return predictor

    def overrides(self) -> dict[str, Any]:
        """Return the settings by name, as :class:`upscore.inference.predictor.Predictor` takes them."""
        changes: dict[str, Any] = _parsed(self.settings or [])
        changes |= {"flips": True} if self.flips else {}
        changes |= {"combine": self.combine} if self.combine is not None else {}
        changes |= {"precision": self.precision} if self.precision is not None else {}
        if self.scales is not None:
            try:
                changes["scales"] = tuple(float(scale) for scale in self.scales.split(","))
            except ValueError:
                raise typer.BadParameter(f"found '{self.scales}', expected numbers such as 0.75,1,1.25", param_hint="--scales") from None
        if self.tile is not None:
            if self.tile not in ("auto", "whole") and not (self.tile.isascii() and self.tile.isdecimal() and len(self.tile) < 10):
                raise typer.BadParameter(f"found '{self.tile}', expected auto, whole or a number of pixels", param_hint="--tile")
            changes["tile"] = int(self.tile) if self.tile.isdecimal() else self.tile
        for section, given in (("proposals", {"max_proposals": self.proposals, "aggregate": self.aggregate}), ("crf", {})):
            values = changes.get(section, {}) | {name: value for name, value in given.items() if value is not None}
            if values:
                changes[section] = values
        if self.no_proposals:
            if "proposals" in changes or self.boxes is not None or self.edges is not None:
                raise typer.BadParameter("leave out what says how proposals are looked at", param_hint="--no-proposals")
            changes["proposals"] = False
        if self.crf is False and "crf" in changes:
            raise typer.BadParameter("leave out --set crf.…: there is no CRF to set", param_hint="--no-crf")
        if self.crf is not None and "crf" not in changes:
            changes["crf"] = self.crf
        return changes

    def words(self) -> list[str]:
        """Return the flags as they were given."""
        pairs = (
            ("--scales", self.scales),
            ("--tile", self.tile),
            ("--proposals", self.proposals),
            ("--aggregate", self.aggregate),
            ("--boxes", self.boxes),
            ("--edges", self.edges),
            *(("--ensemble", bundle) for bundle in self.ensemble or ()),
            ("--combine", self.combine),
            ("--precision", self.precision),
            *(("--set", setting) for setting in self.settings or ()),
        )
        words = [word for flag, value in pairs if value is not None for word in (flag, str(value))]
        crf = {None: [], True: ["--crf"], False: ["--no-crf"]}[self.crf]
        return [*(["--flips"] if self.flips else []), *words, *(["--no-proposals"] if self.no_proposals else []), *crf]


def inference_options(*, leave_out: tuple[str, ...] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the flags of :class:`InferenceOptions`, in place of its parameter ``looking``, but for those it cannot heed."""
    flags = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=kind)
        for field, kind in zip(fields(InferenceOptions), get_type_hints(InferenceOptions, include_extras=True).values(), strict=True)
        if field.name not in leave_out
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def run(**values: Any) -> None:
            looking = InferenceOptions(**{flag.name: values.pop(flag.name) for flag in flags})
            command(**values, looking=looking)

        own = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in inspect.signature(command, eval_str=True).parameters.values()]
        parameters = [one for one in own if one.name != "looking"] + flags
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # which typer reads
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate


def _parsed(settings: list[str]) -> dict[str, Any]:
    """Return ``margin=64`` and ``crf.iterations=10`` as nested values; bare words are strings."""
    from upscore.documents import parse_value

    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        *section, key = name.strip().split(".")
        if not equals or len(section) > 1 or section not in ([], ["proposals"], ["crf"]):
            raise typer.BadParameter(f"found '{setting}', expected NAME=VALUE, such as crf.iterations=10 or margin=64", param_hint="--set")
        (values.setdefault(section[0], {}) if section else values)[key] = parse_value(text)
    return values
