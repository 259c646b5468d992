"""Why a network labels an image as it does: as arrays, and as one HTML page.

::

    receptive_fields     which pixels can change a score, and which do
    activations          feature maps of every layer, from coarse to fine
    skip_contributions   what each skip connection of an FCN contributes
             └──────────────── explanation ── page

The first three are independent of one another, and take any network that they apply to.
"""

from upscore.explain.activations import Activation, record_activations
from upscore.explain.explanation import Explanation, explain_image, explain_model
from upscore.explain.page import write_explanation
from upscore.explain.receptive_fields import ReceptiveField, effective_receptive_fields, theoretical_receptive_field
from upscore.explain.skip_contributions import SkipPrediction, accumulate_terms, split_logits

__all__ = [
    "Activation",
    "Explanation",
    "ReceptiveField",
    "SkipPrediction",
    "accumulate_terms",
    "effective_receptive_fields",
    "explain_image",
    "explain_model",
    "record_activations",
    "split_logits",
    "theoretical_receptive_field",
    "write_explanation",
]
