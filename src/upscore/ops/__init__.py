"""The operations between the networks of the lineage; each file holds one and imports no other.

``geometry`` says where cells lie, ``upsample`` is the bilinear transposed convolution,
``convolutionalize`` runs a classifier over every window of a picture at once (``tracing`` and
``heads`` rewrite it); ``measuring`` finds where a network's cells lie, by their ``footprints``.
"""
