"""The operations between the networks of the lineage; each file holds one.

``geometry`` says where cells lie, ``upsample`` is the bilinear transposed convolution,
``convolutionalize`` turns a classifier's linear layers into convolutions, ``unpool`` puts
maxima back, ``stitch`` makes a grid dense by shifted runs and ``rarefaction`` by dilated filters
(``steps`` reads the layers for it).
"""
