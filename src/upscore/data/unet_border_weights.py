"""What U-Net's loss needs to know of each training image: its objects, and a weight for every pixel."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from upscore.errors import DataError
from upscore.types import Sample

__all__ = ["Separation"]


@dataclass(frozen=True)
class Separation:
    """How touching objects are kept apart: ``number`` a sample before it is varied, ``weigh`` it afterwards.

    Objects are found in the image as it was read, so that one that a crop or a bend cuts in
    two stays one; their numbers are then moved with the image. Weights are made from what
    the network will see, so that distances are in its pixels, whatever the zoom: only objects
    just outside the crop are not known of.

    Parameters
    ----------
    weight, sigma : float
        w0 and σ of :func:`~upscore.losses.separation.separation_weights`; a weight of 0 makes no map.
    of : tuple of int
        Classes whose connected pieces are the objects of a sample that has no instances.
    between : int, optional
        A class that is put between touching objects, two pixels wide.
    class_weights : (K,) tuple of float, optional
        Weight of each class, w_c; 1 when not given. The map holds them, since w(x) is their
        sum with the separation's term.
    """

    weight: float = 10.0
    sigma: float = 5.0
    of: tuple[int, ...] = ()
    between: int | None = None
    class_weights: tuple[float, ...] | None = None

    def number(self, sample: Sample) -> Sample:
        """Return ``sample`` with instances: its own, or the connected pieces of the classes named.

        Raises
        ------
        DataError
            It has none and no class is named.
        """
        from upscore.losses.separation import number_objects  # loads torch, which readers do without

        if sample.instances is not None:
            return sample
        if not self.of or sample.label is None:
            raise DataError(
                f"{sample.key}: has no instance mask to weigh borders by: add one, or name the classes whose pieces are "
                "the objects with loss.border_of"
            )
        return replace(sample, instances=number_objects(sample.label, self.of))

    def weigh(self, sample: Sample) -> Sample:
        """Return ``sample``, numbered before, with its weights and with touching objects parted.

        Weights it already has are factors on those of the classes; the separation's term is
        added to that.
        """
        from upscore.losses.separation import separate_touching, separation_weights

        assert sample.instances is not None
        if self.between is not None and sample.label is not None:
            label, instances = separate_touching(sample.label, sample.instances, self.between)
            sample = replace(sample, label=label, instances=instances)
        if not self.weight:
            return sample
        assert sample.instances is not None
        weights = separation_weights(sample.instances, weight=self.weight, sigma=self.sigma)
        own = np.float32(1) if sample.weights is None else sample.weights
        if self.class_weights is not None and sample.label is not None:
            table = np.zeros(256, np.float32)
            table[: len(self.class_weights)] = self.class_weights
            own = own * table[sample.label]
        return replace(sample, weights=weights + own)
