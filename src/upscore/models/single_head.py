"""One head of a network with two, as a network of its own: whatever uses a bundle takes it."""

from __future__ import annotations

from dataclasses import replace

from upscore.errors import BundleError
from upscore.models.bundle import Bundle
from upscore.models.factory import score_layers
from upscore.models.two_heads import second_labels

__all__ = ["with_single_head"]


def with_single_head(bundle: Bundle, *, second: bool = False) -> Bundle:
    """Return the bundle of a network with the first of two heads, or the second, alone; a network with one head is returned as it is.

    Its score layers have the classes of that head only, and all other weights are shared by both. A CRF of the bundle was chosen for the
    first head's classes, and is left out with the second. BundleError where the ``second`` head is asked for and there is none.

    >>> from upscore.models.factory import create_model
    >>> from upscore.types import LabelSpace
    >>> arguments = {"second_head": "low, high", "width": 1 / 32}
    >>> both = Bundle.of("fcn32s", arguments, create_model("fcn32s", num_classes=3, **arguments), LabelSpace(("a", "b", "c")))
    >>> with_single_head(both).labels.names, with_single_head(both, second=True).labels.names
    (('a', 'b', 'c'), ('low', 'high'))
    """
    names = bundle.arguments.get("second_head")
    if not names:
        if second:
            raise BundleError(
                f"found '{bundle.architecture}' with one head, expected two, for the second: train with model.arguments.second_head"
            )
        return bundle
    labels = second_labels(names) if second else bundle.labels
    classes = slice(len(bundle.labels), None) if second else slice(len(bundle.labels))
    of_classes = score_layers(bundle.architecture, bundle.arguments)
    return replace(
        bundle,
        arguments={name: value for name, value in bundle.arguments.items() if name != "second_head"} | {"num_classes": len(labels)},
        labels=labels,
        weights={name: tensor[classes].clone() if name in of_classes else tensor for name, tensor in bundle.weights.items()},
        inference=bundle.inference.model_copy(update={"crf": None}) if second else bundle.inference,
    )
