"""What readers of annotation files share: outlines become pixels, shapes become masks, and files are recognised and found.

``region`` and ``polygons`` fill outlines by the rule of pixel centres, ``run_lengths`` and ``bitmaps`` decode stored pixels,
``outlines`` are the kinds of shapes, and ``drawing`` lays them over one another. The readers themselves are in
:mod:`upscore.data.readers`.
"""
