"""The operations between the networks of the lineage; each file holds one.

``geometry`` says where cells lie, ``upsample`` is the bilinear transposed convolution,
``convolutionalize`` runs a classifier over every window of an image at once (``tracing`` and
``heads`` rewrite it), ``unpool`` puts maxima back, ``stitch`` makes a grid dense by shifted runs
and ``rarefaction`` by dilated filters (``steps`` reads the layers for it), ``mirror`` continues a
image; ``measuring`` finds where a network's cells lie, by their ``footprints``. ``out_of_memory``
recognises the errors of memory that ran out.
"""
