"""pydensecrf's names, so that changing the import is the whole migration.

::

    import pydensecrf.densecrf as dcrf                     import upscore.crf.pydensecrf.densecrf as dcrf
    from pydensecrf.utils import unary_from_softmax        from upscore.crf.pydensecrf.utils import unary_from_softmax

Same classes, methods, argument orders, units and signs, and the same numbers. What went wrong
there in silence or with a word about buffers either works here (other float types, other
memory orders, pictures with an axis too many) or is one line that says what to do.
"""
