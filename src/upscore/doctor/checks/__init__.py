"""The checks, by family. To add one, write a function of a Snapshot and a record in the tuple of its family."""

from __future__ import annotations

from upscore.doctor.check import Check
from upscore.doctor.checks import balance, files, geometry, ignored, images, labels, sizes, splits, values

__all__ = ["CHECKS"]

CHECKS: tuple[Check, ...] = (
    *files.CHECKS, *values.CHECKS, *sizes.CHECKS, *geometry.CHECKS, *ignored.CHECKS, *balance.CHECKS, *splits.CHECKS, *images.CHECKS,
    *labels.CHECKS,
)  # fmt: skip
"""Every check, in the order in which they are shown."""
