"""The learning rate and the decay of every parameter beside the multipliers in the authors' files.

Facts from these files, by kind of layer (of its first blob and its second); a layer without multipliers has Caffe's defaults, 1 and 1:

=====================  ===========================================================================================  ==========
file                                                                                                                commit
=====================  ===========================================================================================  ==========
voc-fcn*/net.py        https://github.com/shelhamer/fcn.berkeleyvision.org                                          1305c73
nyud-fcn32s-*/net.py   the same                                                                                     3f83b8d
siftflow-*/net.py      the same                                                                                     11a101c
stage_*_train          https://github.com/HyeonwooNoh/DeconvNet, training/00*                                       8c37ba3
segnet_train           https://github.com/alexgkendall/SegNet-Tutorial, Models                                      63b77a9
segnet_basic_train     the same                                                                                     63b77a9
=====================  ===========================================================================================  ==========
"""

import pytest
import torch
from torch import nn

from upscore.models.factory import create_model
from upscore.training.network import architecture_arguments
from upscore.training.optimizers import build_optimizer
from upscore.training.recipe import Recipe
from upscore.types import LabelSpace

CONVOLUTION = ((1, 1), (2, 0))  # (lr_mult, decay_mult) of the weight, and of the bias
DEFAULT = ((1, 1), (1, 1))

FCN = {nn.Conv2d: CONVOLUTION}
DECONVNET = {nn.Conv2d: CONVOLUTION, nn.ConvTranspose2d: CONVOLUTION, nn.BatchNorm2d: DEFAULT}
SEGNET = {nn.Conv2d: CONVOLUTION, nn.BatchNorm2d: ((1, 1), (1, 0))}
SEGNET_BASIC = {nn.Conv2d: CONVOLUTION, nn.BatchNorm2d: DEFAULT}

FILES = {
    "fcn32s-voc": FCN,
    "fcn16s-voc": FCN,
    "fcn8s-voc": FCN,
    "fcn8s-atonce-voc": FCN,
    "fcn32s-alexnet-voc": FCN,
    "fcn32s-nyud": FCN,
    "fcn32s-nyud-late": FCN,
    "fcn8s-siftflow": FCN,
    "deconvnet-stage1": DECONVNET,
    "deconvnet-stage2": DECONVNET,
    "segnet-camvid": SEGNET,
    "segnet-basic-camvid": SEGNET_BASIC,
}


@pytest.mark.parametrize("name", FILES)
def test_every_parameter_has_the_multipliers_of_the_authors_file(name):
    recipe = Recipe.load(name)
    labels = LabelSpace(tuple(f"class {k}" for k in range(21)))
    arguments = architecture_arguments(recipe, labels) | {"width": 1 / 32}
    with torch.device("meta"):
        model = create_model(recipe.model.name, **arguments)
    optimizer = build_optimizer(model, recipe.optimizer)
    found = {id(p): (group["scale"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    checked = 0
    for layer in model.modules():
        for blob, parameter in enumerate(layer.parameters(recurse=False)):
            lr, decay = FILES[name][type(layer)][blob]
            assert found[id(parameter)] == pytest.approx((lr, decay * recipe.optimizer.weight_decay)), (type(layer), blob)
            checked += 1
    assert checked == len(found)


@pytest.mark.parametrize("name", ["deconvnet", "segnet", "segnet-basic"])
def test_norms_begin_as_in_the_releases(name):
    """``scale_filler`` is 1 and ``shift_filler`` 0.001 in all three files."""
    norms = [layer for layer in create_model(name, num_classes=3, width=1 / 32).modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms
    for layer in norms:
        assert bool((layer.weight == 1).all())
        assert bool((layer.bias == torch.tensor(0.001)).all())
