"""The fully connected CRF: a network's prediction for each pixel, and messages between all pairs of pixels.

Krähenbühl, Koltun (2011), "Efficient Inference in Fully Connected CRFs with Gaussian Edge
Potentials", algorithm 1::

    Q ← softmax(-U)                                           U: unary energy of each label at each pixel
    repeat:
        messages        Q̃_m = k_m * Q                         from every pixel to every other, for each kernel m
        compatibility   E   = Σ_m μ_m Q̃_m                     expected cost of disagreement for each label
        Q ← softmax(-U - E)

The filter ``k_m *`` is the permutohedral lattice or, exactly, the N × N kernel. A pixel's
message to itself is included, as in the authors' code, or excluded, as in their paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from upscore.crf.engines import EngineName, MeanField, check_engine, make_engine
from upscore.crf.kernels import Bilateral, Gaussian, Kernel
from upscore.crf.limits import bounded_memory, check_labels, check_size, check_steps
from upscore.crf.pairwise import build_pairwise
from upscore.crf.unary import Layout, Unary, UnaryKind, energy_from_labels, find_layout
from upscore.errors import CRFError

__all__ = ["RANGE_TOLERANCE", "DenseCRF", "Inference"]

RANGE_TOLERANCE = 0.1
"""By what fraction of its range a floating image may leave it, as resized ones do; an image minus its mean leaves it by more."""

_MIN_MAXIMUM = 3.0
"""A floating image whose maximum is no larger was scaled to [0, 1], or normalised."""


@dataclass(frozen=True)
class DenseCRF:
    """Refine a network's probabilities by the colours of the image.

    Parameters
    ----------
    kernels : sequence of Kernel
        What pixels are compared by. By default the usual two: a :class:`Gaussian` over positions
        and a :class:`Bilateral` over positions and colours.
    iterations : int
        Mean-field steps, 0 to 1000; 5 is usual.
    self_message : bool
        Whether to include each pixel's message to itself, as the authors' code does; their paper
        excludes it.
    engine : str
        How messages are computed: "lattice" (the compiled permutohedral lattice if there is one,
        else NumPy's), or by name "native_lattice", "numpy_lattice", "torch_lattice",
        "numpy_exact", "torch_exact"; see :mod:`upscore.crf.engines`.
    threads : int, optional
        Of the compiled lattice, 1 to 64; by default as many as the process may use. The same
        number gives the same bits, another nearly the same (within 1e-5).
    device : str, optional
        Of the engines in PyTorch, by its name: "cpu" (the default), "cuda", "cuda:1".

    Raises
    ------
    CRFError
        A setting is invalid.

    Examples
    --------
    >>> image = np.zeros((4, 6, 3), np.uint8)
    >>> image[:, 3:] = 255
    >>> probs = np.full((2, 4, 6), 0.5)
    >>> probs[:, :, :3] = [[[0.6]], [[0.4]]]
    >>> probs[:, 1, 1] = 0.45, 0.55
    >>> DenseCRF().refine(probs, image).argmax(0)[1].tolist()
    [0, 0, 0, 0, 0, 0]
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
        unary: npt.NDArray[Any],
        image: npt.NDArray[Any] | None = None,
        *,
        kind: UnaryKind = "probabilities",
        channels: Literal["first", "last"] | None = None,
        ignored: npt.NDArray[np.bool_] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return refined probabilities.

        Parameters
        ----------
        unary : (K, H, W) or (H, W, K) floating
            The network's output for each pixel alone. Any number of axes, any memory order.
        image : (H, W, C) or (H, W), optional
            The image before normalisation: uint8, or floats from 0 to 255. Only kernels that
            compare colours need it.
        kind : {"probabilities", "logits", "energies"}
            What the values of ``unary`` are.
        channels : {"first", "last"}, optional
            Which axis holds the labels; by default the image decides, and "first" wins a tie.
        ignored : (H, W) bool, optional
            Pixels that neither send nor receive messages; their probabilities do not change.

        Returns
        -------
        float32
            Probabilities in the layout of ``unary``.

        Raises
        ------
        CRFError
            Shapes do not fit, values are not of the given kind or the image is not from 0 to 255,
            there are fewer than two labels, or too little memory.

        Examples
        --------
        >>> logits = np.zeros((3, 4, 5), np.float32)
        >>> DenseCRF((Gaussian(),)).refine(logits, kind="logits").shape
        (3, 4, 5)
        """
        inference = self.start(unary, image, kind=kind, channels=channels, ignored=ignored)
        return inference.step(self.iterations).probabilities()

    def refine_batch(
        self,
        unaries: Sequence[npt.NDArray[Any]] | npt.NDArray[Any],
        images: Sequence[npt.NDArray[Any]] | npt.NDArray[Any],
        *,
        kind: UnaryKind = "probabilities",
        channels: Literal["first", "last"] | None = None,
    ) -> list[npt.NDArray[np.float32]]:
        """Refine each image of a batch; returns a list, since sizes may differ.

        Unaries and images are arrays with a first axis B, or sequences; all else is as for :meth:`refine`. A CRFError is raised where
        their numbers differ, or one of them is invalid; the message gives its index.

        >>> refined = DenseCRF().refine_batch(np.full((2, 3, 4, 5), 1 / 3), np.zeros((2, 4, 5, 3), np.uint8))
        >>> len(refined), refined[0].shape
        (2, (3, 4, 5))
        """
        if len(unaries) != len(images):
            raise CRFError(f"found {len(unaries)} unaries and {len(images)} images, expected as many")
        refined = []
        for index, (unary, image) in enumerate(zip(unaries, images, strict=True)):
            try:
                refined.append(self.refine(unary, image, kind=kind, channels=channels))
            except CRFError as error:
                raise CRFError(f"image {index} of the batch: {error}") from None
        return refined

    def refine_labels(
        self,
        label_map: npt.NDArray[Any],
        image: npt.NDArray[Any] | None = None,
        *,
        classes: int,
        confidence: float = 0.7,
        unknown: int | None = 255,
    ) -> npt.NDArray[np.float32]:
        """Refine a label map (H, W), each label of which is right with probability ``confidence``; returns (K, H, W).

        See :func:`upscore.crf.unary.energy_from_labels`.

        >>> label_map = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 255]])
        >>> DenseCRF((Gaussian(),)).refine_labels(label_map, classes=2).argmax(0).tolist()
        [[0, 0, 0], [0, 0, 0], [0, 0, 0]]
        """
        label_map = np.asarray(label_map)
        check_labels(classes)
        if not label_map.size:
            raise CRFError(f"found a label map of shape {label_map.shape}: nothing to refine")
        check_size(label_map.size)
        layout = Layout(label_map.shape, classes, False)
        energy = energy_from_labels(label_map, classes, confidence=confidence, unknown=unknown)
        inference = self._start(Unary(energy, "energies"), layout, image, None)
        return inference.step(self.iterations).probabilities()

    def start(
        self,
        unary: npt.NDArray[Any],
        image: npt.NDArray[Any] | None = None,
        *,
        kind: UnaryKind = "probabilities",
        channels: Literal["first", "last"] | None = None,
        ignored: npt.NDArray[np.bool_] | None = None,
    ) -> Inference:
        """Return the inference before its first step, to run it step by step; arguments as for :meth:`refine`.

        >>> inference = DenseCRF((Gaussian(),)).start(np.full((2, 4, 5), 0.5))
        >>> inference.step(3).steps
        3
        """
        unary = np.asarray(unary)
        layout = find_layout(unary, None if image is None else np.asarray(image), channels=channels)
        check_size(int(np.prod(layout.shape)))
        check_labels(layout.classes)
        with bounded_memory(int(np.prod(layout.shape))), np.errstate(over="ignore"):  # what overflows is refused by Unary
            unary = unary.astype(np.float64 if self.engine == "numpy_exact" else np.float32, copy=False)
        return self._start(Unary(layout.to_pixels(unary), kind), layout, image, ignored)

    def _start(self, unary: Unary, layout: Layout, image: npt.NDArray[Any] | None, ignored: npt.NDArray[np.bool_] | None) -> Inference:
        if image is not None:
            image = _check_image(np.asarray(image), layout.shape)
        active = None
        if ignored is not None:
            mask = np.asarray(ignored)
            if mask.shape != layout.shape or mask.dtype != np.bool_:
                raise CRFError(f"found a mask of shape {mask.shape} and type {mask.dtype} of ignored pixels, expected {layout.shape} bool")
            active = np.flatnonzero(~mask.ravel())
        engine = make_engine(self.engine, threads=self.threads, device=self.device)
        pairwise = []
        pixels = int(np.prod(layout.shape))
        with bounded_memory(pixels):
            for kernel in self.kernels if active is None or len(active) else ():
                features = np.asarray(kernel.features(layout.shape, image))
                if features.ndim != 2 or len(features) != pixels:
                    raise CRFError(f"found features of shape {features.shape}, expected ({pixels}, d): one row for each pixel")
                features = features if active is None else features[active]
                pairwise.append(build_pairwise(engine, features, kernel.compatibility, kernel.normalization, layout.classes))
            mean_field = engine.mean_field(unary if active is None else unary.take(active), pairwise, self_message=self.self_message)
        return Inference(mean_field, unary, layout, active)


class Inference:
    """Mean-field inference on a grid, step by step. Made by :meth:`DenseCRF.start`.

    Attributes
    ----------
    steps : int
        Taken so far.

    Examples
    --------
    >>> probs = np.array([[[0.9, 0.6, 0.4]], [[0.1, 0.4, 0.6]]])
    >>> inference = DenseCRF((Gaussian(),)).start(probs)
    >>> inference.step(5).label_map().tolist()
    [[0, 0, 0]]
    """

    def __init__(self, mean_field: MeanField, unary: Unary, layout: Layout, active: npt.NDArray[np.intp] | None) -> None:
        self._mean_field, self._unary, self._layout, self._active = mean_field, unary, layout, active
        self._marginals: Any = None
        self.steps = 0

    def step(self, steps: int = 1) -> Inference:
        """Take one mean-field step, or ``steps`` (0 to 1000); returns itself."""
        check_steps(steps)
        if steps:
            with bounded_memory(int(np.prod(self._layout.shape))):
                self._marginals = self._mean_field.advance(self._marginals, steps)
        self.steps += steps
        return self

    def probabilities(self) -> npt.NDArray[np.float32]:
        """Return the current marginals, in the unary's layout."""
        marginals = self._current()
        if self._active is not None:
            energy = self._unary.energy(np.float32)
            weights = np.exp(energy.min(1, keepdims=True) - energy)
            probabilities = weights / weights.sum(1, keepdims=True)
            probabilities[self._active] = marginals
            marginals = probabilities
        return self._layout.from_pixels(marginals)

    def label_map(self) -> npt.NDArray[np.intp]:
        """Return the most probable label of each pixel, of the grid's shape."""
        return np.asarray(self.probabilities().argmax(-1 if self._layout.last else 0))

    def divergence(self) -> float:
        """Return the Kullback-Leibler divergence of the marginals from the CRF, up to a constant.

        It is what mean field minimises; steps that update all pixels at once may still raise it.
        """
        unary, pairwise = self._mean_field.divergence(self._mean_field.from_array(self._current()))
        return unary + pairwise / 2

    def _current(self) -> npt.NDArray[Any]:
        if self._marginals is None:
            self._marginals = self._mean_field.advance(None, 0)
        return self._mean_field.to_array(self._marginals)


def _check_image(image: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if image.ndim == len(shape):
        image = image[..., None]
    if image.shape[:-1] != shape:
        raise CRFError(f"found an image of shape {image.shape} for a unary of {shape} pixels, expected the same grid")
    if image.dtype == np.uint8 or not image.size:
        return image
    expected = "expected the image before normalisation, 0 to 255, the unit of sigma_colour"
    if image.dtype.kind not in "iuf":
        raise CRFError(f"found an image of type {image.dtype}, {expected}: give it as uint8")
    low, high = float(image.min()), float(image.max())
    if image.dtype.kind != "f":
        raise CRFError(
            f"found an image of type {image.dtype} from {low:g} to {high:g}, {expected}: give 8 bits as uint8, divide 16 bits by 257, "
            "or give it as Features with a sigma"
        )
    if low >= 0 and 0 < high <= 1:
        raise CRFError(f"found an image from 0 to 1, {expected}: multiply it by 255")
    # Comparisons with NaN are false.
    if not (low >= -RANGE_TOLERANCE * 255 and high <= (1 + RANGE_TOLERANCE) * 255) or (high <= _MIN_MAXIMUM and (low, high) != (0, 0)):
        raise CRFError(f"found an image from {low:g} to {high:g}, {expected}; other measurements go into Features with a sigma")
    return image
