"""Datasets: files to samples, samples to batches, without any network.

::

    path ── open_dataset ──> a reader ──> Sample ── transforms ──> Sample ── loading ──> Batch
                                  │
                                  └── mask_check: every mask is read and checked before training

The readers are independent of one another; all use ``image_files`` and ``mask_files``
(decoding), ``matching`` (which mask belongs to which image) and ``paired_files`` (their dataset).
"""

from upscore.data.dataset import Dataset
from upscore.data.dataset_statistics import DatasetStatistics
from upscore.data.finding import Finding, Remedy
from upscore.data.headers import IMAGE_SUFFIXES, MAX_PIXELS
from upscore.data.image_files import check_image, decode_image, read_image
from upscore.data.loading import AugmentedDataset, collate, epoch_order, init_worker
from upscore.data.mask_check import check_dataset, check_splits, inspect_dataset
from upscore.data.mask_files import read_instances, read_label
from upscore.data.open_dataset import READERS, list_splits, open_dataset
from upscore.data.png_files import write_image, write_label_map
from upscore.data.reader import Reader
from upscore.data.transforms import FILL, Augmentation, rng_for
from upscore.data.unet_border_weights import BorderWeighting

__all__ = [
    "FILL",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "READERS",
    "Augmentation",
    "AugmentedDataset",
    "BorderWeighting",
    "Dataset",
    "DatasetStatistics",
    "Finding",
    "Reader",
    "Remedy",
    "check_dataset",
    "check_image",
    "check_splits",
    "collate",
    "decode_image",
    "epoch_order",
    "init_worker",
    "inspect_dataset",
    "list_splits",
    "open_dataset",
    "read_image",
    "read_instances",
    "read_label",
    "rng_for",
    "write_image",
    "write_label_map",
]
