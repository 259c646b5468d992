"""Labels that a trained network doubts; these checks need one."""

from __future__ import annotations

from collections.abc import Iterator

from upscore.data.finding import Finding
from upscore.doctor.check import Check
from upscore.doctor.snapshot import Snapshot
from upscore.text import listed

__all__ = ["CHECKS", "MIN_BIAS"]

MIN_BIAS = 1.5
"""Pixels by which the borders of a class lie outside or inside the predicted ones, from which this is reported."""


_ADVICE = "look at each on the page, or in a labelling tool with --review FOLDER: the mask is wrong, or the network is"


def _find_doubtful(snapshot: Snapshot) -> Iterator[Finding]:
    review = snapshot.review
    if review is None:
        return
    names = snapshot.labels.names
    for split in review.splits:
        examined = sum(image.name[0] == split for image in review.images)
        whole = [image for image in review.doubtful if image.name[0] == split]
        if whole:
            what = (
                f"{len(whole)} of {examined} masks that were examined are doubtful by {review.min_doubt:g} standard deviations and more, "
                f"and no region of them is, as where a mask is shifted, or objects are drawn too large; first {whole[0].name[1]}"
            )
            yield snapshot.finding("labels.doubtful", "warning", what, [image.name for image in whole], split=split, advice=_ADVICE)
        regions = [(image, region) for image, region in review.regions if image.name[0] == split]
        if not regions:
            continue
        samples = list(dict.fromkeys(image.name for image, _ in regions))
        image, region = regions[0]
        what = (
            f"in {len(samples)} of {examined} images that were examined, {len(regions)} regions are labelled as one class, and the network "
            f"is sure of another; first {image.name[1]}, columns {region.box[0]} to {region.box[2]}, rows {region.box[1]} to "
            f"{region.box[3]}: labelled '{names[region.given]}', predicted '{names[region.predicted]}' with {region.predicted_prob:.2f}"
        )
        yield snapshot.finding(
            "labels.doubtful", "warning", what, samples, split=split, advice=_ADVICE
        )  # fmt: skip


def _find_biased(snapshot: Snapshot) -> Iterator[Finding]:
    review = snapshot.review
    if review is None:
        return
    names = snapshot.labels.names
    for split in review.splits:
        biased = {k: bias for (of, k), bias in review.border_bias.items() if of == split and abs(bias) >= MIN_BIAS}
        if biased:
            told = listed([f"'{names[k]}' {abs(bias):.1f} pixels {'out' if bias > 0 else 'in'}side" for k, bias in biased.items()])
            what = f"borders lie beside the predicted ones (median): {told}"
            yield snapshot.finding(
                "labels.borders", "warning", what, [image.name for image in review.images if image.name[0] == split],
                advice="check whether objects are drawn along their outer or inner edge, here and in training", split=split,
            )  # fmt: skip


def _find_trained(snapshot: Snapshot) -> Iterator[Finding]:
    review = snapshot.review
    if review is None:
        return
    trained = [image.name for image in review.images if image.trained_on]
    if trained:
        what = (
            f"{len(trained)} of the {len(review.images)} images that were examined are among those that the network was trained on: "
            "it repeats their labels, wrong ones too, and they seem less doubtful than they are"
        )
        yield snapshot.finding(
            "labels.trained-on", "warning", what, trained,
            advice="leave out --include-trained, or examine them with a network that was trained on the other images",
        )  # fmt: skip
    if review.left_out:
        what = (
            f"{len(review.left_out)} images that the network was trained on were not examined, as it repeats their labels, wrong ones too; "
            f"{len(review.images)} were"
        )
        yield snapshot.finding(
            "labels.trained-on", "info", what, advice="to examine them too, train a network on the other images, and give it with --run"
        )


CHECKS = (
    Check(
        "labels.doubtful", "regions are labelled as one class, and a network is sure of another", "warning", _find_doubtful, needs_run=True
    ),
    Check("labels.borders", "objects are drawn larger or smaller than a network predicts them", "warning", _find_biased, needs_run=True),
    Check("labels.trained-on", "labels were examined by a network that was trained on them", "warning", _find_trained, needs_run=True),
)
