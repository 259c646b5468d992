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

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from upscore.crf.engines import Engine, EngineName, Field, check_engine, engine_of
from upscore.crf.kernels import NORMALIZATIONS, Bilateral, Gaussian, Kernel, numbers_of
from upscore.crf.unary import Layout, Scores, Unary, energy_of_labels, find_layout
from upscore.errors import CRFError

__all__ = [
    "MOST_PIXELS",
    "DenseCRF",
    "Inference",
    "bounded_memory",
    "check_labels",
    "check_size",
    "check_steps",
    "checked_costs",
    "message_of",
]

MOST_FEATURES = 16
"""A lattice has one vertex more than features for each pixel."""

MOST_PIXELS = 2**26
"""Larger pictures are refused: the lattices alone take some hundred bytes a pixel."""

MAX_STEPS = 1000
"""Of mean field; it settles in some ten."""

MAX_SIGMAS = 2.0**40
"""Pixels lie within this many sigmas of the origin: lattices and distances have digits left there."""

MAX_COST = 1e6
"""Of a disagreement, so that messages stay within single precision; usual ones are below 100."""

OVERSHOOT = 0.1
"""By how much of its range an image of floats may leave it, as resized ones do; one less its mean leaves it by more."""

NEARLY_BLACK = 3.0
"""Of 255: an image of floats whose greatest value is no more was scaled to [0, 1], or normalised."""


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
        Steps of mean field; 5 is usual.
    self_message : bool
        Keep each pixel's message to itself, as the authors' code does; False takes it out, as
        their paper writes.
    engine : {"lattice", "numpy", "torch", "exact"}
        How messages are summed: by the permutohedral lattice, compiled where it can be had, or
        named: in NumPy or on tensors; or over all pairs.
    threads : int, optional
        Of the compiled lattice; as many as the process may use when not given. The same number
        gives the same bits, another nearly the same (within 1e-5).
    device : str, optional
        Where "torch" and "exact" compute, by torch's name: "cpu", "cuda", "cuda:1". Without it
        "torch" takes the processor, and "exact" computes in float64 on NumPy arrays, not in
        float32.
    """

    kernels: Sequence[Kernel] = field(default_factory=lambda: (Gaussian(), Bilateral()))
    iterations: int = 5
    self_message: bool = True
    engine: EngineName = "lattice"
    threads: int | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        check_engine(self.engine, threads=self.threads, device=self.device)
        check_steps(self.iterations)
        for kernel in self.kernels:
            if not (hasattr(kernel, "features") and hasattr(kernel, "compatibility") and hasattr(kernel, "normalization")):
                raise CRFError(f"found {kernel!r} among the kernels, expected Gaussian, Bilateral, Features or the like")

    def refine(
        self,
        scores: npt.NDArray[Any],
        picture: npt.NDArray[Any] | None = None,
        *,
        kind: Scores = "probabilities",
        channels: Literal["first", "last"] | None = None,
        ignored: npt.NDArray[np.bool_] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return what the network and the picture say together.

        Parameters
        ----------
        scores : (K, H, W) or (H, W, K) floating
            Of any number of axes, of any type and layout.
        picture : (H, W, C) or (H, W), optional
            The image as it is before normalisation: uint8, or floats from 0 to 255. Only kernels that
            compare colours need it.
        kind : {"probabilities", "logits", "energies"}
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
            Shapes do not fit, values are not what ``kind`` says or the image not from 0 to 255, there are
            fewer than two labels, or less memory than it takes.
        """
        inference = self.start(scores, picture, kind=kind, channels=channels, ignored=ignored)
        return inference.step(self.iterations).probabilities()

    def refine_batch(
        self,
        scores: Sequence[npt.NDArray[Any]] | npt.NDArray[Any],
        pictures: Sequence[npt.NDArray[Any]] | npt.NDArray[Any],
        *,
        kind: Scores = "probabilities",
        channels: Literal["first", "last"] | None = None,
    ) -> list[npt.NDArray[np.float32]]:
        """Do what :meth:`refine` does to each of a batch; returns a list, since sizes may differ.

        Parameters
        ----------
        scores : (B, K, H, W) or (B, H, W, K) floating, or sequence
            As many as pictures.
        pictures : (B, H, W, C), or sequence
            The pictures.
        kind, channels
            As for :meth:`refine`.

        Raises
        ------
        CRFError
            There are more of the ones than of the others, or one is unfit; the message says which.
        """
        if len(scores) != len(pictures):
            raise CRFError(f"found {len(scores)} arrays of scores and {len(pictures)} pictures, expected as many")
        refined = []
        for number, (one, picture) in enumerate(zip(scores, pictures, strict=True)):
            try:
                refined.append(self.refine(one, picture, kind=kind, channels=channels))
            except CRFError as error:
                raise CRFError(f"picture {number} of the batch: {error}") from None
        return refined

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
        check_labels(classes)
        if not labels.size:
            raise CRFError(f"found a label map of shape {labels.shape}: nothing to refine")
        check_size(labels.size)
        layout = Layout(labels.shape, classes, False)
        energy = energy_of_labels(labels, classes, confidence=confidence, unknown=unknown)
        inference = self._begin(Unary(energy, "energies"), layout, picture, None)
        return inference.step(self.iterations).probabilities()

    def start(
        self,
        scores: npt.NDArray[Any],
        picture: npt.NDArray[Any] | None = None,
        *,
        kind: Scores = "probabilities",
        channels: Literal["first", "last"] | None = None,
        ignored: npt.NDArray[np.bool_] | None = None,
    ) -> Inference:
        """Return the inference before its first step, to go through it step by step; arguments as for :meth:`refine`."""
        scores = np.asarray(scores)
        layout = find_layout(scores, None if picture is None else np.asarray(picture), channels=channels)
        check_size(int(np.prod(layout.shape)))
        check_labels(layout.classes)
        with bounded_memory(int(np.prod(layout.shape))), np.errstate(over="ignore"):  # what becomes infinite is refused
            scores = scores.astype(np.float64 if self.engine == "exact" else np.float32, copy=False)
        return self._begin(Unary(layout.to_pixels(scores), kind), layout, picture, ignored)

    def _begin(self, unary: Unary, layout: Layout, picture: npt.NDArray[Any] | None, ignored: npt.NDArray[np.bool_] | None) -> Inference:
        if picture is not None:
            picture = _checked_picture(np.asarray(picture), layout.shape)
        listening = None
        if ignored is not None:
            mask = np.asarray(ignored)
            if mask.shape != layout.shape or mask.dtype != np.bool_:
                raise CRFError(f"found a mask of shape {mask.shape} and type {mask.dtype} of ignored pixels, expected {layout.shape} bool")
            listening = np.flatnonzero(~mask.ravel())
        engine = engine_of(self.engine, threads=self.threads, device=self.device)
        messages = []
        pixels = int(np.prod(layout.shape))
        with bounded_memory(pixels):
            for kernel in self.kernels if listening is None or len(listening) else ():
                features = np.asarray(kernel.features(layout.shape, picture))
                if features.ndim != 2 or len(features) != pixels:
                    raise CRFError(f"found features of shape {features.shape}, expected ({pixels}, d): one row for each pixel")
                heard = features if listening is None else features[listening]
                messages.append(message_of(engine, heard, kernel.compatibility, kernel.normalization, layout.classes))
            field = engine.field(unary if listening is None else unary.take(listening), messages, self_message=self.self_message)
        return Inference(field, unary, layout, listening)


class Inference:
    """Mean field on a grid, a step at a time. Made by :meth:`DenseCRF.start`.

    Attributes
    ----------
    steps : int
        Taken so far.
    """

    def __init__(self, field: Field, unary: Unary, layout: Layout, listening: npt.NDArray[np.intp] | None) -> None:
        self._field, self._unary, self._layout, self._listening = field, unary, layout, listening
        self._belief: Any = None
        self.steps = 0

    def step(self, steps: int = 1) -> Inference:
        """Send every message once, or ``steps`` times (0 to 1000); returns itself."""
        check_steps(steps)
        if steps:
            with bounded_memory(int(np.prod(self._layout.shape))):
                self._belief = self._field.advance(self._belief, steps)
        self.steps += steps
        return self

    def probabilities(self) -> npt.NDArray[np.float32]:
        """Return what is believed now, in the layout that was given."""
        believed = self._believed()
        if self._listening is not None:
            energy = self._unary.energy(np.float32)
            weights = np.exp(energy.min(1, keepdims=True) - energy)
            alone = weights / weights.sum(1, keepdims=True)
            alone[self._listening] = believed
            believed = alone
        return self._layout.from_pixels(believed)

    def labels(self) -> npt.NDArray[np.intp]:
        """Return the most probable label of each pixel, of the grid's shape."""
        return np.asarray(self.probabilities().argmax(-1 if self._layout.last else 0))

    def divergence(self) -> float:
        """Return the Kullback-Leibler divergence from what is believed to the CRF, up to its constant: what mean field lowers.

        Steps that change all pixels at once may raise it.
        """
        alone, pairs = self._field.divergence(self._field.believe(self._believed()))
        return alone + pairs / 2

    def _believed(self) -> npt.NDArray[Any]:
        if self._belief is None:
            self._belief = self._field.advance(None, 0)
        return self._field.array(self._belief)


def _checked_picture(picture: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if picture.ndim == len(shape):
        picture = picture[..., None]
    if picture.shape[:-1] != shape:
        raise CRFError(f"found a picture of shape {picture.shape} for scores of {shape} pixels, expected the same grid")
    if picture.dtype == np.uint8 or not picture.size:
        return picture
    wanted = "expected the image as it is before normalisation, 0 to 255, which sigma_colour counts in"
    if picture.dtype.kind not in "iuf":
        raise CRFError(f"found a picture of type {picture.dtype}, {wanted}: give it as uint8")
    low, high = float(picture.min()), float(picture.max())
    if picture.dtype.kind != "f":
        raise CRFError(
            f"found a picture of type {picture.dtype} from {low:g} to {high:g}, {wanted}: give 8 bits as uint8, divide 16 bits by 257, "
            "or give it as Features with a sigma"
        )
    if low >= 0 and 0 < high <= 1:
        raise CRFError(f"found a picture from 0 to 1, {wanted}: multiply it by 255")
    # What is not a number compares as false.
    if not (low >= -OVERSHOOT * 255 and high <= (1 + OVERSHOOT) * 255) or (high <= NEARLY_BLACK and (low, high) != (0, 0)):
        raise CRFError(f"found a picture from {low:g} to {high:g}, {wanted}; other measurements go into Features with a sigma")
    return picture


def message_of(engine: Engine, features: npt.NDArray[Any], compatibility: Any, normalization: str, classes: int) -> Any:
    """Return what ``engine`` makes of a kernel.

    Parameters
    ----------
    engine : Engine
        Where it will run.
    features : (N, d) floating
        Divided by their sigmas.
    compatibility, normalization
        As a kernel has them.
    classes : int
        K.

    Raises
    ------
    CRFError
        A feature is not a number, there are too many, or a setting is impossible.
    """
    check_size(len(features))
    if not 1 <= features.shape[1] <= MOST_FEATURES:
        raise CRFError(f"found {features.shape[1]} features of each pixel, expected 1 to {MOST_FEATURES}")
    if features.dtype.kind not in "iuf":
        raise CRFError(f"found features of type {features.dtype}, expected numbers")
    if features.size and not np.isfinite(low_high := (float(features.min()), float(features.max()))).all():
        raise CRFError("found features that are not numbers: check the picture and the features given")
    if features.size and max(map(abs, low_high)) > MAX_SIGMAS:
        raise CRFError(f"found features from {low_high[0]:.3g} to {low_high[1]:.3g} sigmas, too far apart: use larger sigmas")
    if normalization not in NORMALIZATIONS:
        raise CRFError(f"found normalization '{normalization}', expected {', '.join(NORMALIZATIONS)}")
    return engine.message(features, _costs_of(compatibility, classes), normalization)


def check_size(pixels: int) -> None:
    """Refuse more pixels than memory is likely to hold.

    Raises
    ------
    CRFError
        There are more than :data:`MOST_PIXELS`.
    """
    if pixels > MOST_PIXELS:
        raise CRFError(f"found {pixels} pixels, expected at most {MOST_PIXELS}: refine the picture in overlapping tiles")


def check_steps(steps: int) -> None:
    """Refuse what is no number of steps.

    Raises
    ------
    CRFError
        It is not whole, or not 0 to :data:`MAX_STEPS`.
    """
    if not isinstance(steps, int | np.integer) or isinstance(steps, bool) or not 0 <= steps <= MAX_STEPS:
        raise CRFError(f"found {steps} iterations, expected 0 to {MAX_STEPS}")


def check_labels(count: int) -> None:
    """Refuse a CRF of fewer than two labels, whose answer is 1 everywhere.

    Raises
    ------
    CRFError
        Always, then.
    """
    if not isinstance(count, int | np.integer) or isinstance(count, bool) or count < 2:
        raise CRFError(
            f"found {count} label{'s' * (count != 1)}, expected at least 2, whose probabilities sum to 1: "
            "beside the probability p of an object stack that of the background, 1 - p"
        )


@contextmanager
def bounded_memory(pixels: int) -> Iterator[None]:
    """Say in one line that there is not enough memory, where there is not.

    Raises
    ------
    CRFError
        In place of a ``MemoryError``.
    """
    try:
        yield
    except MemoryError:
        raise CRFError(f"refining {pixels} pixels takes more memory than is available: refine the picture in overlapping tiles") from None


def _costs_of(compatibility: Any, classes: int) -> npt.NDArray[np.float64]:
    """Return what messages are multiplied by: (K,) for costs of disagreement alone, or (K, K).

    Messages of a pixel sum to the same for every label, so that a reward for agreement and a
    cost of disagreement differ by a constant, which the softmax forgets.
    """
    given = checked_costs(compatibility)
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


def checked_costs(compatibility: Any) -> npt.NDArray[np.float64]:
    """Return a compatibility as an array.

    Raises
    ------
    CRFError
        It holds what is not a number, or beyond :data:`MAX_COST`.
    """
    given = numbers_of(compatibility, "compatibility")
    if not np.isfinite(given).all():
        raise CRFError("found a compatibility that is not a number")
    if given.size and np.abs(given).max() > MAX_COST:
        raise CRFError(f"found a compatibility of {np.abs(given).max():g}, expected at most {MAX_COST:g} to either side of 0")
    return given
