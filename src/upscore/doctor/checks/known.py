"""Checks that other parts of upscore already make: on unreadable samples, and by the rules that masks are checked with before training."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from upscore.data.finding import Finding
from upscore.doctor.snapshot import Snapshot

__all__ = ["by_rules", "unreadable"]


def unreadable(check: str) -> Callable[[Snapshot], Iterator[Finding]]:
    """Return a function that finds the samples that cannot be read and are reported under ``check``."""
    return lambda snapshot: (finding for finding in snapshot.unreadable if finding.id == check)


def by_rules(check: str) -> Callable[[Snapshot], Iterator[Finding]]:
    """Return a function that finds what the rules on masks report under ``check``."""
    return lambda snapshot: (finding for finding in snapshot.rule_findings if finding.id == check)
