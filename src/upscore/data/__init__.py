"""Datasets: files to samples, samples to batches. Nothing here knows a network.

::

    path ── opening ──> a reader ──> Sample ── transforms ──> Sample ── loading ──> Batch
                              │
                              └── census: every mask is counted and judged before training

Readers (``folder``, ``voc``, ``side_by_side``, ``shapes``) do not know one another; they share
``pictures`` (files), ``matching`` (which mask is whose) and ``pairs`` (the dataset of both).
"""

from upscore.data.census import Census, Fault, check_dataset, check_splits, take_census
from upscore.data.dataset import Dataset
from upscore.data.loading import TrainingPictures, collate, epoch_order, settle_worker
from upscore.data.mask_findings import Finding
from upscore.data.opening import list_splits, open_dataset
from upscore.data.pictures import (
    MAX_PIXELS,
    PICTURE_SUFFIXES,
    check_picture,
    decode_picture,
    read_instances,
    read_label,
    read_picture,
    write_label_map,
    write_picture,
)
from upscore.data.remedies import Remedy
from upscore.data.separation import Separation
from upscore.data.transforms import FILL, Augmentation, rng_for

__all__ = [
    "FILL",
    "MAX_PIXELS",
    "PICTURE_SUFFIXES",
    "Augmentation",
    "Census",
    "Dataset",
    "Fault",
    "Finding",
    "Remedy",
    "Separation",
    "TrainingPictures",
    "check_dataset",
    "check_picture",
    "check_splits",
    "collate",
    "decode_picture",
    "epoch_order",
    "list_splits",
    "open_dataset",
    "read_instances",
    "read_label",
    "read_picture",
    "rng_for",
    "settle_worker",
    "take_census",
    "write_label_map",
    "write_picture",
]
