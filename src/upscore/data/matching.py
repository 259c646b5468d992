"""Match masks to images by their names, or by a rule that all names follow.

A mask has its image's name. Where no mask has, all of them may still be named by one rule:
``a_mask`` for ``a``, ``a.jpg`` for ``a``, ``mask_7`` for ``img_7``, or ``a_gtFine_labelIds``
for ``a_leftImg8bit``. A rule counts if it gives every image a different mask.
"""

from __future__ import annotations

import difflib
import os.path
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from upscore.data.paired_files import Pair
from upscore.errors import DataError
from upscore.text import listed

__all__ = ["match_masks"]

_MAX_NEAREST = 3  # pairs of names that are nearly equal, in an error
_MAX_COMPARED = 1000  # masks whose names are compared for them
_MAX_OCCURRENCES = 8  # of an image's name in a mask's


def match_masks(
    images: Iterable[tuple[str, Path]],
    masks: Iterable[tuple[str, Path]],
    *,
    instances: Iterable[tuple[str, Path]] = (),
    extra_allowed: bool = False,
    warnings: list[str] | None = None,
    rule: str = "a mask has its image's name and folder, with a suffix such as .png",
) -> list[Pair]:
    """Pair images with their masks.

    A pair's key is its image's. Where letters with marks are composed in the name of one
    and decomposed in that of the other (Unicode's NFC and NFD), it is the composed form.

    Parameters
    ----------
    images, masks, instances : iterable of (key, path)
        A key is a path below its folder without the suffix.
    extra_allowed : bool
        Whether masks without an image are allowed, as where a list selects the images.
    warnings : list of str, optional
        Gets a sentence where names were paired by a rule.
    rule : str
        How masks are named, for the error.

    Returns
    -------
    list of Pair
        In the images' order.

    Raises
    ------
    DataError
        Two files have the same key, an image has no mask, or a mask no image; or masks of
        several kinds, each with its own rule, lie in one folder.
    """
    image_of = _by_key(images, "images")
    mask_of = _by_key(masks, "masks")
    instances_of = _by_key(instances, "instance masks")
    missing = [key for key in image_of if key not in mask_of]
    extra = [key for key in mask_of if key not in image_of]
    key_of = {key: key for key in image_of}
    if missing and extra:
        composed = {_composed(key): mask_of[key] for key in extra if not key.isascii()}
        for key in missing:
            if _composed(key) in composed:
                key_of[key] = _composed(key)
                mask_of[key] = composed[key_of[key]]
        renamed = {key_of[key] for key in missing if key in mask_of}
        missing = [key for key in missing if key not in mask_of]
        extra = [key for key in extra if _composed(key) not in renamed]
    if missing and extra and len(missing) == len(image_of):
        matched, rule = _by_rule(missing, extra)
        if matched:
            mask_of |= {key: mask_of[mask] for key, mask in matched.items()}
            taken = set(matched.values())
            missing, extra = [], [key for key in extra if key not in taken]
            if warnings is not None:
                warnings.append(f"masks are paired with images by the rule {rule}")
    faults = []
    if missing:
        faults.append(f"{len(missing)} of {len(image_of)} images have no mask ({listed(missing)})")
    if extra and not extra_allowed:
        faults.append(f"{len(extra)} of {len(set(mask_of.values()))} masks have no image ({listed(extra)})")
    if faults:
        nearest = _nearest_names(missing, extra)
        raise DataError(f"{' and '.join(faults)}{nearest}: {rule}")
    marked = {_composed(key): path for key, path in instances_of.items() if not key.isascii()}
    return [Pair(key_of[key], path, mask_of[key], instances_of.get(key, marked.get(_composed(key)))) for key, path in image_of.items()]


def _by_key(files: Iterable[tuple[str, Path]], what: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for key, path in files:
        if key in found:
            raise DataError(f"two {what} have the name '{key}': {found[key]} and {path}: rename or remove either")
        found[key] = path
    return found


def _nearest_names(images: Sequence[str], masks: Sequence[str]) -> str:
    """Return "; nearest names: …" for the first images without a mask and the masks without an image that are called alike."""
    found = []
    for image in images[:_MAX_NEAREST]:
        close = difflib.get_close_matches(image, masks[:_MAX_COMPARED], n=1, cutoff=0.7)
        found += [f"{image} and {close[0]}" for _ in close]
    return f"; nearest names: {listed(found, _MAX_NEAREST)}" if found else ""


def _composed(key: str) -> str:
    return key if key.isascii() else unicodedata.normalize("NFC", key)


def _by_rule(images: Sequence[str], masks: Sequence[str]) -> tuple[dict[str, str], str]:
    """Return the mask of each image, and the rule as text; both empty if no rule fits all."""
    names = [os.path.split(key) for key in images]
    known = set(masks)
    beside_first = [name for folder, name in map(os.path.split, masks) if folder == names[0][0]]
    for start, end in _affixes([name for _, name in names]):
        found: dict[tuple[str, ...], str] = {}
        stem = names[0][1][len(start) : len(names[0][1]) - len(end)]
        for before, after in dict.fromkeys(_surroundings(stem, beside_first, alone=len(names) == 1, exact=bool(start or end))):
            matched = []
            for folder, name in names:
                mask = os.path.join(folder, before + name[len(start) : len(name) - len(end)] + after)
                if mask not in known:
                    break
                matched.append(mask)
            if len(set(matched)) == len(names):
                found[tuple(matched)] = f"'{before}NAME{after}' for '{start}NAME{end}'"
        if len(found) > 1:
            raise DataError(
                f"masks can be paired with images by {len(found)} rules, {listed(list(found.values()))}: leave the masks of one kind "
                f"in the folder, and move the others out of it"
            )
        for matched_masks, rule in found.items():
            return dict(zip(images, matched_masks, strict=True)), rule
    return {}, ""


def _affixes(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield possible affixes around the part common to image and mask: none, then those common to all images."""
    yield "", ""
    if len(names) < 2:
        return
    start = _common_prefix(names).rstrip("0123456789")
    suffix = _common_prefix([name[::-1] for name in names])[::-1]
    separated = re.search(r"[_\-. ]", suffix) or re.search(r"\D", suffix)
    end = suffix[separated.start() :] if separated else ""
    shortest = min(map(len, names))
    for before, after in (("", end), (start, ""), (start, end)):
        if (before or after) and len(before) + len(after) < shortest:
            yield before, after


def _common_prefix(names: Sequence[str]) -> str:
    low, high = min(names), max(names)  # the prefix of these is common to all names between them
    return low[: next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))]


def _surroundings(stem: str, masks: Sequence[str], *, alone: bool, exact: bool) -> Iterator[tuple[str, str]]:
    """Yield what precedes and follows ``stem`` in each mask's name, where that is a separate word."""
    if exact and stem in masks:
        yield "", ""
    for mask in masks:
        for found in islice(re.finditer(re.escape(stem), mask), _MAX_OCCURRENCES):
            before, after = mask[: found.start()], mask[found.end() :]
            if not (before or after):
                continue
            if (before[-1:].isdigit() and stem[:1].isdigit()) or (after[:1].isdigit() and stem[-1:].isdigit()):
                continue  # 11 does not contain the name 1
            if alone and (before[-1:].isalnum() or after[:1].isalnum()):
                continue  # for a single image a rule would be a guess: only a separated word counts
            yield before, after
