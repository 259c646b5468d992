"""Two heads on one backbone: every score layer and upsampling twice, for classes of two kinds.

Jonathan Long, Evan Shelhamer, Trevor Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, §5 and table 5: on
SIFT Flow one network predicts semantic and geometric classes. The layers are those of ``siftflow-fcn{32,16,8}s/net.py`` in
shelhamer/fcn.berkeleyvision.org, where the layers of a head end in ``_sem`` and ``_geo``::

    images ─ backbone ─┬─ score_*_sem ─ upscore*_sem ─► logits of the first classes    N K H W
    N C H W            └─ score_*_geo ─ upscore*_geo ─► logits of the second classes   N G H W

A score layer is a 1×1 convolution, and each class is upsampled by itself: two heads are one decoder of K + G classes, whose logits are
divided. That is how they are computed here.
"""

from __future__ import annotations

from typing import Any, overload

from torch import Tensor, nn

from upscore.errors import DataError, ModelError
from upscore.models.backbone import Backbone
from upscore.models.on_backbone import Decoder, OnBackbone
from upscore.types import LabelSpace

__all__ = ["TwoHeads", "second_labels"]


def second_labels(names: Any) -> LabelSpace:
    """Return the classes of a second head from their names, separated by commas; ModelError where they are none.

    >>> second_labels("sky, horizontal, vertical").names
    ('sky', 'horizontal', 'vertical')
    """
    classes = [name.strip() for name in names.split(",")] if isinstance(names, str) else []
    fault = f"found second_head {names!r:.80}, expected names of classes separated by commas, such as 'sky, horizontal, vertical'"
    if not all(classes):
        raise ModelError(fault)
    try:
        return LabelSpace(tuple(classes))
    except DataError as error:
        raise ModelError(fault) from error


class TwoHeads(OnBackbone):
    """A decoder of K + G classes on a backbone, as two heads: the first K classes, and the others.

    Parameters
    ----------
    backbone, decoder, normalization
        As those of :class:`~upscore.models.on_backbone.OnBackbone`; the decoder has K + G classes and upsamples each by itself.
    second : int
        G, 1 to K + G - 1.

    Examples
    --------
    >>> import torch
    >>> from upscore.models.factory import create_model
    >>> model = create_model("fcn8s", num_classes=33, second_head="sky, horizontal, vertical", width=1 / 32)
    >>> semantic, geometric = model(torch.zeros(1, 3, 40, 50), both=True)
    >>> tuple(semantic.shape), tuple(geometric.shape)
    ((1, 33, 40, 50), (1, 3, 40, 50))
    """

    def __init__(self, backbone: Backbone, decoder: Decoder, normalization: nn.Module, *, second: int) -> None:
        super().__init__(backbone, decoder, normalization)
        self.num_classes, self.second_classes = decoder.num_classes - second, second

    @overload
    def forward(self, images: Tensor) -> Tensor: ...

    @overload
    def forward(self, images: Tensor, *, both: bool) -> Tensor | tuple[Tensor, Tensor]: ...

    def forward(self, images: Tensor, *, both: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Return logits (N, K, H, W) of the first head; or ``both`` heads' logits, (N, K, H, W) and (N, G, H, W)."""
        logits = super().forward(images)
        first, second = logits[:, : self.num_classes], logits[:, self.num_classes :]
        return (first, second) if both else first
