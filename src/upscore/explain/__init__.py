"""Why a network says what it says about one picture: as arrays, and as one page.

::

    fields        what a score could look at, and what it does look at
    activations   what the layers make of the picture, from coarse to fine
    skips         what each skip of an FCN adds
         └──────────────── explanation ── page

The three know nothing of one another, and take any network they can say something about.
"""

from upscore.explain.activations import Activation, record_activations
from upscore.explain.explanation import Explanation, explain_model, explain_picture
from upscore.explain.fields import Field, effective_field, theoretical_field
from upscore.explain.page import write_explanation
from upscore.explain.skips import Stream, add_up_streams, split_streams

__all__ = [
    "Activation",
    "Explanation",
    "Field",
    "Stream",
    "add_up_streams",
    "effective_field",
    "explain_model",
    "explain_picture",
    "record_activations",
    "split_streams",
    "theoretical_field",
    "write_explanation",
]
