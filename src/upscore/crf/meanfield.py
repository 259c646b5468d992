"""A fully connected CRF: what a network says about each pixel, and what the pixels say to one another.

Krähenbühl, Koltun (2011), "Efficient Inference in Fully Connected CRFs with Gaussian Edge
Potentials", algorithm 1::

    Q ← softmax(-U)                                           U: energy of each label at each pixel
    repeat:
        messages  Q̃_m = k_m * Q                               every pixel to every other, for each kernel m
        costs     C   = Σ_m μ_m Q̃_m                           what each label would disagree with
        Q ← softmax(-U - C)

The filter ``k_m *`` is the permutohedral lattice or, exactly, the N × N kernel. A pixel's
message to itself is included, as in the authors' code, or left out, as in their paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from upscore.crf.engines import Engine, filter_of
from upscore.crf.kernels import NORMALIZATIONS, Bilateral, Compatibility, Gaussian, Kernel
from upscore.crf.unary import Layout, energy_of_labels, energy_of_logits, energy_of_probabilities, find_layout
from upscore.errors import CRFError

__all__ = ["DenseCRF", "Inference", "MeanField", "Message"]

MOST_PIXELS = 2**27
"""Larger pictures are refused: with their labels and vertices they would not fit into memory."""


@dataclass(frozen=True)
class DenseCRF:
    """Sharpen what a network says, by what the picture shows.

    ::

        refined = DenseCRF().refine(probs, picture)

    Parameters
    ----------
    kernels : sequence of Kernel
        What pixels compare. The usual two when not given: neighbours agree, and neighbours of
        one colour agree more.
    iterations : int
        Steps of mean field; 5 is usual, 10 is the most that ever pays.
    self_message : bool
        Keep each pixel's message to itself, as the authors' code does; False takes it out, as
        their paper writes.
    engine : {"lattice", "exact"}
        How messages are summed: by the permutohedral lattice, or over all pairs.
    """

    kernels: Sequence[Kernel] = field(default_factory=lambda: (Gaussian(), Bilateral()))
    iterations: int = 5
    self_message: bool = True
    engine: Engine = "lattice"

    def __post_init__(self) -> None:
        if self.engine not in get_args(Engine):
            raise CRFError(f"found engine '{self.engine}', expected {', '.join(get_args(Engine))}")
        if not 0 <= self.iterations <= 1000:
            raise CRFError(f"found {self.iterations} iterations, expected 0 to 1000")

    def refine(
        self,
        scores: npt.NDArray[Any],
        picture: npt.NDArray[Any] | None = None,
        *,
        kind: Literal["probabilities", "logits"] = "probabilities",
        channels: Literal["first", "last"] | None = None,
        ignored: npt.NDArray[np.bool_] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return what the network and the picture say together.

        Parameters
        ----------
        scores : (K, H, W) or (H, W, K) floating
            Of any number of axes, of any type and layout.
        picture : (H, W, C) or (H, W), optional
            The picture, 0 to 255; only kernels that compare colours need it.
        kind : {"probabilities", "logits"}
            What the scores are.
        channels : {"first", "last"}, optional
            Where the labels are, if the picture does not tell.
        ignored : (H, W) bool, optional
            Pixels that neither speak nor listen; they keep what the network says.

        Returns
        -------
        float32
            Probabilities in the layout of ``scores``.

        Raises
        ------
        CRFError
            Shapes do not fit, or values are not what ``kind`` says.
        """
        inference = self.start(scores, picture, kind=kind, channels=channels, ignored=ignored)
        for _ in range(self.iterations):
            inference.step()
        return inference.probabilities()

    def refine_labels(
        self,
        labels: npt.NDArray[Any],
        picture: npt.NDArray[Any] | None = None,
        *,
        classes: int,
        confidence: float = 0.7,
        unknown: int | None = 255,
    ) -> npt.NDArray[np.float32]:
        """Do the same to a label map (H, W) that is believed with ``confidence``; returns (K, H, W).

        See :func:`upscore.crf.unary.energy_of_labels`.
        """
        labels = np.asarray(labels)
        layout = Layout(labels.shape, classes, False)
        inference = self._begin(energy_of_labels(labels, classes, confidence=confidence, unknown=unknown), layout, picture, None)
        for _ in range(self.iterations):
            inference.step()
        return inference.probabilities()

    def start(
        self,
        scores: npt.NDArray[Any],
        picture: npt.NDArray[Any] | None = None,
        *,
        kind: Literal["probabilities", "logits"] = "probabilities",
        channels: Literal["first", "last"] | None = None,
        ignored: npt.NDArray[np.bool_] | None = None,
    ) -> Inference:
        """Return the inference before its first step, to go through it step by step; arguments as for :meth:`refine`."""
        scores = np.asarray(scores)
        layout = find_layout(scores, None if picture is None else np.asarray(picture), channels=channels)
        energies = {"probabilities": energy_of_probabilities, "logits": energy_of_logits}
        if kind not in energies:
            raise CRFError(f"found kind '{kind}', expected {' or '.join(energies)}")
        pixels = layout.to_pixels(scores, np.float64 if self.engine == "exact" else np.float32)
        return self._begin(energies[kind](pixels), layout, picture, ignored)

    def _begin(
        self, unary: npt.NDArray[Any], layout: Layout, picture: npt.NDArray[Any] | None, ignored: npt.NDArray[np.bool_] | None
    ) -> Inference:
        if len(unary) > MOST_PIXELS:
            raise CRFError(f"found {len(unary)} pixels, expected at most {MOST_PIXELS}: cut the picture into tiles")
        if picture is not None:
            picture = _checked_picture(np.asarray(picture), layout.shape)
        listening = None
        if ignored is not None:
            if np.shape(ignored) != layout.shape:
                raise CRFError(f"found a mask of shape {np.shape(ignored)}, expected {layout.shape}")
            listening = np.flatnonzero(~np.asarray(ignored, bool).ravel())
        messages = []
        for kernel in self.kernels if listening is None or len(listening) else ():
            features = kernel.features(layout.shape, picture)
            heard = features if listening is None else features[listening]
            messages.append(Message(heard, kernel.compatibility, kernel.normalization, classes=layout.classes, engine=self.engine))
        field = MeanField(unary if listening is None else unary[listening], messages, self_message=self.self_message)
        return Inference(field, unary, layout, listening)


class Message:
    """One kernel at work on N pixels: filter, normalise, and count what disagreement costs.

    Parameters
    ----------
    features : (N, d) floating
        Divided by their sigmas.
    compatibility : float, (K,) or (K, K)
        What disagreement costs; see :mod:`upscore.crf.kernels`.
    normalization : {"symmetric", "before", "after", "none"}
        Where messages are divided by the row sums of the kernel.
    classes : int
        K.
    engine : {"lattice", "exact"}
        How messages are summed.

    Raises
    ------
    CRFError
        A feature is not a number, or a setting is impossible.
    """

    def __init__(
        self, features: npt.NDArray[Any], compatibility: Compatibility, normalization: str, *, classes: int, engine: Engine = "lattice"
    ) -> None:
        if not np.isfinite(features).all():
            raise CRFError("found features that are not numbers: check the picture and the features given")
        if normalization not in NORMALIZATIONS:
            raise CRFError(f"found normalization '{normalization}', expected {', '.join(NORMALIZATIONS)}")
        self.filter = filter_of(engine, features)
        dtype = self.filter.dtype
        self.cost = _costs_of(compatibility, classes).astype(dtype)
        rows = self.filter(np.ones((len(features), 1), dtype)) + dtype(1e-20)
        whole = {"symmetric": rows**-0.5, "before": 1 / rows, "after": 1 / rows, "none": None}[normalization]
        self.before = whole if normalization in ("symmetric", "before") else None
        self.after = whole if normalization in ("symmetric", "after") else None

    def received(self, q: npt.NDArray[Any], *, with_self: bool) -> npt.NDArray[Any]:
        """Return the normalised messages (N, K)."""
        sent = q if self.before is None else q * self.before
        received = self.filter(sent)
        if not with_self:
            received = received - sent  # k(f, f) = 1
        return np.asarray(received if self.after is None else received * self.after)

    def costs(self, q: npt.NDArray[Any], *, with_self: bool) -> npt.NDArray[Any]:
        """Return what each label costs at each pixel, (N, K)."""
        received = self.received(q, with_self=with_self)
        return np.asarray(received * self.cost if self.cost.ndim == 1 else received @ self.cost)


class MeanField:
    """The algorithm on plain arrays (N, K): energies, and one message for each kernel.

    Parameters
    ----------
    unary : (N, K) floating
        Energy of each label at each pixel.
    messages : sequence of Message
        One for each kernel; none are a softmax of the energies.
    self_message : bool
        As in :class:`DenseCRF`.
    """

    def __init__(self, unary: npt.NDArray[Any], messages: Sequence[Message], *, self_message: bool = True) -> None:
        self.unary = np.asarray(unary, np.result_type(np.float32, *(message.filter.dtype for message in messages)))
        self.messages, self.self_message = messages, self_message

    def start(self) -> npt.NDArray[Any]:
        """Return Q before any message, (N, K)."""
        return _softmax(-self.unary)

    def step(self, q: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return Q after every message was sent once."""
        energy = -self.unary
        for message in self.messages:
            energy -= message.costs(q, with_self=self.self_message)
        return _softmax(energy)

    def divergence(self, q: npt.NDArray[Any]) -> float:
        """Return ``Σ Q log Q + Σ Q U + ½ Σ_m Σ Q μ_m Q̃_m``."""
        wide = q.astype(np.float64)
        entropy = float((wide * np.log(np.maximum(wide, 1e-20))).sum())
        return entropy + float((wide * self.unary).sum()) + self.disagreement(q) / 2

    def disagreement(self, q: npt.NDArray[Any]) -> float:
        """Return ``Σ_m Σ Q μ_m Q̃_m``, every pair counted twice."""
        return sum(float((message.costs(q, with_self=self.self_message) * q.astype(np.float64)).sum()) for message in self.messages)


class Inference:
    """Mean field on a grid, a step at a time. Made by :meth:`DenseCRF.start`.

    Attributes
    ----------
    steps : int
        Taken so far.
    """

    def __init__(self, field: MeanField, unary: npt.NDArray[Any], layout: Layout, listening: npt.NDArray[np.intp] | None) -> None:
        self._field, self._unary, self._layout, self._listening = field, unary, layout, listening
        self._q = field.start()
        self.steps = 0

    def step(self) -> Inference:
        """Send every message once; returns itself."""
        self._q = self._field.step(self._q)
        self.steps += 1
        return self

    def probabilities(self) -> npt.NDArray[np.float32]:
        """Return what is believed now, in the layout that was given."""
        q = self._q
        if self._listening is not None:
            q = _softmax(-self._unary)
            q[self._listening] = self._q
        return self._layout.from_pixels(q)

    def labels(self) -> npt.NDArray[np.intp]:
        """Return the most probable label of each pixel, of the grid's shape."""
        return np.asarray(self.probabilities().argmax(-1 if self._layout.last else 0))

    def divergence(self) -> float:
        """Return the Kullback-Leibler divergence from what is believed to the CRF, up to its constant: what mean field lowers.

        Steps that change all pixels at once may raise it.
        """
        return self._field.divergence(self._q)


def _checked_picture(picture: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if picture.ndim == len(shape):
        picture = picture[..., None]
    if picture.shape[:-1] != shape:
        raise CRFError(f"found a picture of shape {picture.shape} for scores of {shape} pixels, expected the same grid")
    if np.issubdtype(picture.dtype, np.integer) and picture.dtype != np.uint8:
        raise CRFError(
            f"found a picture of type {picture.dtype}, expected 0 to 255: divide it (16 bits by 257), or give it as Features with a sigma"
        )
    if np.issubdtype(picture.dtype, np.floating) and picture.size and 0 < float(picture.max()) <= 1:
        raise CRFError("found a picture from 0 to 1, expected 0 to 255, which sigma_colour counts in: multiply it by 255")
    return picture


def _costs_of(compatibility: Any, classes: int) -> npt.NDArray[np.float64]:
    """Return what messages are multiplied by: (K,) for costs of disagreement alone, or (K, K).

    Messages of a pixel sum to the same for every label, so that a reward for agreement and a
    cost of disagreement differ by a constant, which the softmax forgets.
    """
    given = np.asarray(compatibility, np.float64)
    if not np.isfinite(given).all():
        raise CRFError("found a compatibility that is not a number")
    if given.ndim == 0 or given.shape == (1,):
        return np.full(classes, -float(given.reshape(())))
    if given.shape == (classes,):
        return -given
    if given.shape == (classes, classes):
        if not np.allclose(given, given.T):
            raise CRFError("found a compatibility matrix that is not symmetric: what a pays beside b, b pays beside a")
        return given
    raise CRFError(
        f"found a compatibility of shape {given.shape} for {classes} labels, expected a number, ({classes},) or ({classes}, {classes})"
    )


def _softmax(scores: npt.NDArray[Any]) -> npt.NDArray[Any]:
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(weights / weights.sum(1, keepdims=True))
