"""Dense scores from a classifier, as the FCN paper derives them (Long, Shelhamer and Darrell 2015, §3.1 and §3.2).

It demonstrates the paper's steps from a classifier to a dense network. ``upscore localize`` uses ``convolutionalize``, no command the rest.

``convolutionalize`` runs a classifier on every window of an image at once (``fx_trace`` records its
forward pass, ``fx_rewrite`` replaces its head); ``shift_and_stitch`` makes a coarse grid dense by
running the network on shifted images, and ``rarefaction`` by dilating its filters (``fx_ops`` reads
the layers' kernels, strides and crops).
"""
