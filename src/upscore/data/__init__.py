"""Datasets: files to samples, samples to batches, without any network.

::

    path ── open_dataset ──> a reader ──> Sample ── transforms ──> Sample ── loading ──> Batch
                                  │
                                  └── mask_check: every mask is read and checked before training

The readers are independent of one another; all use ``image_files`` and ``mask_files``
(decoding), ``matching`` (which mask belongs to which image) and ``paired_files`` (their dataset).
"""
