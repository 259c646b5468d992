"""Why a network says what it says about one image: as arrays, and as one page.

::

    fields        what a score could look at, and what it does look at
    activations   what the layers make of the image, from coarse to fine
    skips         what each skip of an FCN adds
         └──────────────── explanation ── page

The three know nothing of one another, and take any network they can say something about.
"""

from upscore.explain.activations import Activation, record_activations
from upscore.explain.explanation import Explanation, explain_image, explain_model
from upscore.explain.page import write_explanation
from upscore.explain.receptive_fields import Field, effective_field, theoretical_field
from upscore.explain.skip_contributions import Stream, add_up_streams, split_streams

__all__ = [
    "Activation",
    "Explanation",
    "Field",
    "Stream",
    "add_up_streams",
    "effective_field",
    "explain_image",
    "explain_model",
    "record_activations",
    "split_streams",
    "theoretical_field",
    "write_explanation",
]
