"""How data is read where its layout leaves it open: flags that every verb that reads masks takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from upscore.cli.flag_groups import flag_group

__all__ = ["ReadingFlags", "reading_flags"]


def _flag(text: str, metavar: str, default: str) -> Any:
    return typer.Option(metavar=metavar, help=text, show_default=default, rich_help_panel="Reading the data")


@dataclass(frozen=True)
class ReadingFlags:
    """The flags of one command line; None is not given."""

    classes: Annotated[str, _flag("Map the data's classes, such as COCO's, to PASCAL VOC's 21 by name.", "voc", "the data's")] = ""
    split_by: Annotated[
        str | None,
        _flag(
            "Where the data has no splits: what images of one split have in common, the folder, a column of the table of pairs, or what "
            "the first group of a regular expression finds in their names.",
            "folder|column:NAME|REGEX",
            "names with a running number",
        ),
    ] = None
    crowd: Annotated[str | None, _flag("What COCO's crowd regions are.", "ignore|class", "ignore")] = None
    unlabelled: Annotated[str | None, _flag("What pixels that no shape covers are.", "format|background|ignore", "format")] = None
    drawing: Annotated[
        str | None,
        _flag("Which pixels belong to a shape: those whose centres do, or as the format's own tool draws it.", "centres|tool", "centres"),
    ] = None
    annotation: Annotated[
        str | None,
        _flag(
            "Which annotation counts where several people annotated an image in Label Studio; WHO is an e-mail address or a number.",
            "first|latest|ground-truth|annotator:WHO",
            "first",
        ),
    ] = None

    def options(self) -> dict[str, Any]:
        """Return the options of :func:`upscore.open_dataset`."""
        return asdict(self)


def reading_flags(*, leave_out: tuple[str, ...] = ()) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a verb the flags of :class:`ReadingFlags` in place of its parameter ``reading``, but for those in ``leave_out``."""
    return flag_group(ReadingFlags, "reading", leave_out=leave_out)
