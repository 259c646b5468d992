"""The operations between the networks of the lineage; each file holds one and imports no other.

``geometry`` says where cells lie, ``upsample`` is the bilinear transposed convolution,
``convolutionalize`` turns a classifier's linear layers into convolutions.
"""
