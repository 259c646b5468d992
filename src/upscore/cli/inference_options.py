"""The inference options: flags that every verb that labels images takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upscore.cli.flag_groups import flag_group

if TYPE_CHECKING:
    from upscore.inference.predictor import Predictor

__all__ = ["PANELS", "InferenceOptions", "inference_options"]


PANELS = ("Inference options", "Proposals, ensembles and the CRF")
"""The groups of flags in a verb's help; the last one is of those that few need."""


PRESETS_HELP = (
    "'edeconvnet-paper' (DeconvNet over 50 of 2000 edge boxes, averaged with FCN-8s by probability; the CRF's numbers are not in the "
    "paper), 'edeconvnet-release' (as the authors' code: enlarged boxes of 112 pixels and more, scores multiplied with those of FCN-8s, "
    "and their CRF)."
)
"""The presets of ``upscore.settings.presets``, which help must not import; a test compares them."""


def _flag(*names: str, default: str | bool = "the run's", panel: str = PANELS[0], **values: Any) -> Any:
    return typer.Option(*names, show_default=default, rich_help_panel=panel, **values)


def _rare(*names: str, **values: Any) -> Any:
    return _flag(*names, panel=PANELS[1], **values)


@dataclass(frozen=True)
class InferenceOptions:
    """The inference options of one command line; each field is a flag."""

    flips: Annotated[bool, _flag("--flips", default=False, help="Average over the image and its mirror image.")] = False
    rotations: Annotated[
        bool,
        _flag(
            "--rotations",
            default=False,
            help="Average over the image turned by 0, 90, 180 and 270 degrees; with --flips, over the eight symmetries of the square.",
        ),
    ] = False
    scales: Annotated[str | None, _flag(metavar="S,S,…", default=False, help="Average over scales, such as 0.75,1,1.25.")] = None
    tile: Annotated[
        str | None,
        _flag(
            metavar="auto|whole|N",
            default="auto",
            help="Predict in tiles of N pixels; the result is the same. Networks whose receptive field is the whole image "
            "(squeeze-and-excitation, attention) get overlapping tiles of at least 256 pixels, which are blended; the result then "
            "differs a little, and a warning is printed.",
        ),
    ] = None
    precision: Annotated[
        str | None, _flag(metavar="fp32|bf16", help="Precision of the network's computation; results differ a little.")
    ] = None
    settings: Annotated[
        list[str] | None,
        _flag(
            "--set",
            metavar="NAME=VALUE",
            default=False,
            help="Any other setting, such as proposals.min_size=112 or crf.iterations=10; may be repeated.",
        ),
    ] = None
    preset: Annotated[
        str | None,
        _rare(
            metavar="NAME",
            default=False,
            help="Settings as a paper or its authors' code has them, which other options override: " + PRESETS_HELP,
        ),
    ] = None
    max_proposals: Annotated[
        int | None,
        _rare(
            metavar="N",
            min=1,
            help="Predict inside the N best proposals of each image, as DeconvNet does with 50; in an ensemble, only the networks "
            "made for proposals do.",
        ),
    ] = None
    no_proposals: Annotated[bool, _rare("--no-proposals", default=False, help="Predict whole images, whatever the run has.")] = False
    aggregate: Annotated[
        str | None, _rare(metavar="max|mean|sum", help="Where proposals overlap, take the maximum of their scores, the mean or the sum.")
    ] = None
    boxes: Annotated[Path | None, _rare(metavar="FILE.json", default="computed", help="Take each image's proposals from a file.")] = None
    edges: Annotated[
        Path | None,
        _rare(metavar="MODEL", default="computed without one", help="A structured-edge model file of your own for the edge boxes."),
    ] = None
    ensemble: Annotated[
        list[str] | None,
        _rare("--ensemble", metavar="RUN", default=False, help="Another network to combine with the first; may be repeated."),
    ] = None
    combine: Annotated[
        str | None, _rare(metavar="mean|product", help="In an ensemble, average the probabilities or multiply the scores.")
    ] = None
    crf: Annotated[
        bool | None, _rare("--crf/--no-crf", help="Refine the prediction by the image's colours, with the fully connected CRF.")
    ] = None

    second_head: Annotated[
        bool,
        _rare(
            "--second-head", default=False, help="Label by the second head of a network with two, such as SIFT Flow's geometric classes."
        ),
    ] = False

    def predictor(self, run: str, *, device: str) -> Predictor:
        """Return the predictor of a run, a bundle or an ensemble with these options."""
        from upscore.cli.console import print_aside
        from upscore.inference import segmenter
        from upscore.inference.predictor import Predictor

        if self.edges is not None and self.boxes is not None:
            raise typer.BadParameter("boxes of a file need no edge model: leave one of them out", param_hint="--edges and --boxes")
        overrides = self.overrides()
        predictor = Predictor(
            [run, *(self.ensemble or ())], device=device, boxes=self.boxes, edges=self.edges, second_head=self.second_head, **overrides
        )
        if predictor.settings.precision == "bf16" and not segmenter.bf16_is_native(predictor.device.type):
            print_aside(["the bundle's bfloat16 is emulated here, and slow: --precision fp32 is faster, and its results differ a little"])
        return predictor

    def overrides(self) -> dict[str, Any]:
        """Return the settings by name, as :class:`upscore.inference.predictor.Predictor` takes them."""
        changes: dict[str, Any] = _parsed(self.settings or [])
        changes |= {"flips": True} if self.flips else {}
        changes |= {"rotations": True} if self.rotations else {}
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
        given = {"max_proposals": self.max_proposals, "aggregate": self.aggregate}
        if proposals := changes.get("proposals", {}) | {name: value for name, value in given.items() if value is not None}:
            changes["proposals"] = proposals
        if self.no_proposals:
            if "proposals" in changes or self.boxes is not None or self.edges is not None:
                raise typer.BadParameter("leave out the other options of proposals", param_hint="--no-proposals")
            changes["proposals"] = False
        if self.crf is False and "crf" in changes:
            raise typer.BadParameter("leave out --set crf.…: the CRF is off", param_hint="--no-crf")
        if self.crf is not None and "crf" not in changes:
            changes["crf"] = self.crf
        if self.preset is None:
            return changes
        from upscore.settings import with_preset

        return with_preset(self.preset, changes)


def inference_options(*, leave_out: tuple[str, ...] = ()) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a verb the flags of :class:`InferenceOptions` in place of its parameter ``options``, but for those in ``leave_out``."""
    return flag_group(InferenceOptions, "options", leave_out=leave_out)


def _parsed(settings: list[str]) -> dict[str, Any]:
    """Return ``margin=64`` and ``crf.iterations=10`` as nested values; unquoted words are strings."""
    from upscore.documents import parse_value

    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        *section, key = name.strip().split(".")
        if not equals or section not in ([], ["proposals"], ["crf"]) or name.strip() in ("proposals", "crf"):
            raise typer.BadParameter(f"found '{setting}', expected NAME=VALUE, such as crf.iterations=10 or margin=64", param_hint="--set")
        (values.setdefault(section[0], {}) if section else values)[key] = parse_value(text)
    return values
