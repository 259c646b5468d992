"""Weights from elsewhere: files read without running code, tensors renamed, and a network filled exactly.

::

    file ── read ──► tensors by their names ── key_maps ──► by ours ── load, transplant ──► network
            torch_files, caffemodel, caffe_arrays, matconvnet
"""

from upscore.models.weights.load import Report, load_fitting, name_mismatch, silent, warn
from upscore.models.weights.read import read_weights

__all__ = ["Report", "load_fitting", "name_mismatch", "read_weights", "silent", "warn"]
