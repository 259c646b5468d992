"""Which annotation of an image counts, where several people have annotated it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from upscore.text import listed, literal

__all__ = ["ANNOTATION_CHOICES", "AnnotationChoice"]

ANNOTATION_CHOICES = ("first", "latest", "ground-truth", "annotator:WHO")
"""What may be chosen; WHO is the e-mail address or the number of a person."""

_PEOPLE_NAMED = 6


class AnnotationChoice:
    """Chooses an annotation of each task of a file, and counts what a user should know.

    Parameters
    ----------
    text : str
        One of :data:`ANNOTATION_CHOICES`. ``latest``: the one that was changed last. ``ground-truth``: the one marked as such, and the
        first where none is. ``annotator:WHO``: the first one of a person.

    Examples
    --------
    >>> annotations = [{"completed_by": 3, "result": []}, {"completed_by": {"id": 5, "email": "ann@site.org"}, "result": []}]
    >>> AnnotationChoice("annotator:ann@site.org").choose(annotations) is annotations[1]
    True
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._person = text.partition(":")[2] if text.startswith("annotator:") else ""
        self._people: dict[str, None] = {}
        self._several = self._unmarked = self._by_others = 0

    def choose(self, annotations: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
        """Return the annotation of a task that counts, from those not cancelled; None where there is none of the person."""
        by = [_people(annotation) for annotation in annotations]
        self._people |= {names[0]: None for names in by if names}
        self._several += len(annotations) > 1
        if self._person:
            chosen: dict[str, Any] | None = next(
                (annotation for annotation, names in zip(annotations, by, strict=True) if self._person in names), None
            )
            self._by_others += chosen is None and bool(annotations)
            return chosen
        if not annotations:
            return None
        if self._text == "latest":
            last: dict[str, Any] = max(reversed(annotations), key=_changed)  # also in the file, of those with equal times
            return last
        marked = [annotation for annotation in annotations if annotation.get("ground_truth") is True]
        if self._text == "ground-truth" and marked:
            return marked[0]
        self._unmarked += self._text == "ground-truth" and len(annotations) > 1
        return annotations[0]

    def messages(self, file: str) -> list[str]:
        """Return what was chosen in a file, by its name, in sentences."""
        found = []
        if self._several:
            which = f"that of {literal(self._person, 80)}" if self._person else f"the {self._text.replace('-', ' ')}"
            unmarked = f", or the first, as in {self._unmarked} that have none" if self._unmarked else ""
            people = f" (of {self.people()})" if self._people else ""
            others = listed([choice for choice in ANNOTATION_CHOICES if choice.partition(":")[0] != self._text.partition(":")[0]])
            found.append(
                f"{self._several} tasks in {file} have several annotations{people}, of which {which} counts{unmarked}: "
                f"the option annotation chooses another ({others})"
            )
        if self._by_others:
            found.append(f"{self._by_others} tasks in {file} have no annotation of {literal(self._person, 80)} and were left out")
        return found

    def people(self) -> str:
        """Return who annotated what was seen, as a list of names."""
        return listed(list(self._people), _PEOPLE_NAMED)


def _people(annotation: dict[str, Any]) -> tuple[str, ...]:
    """Return the e-mail address and the number of who made an annotation, as far as they are given."""
    given = annotation.get("completed_by")
    names = (given.get("email"), given.get("id")) if isinstance(given, dict) else (given,)
    return tuple(str(name)[:200] for name in names if type(name) in (int, str) and name != "")


def _changed(annotation: dict[str, Any]) -> str:
    """Return when an annotation was changed, as text that is in the order of time: ISO 8601, or seconds in old exports."""
    return str(annotation.get("updated_at") or annotation.get("created_at") or "")[:40]
