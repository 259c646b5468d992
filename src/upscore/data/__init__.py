"""Datasets: files to samples, samples to batches. Nothing here knows a network.

::

    path ── opening ──> a reader ──> Sample ── transforms ──> Sample ── loading ──> Batch
                              │
                              └── census: every mask is counted and evaluated before training

Readers (``folder``, ``voc``, ``side_by_side``, ``shapes``) do not know one another; they share
``images`` (files), ``matching`` (which mask is whose) and ``pairs`` (the dataset of both).
"""

from upscore.data.census import Census, Fault, check_dataset, check_splits, take_census
from upscore.data.dataset import Dataset
from upscore.data.image_files import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    check_image,
    decode_image,
    read_image,
    read_instances,
    read_label,
    write_image,
    write_label_map,
)
from upscore.data.loading import AugmentedDataset, collate, epoch_order, init_worker
from upscore.data.mask_findings import Finding
from upscore.data.open_dataset import list_splits, open_dataset
from upscore.data.remedies import Remedy
from upscore.data.transforms import FILL, Augmentation, rng_for
from upscore.data.unet_border_weights import BorderWeighting

__all__ = [
    "FILL",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "Augmentation",
    "AugmentedDataset",
    "BorderWeighting",
    "Census",
    "Dataset",
    "Fault",
    "Finding",
    "Remedy",
    "check_dataset",
    "check_image",
    "check_splits",
    "collate",
    "decode_image",
    "epoch_order",
    "init_worker",
    "list_splits",
    "open_dataset",
    "read_image",
    "read_instances",
    "read_label",
    "rng_for",
    "take_census",
    "write_image",
    "write_label_map",
]
