"""Rules that find what is wrong with a dataset's masks in the values that they store.

Masks store numbers, and what a number means is a convention that people mistake: objects
saved as 255, which means ignored; a background that is not named; classes numbered from 1;
half of the files in one encoding and half in another; edges blurred by a resize. Each rule
finds one such mistake. A remedy makes the masks be read as they were meant; where they can
be meant in two ways, each has its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from upscore.data.finding import Finding
from upscore.data.mask_rules.coverage import find_missing_classes
from upscore.data.mask_rules.encodings import find_blurred_masks, find_mixed_encodings, find_object_as_255
from upscore.data.mask_rules.palettes import find_different_palettes
from upscore.data.mask_rules.values import find_ignored_splits, find_undefined_values, find_unmapped_values
from upscore.data.stored_masks import AllMasks, StoredMasks

__all__ = ["RULES", "apply_rules"]

RULES = (
    find_ignored_splits, find_different_palettes, find_mixed_encodings, find_blurred_masks, find_object_as_255, find_undefined_values,
    find_unmapped_values,
)  # fmt: skip
"""The rules in their order: the first fatal finding hides what the later ones would find."""


def apply_rules(parts: Sequence[StoredMasks], *, training: bool = True) -> list[Finding]:
    """Return what is wrong with the masks of one dataset: one fatal finding, or any number of others.

    Parameters
    ----------
    parts : sequence of StoredMasks
        Its splits, with common names and label_mapping; they are examined together.
    training : bool
        Whether the first of them is trained on: fewer than two classes are then fatal.
    """
    if not parts or not all(len(part.keys) for part in parts):
        return []
    masks = AllMasks(parts)
    others: list[Finding] = []
    found = (finding for rule in RULES for finding in rule(masks))
    shown = (finding for i, part in enumerate(parts) for finding in find_missing_classes(masks, part, trained=training and i == 0))
    for findings in (found, shown):
        for finding in findings:
            if finding.fatal:
                return [finding]
            others.append(finding)
    return others
