"""A drop-in replacement for pydensecrf: change the import, and nothing else.

::

    import pydensecrf.densecrf as dcrf                     import upscore.crf.pydensecrf.densecrf as dcrf
    from pydensecrf.utils import unary_from_softmax        from upscore.crf.pydensecrf.utils import unary_from_softmax

Classes, methods, argument orders, units, signs and results are the same. Inputs that pydensecrf
mishandles in silence or rejects with an error about buffers either work here (other float types
and memory orders, images with an extra axis) or raise an error with what to do.
"""
