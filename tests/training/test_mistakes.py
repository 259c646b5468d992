"""Plain mistakes from Python: each is one line that says what was found, before a run folder is made."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import upscore
from squares import Network, Squares, make_network, make_sgd, mean_cross_entropy
from upscore.errors import BundleError, DataError, ModelError, RecipeError, TrainingError, UpscoreError

PIXELS = np.zeros((40, 48, 3), np.uint8)
MASK = np.zeros((40, 48), np.uint8)
NAMES = ["ground", "square"]


class Given(Squares):
    """Squares of which sample 2 is something else."""

    def __init__(self, image=PIXELS, mask=MASK, sample=None):
        super().__init__()
        self.sample = (image, mask) if sample is None else sample

    def __getitem__(self, index):
        return self.sample if index == 2 else super().__getitem__(index)


class Unlabelled(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return PIXELS, MASK


class Endless(torch.utils.data.IterableDataset):
    labels = NAMES

    def __iter__(self):
        yield PIXELS, MASK


class Renamed(Squares):
    labels = ("ground", "circle")


class Three(nn.Module):
    def __init__(self):
        super().__init__()
        self.scores = nn.Conv2d(3, 3, 1)

    def forward(self, images):
        return self.scores(images)


class InADict(Three):
    def forward(self, images):
        return {"out": self.scores(images)[:, :2]}


class Halved(Network):
    def forward(self, images):
        return nn.functional.avg_pool2d(super().forward(images), 2)


class MultiplesOf32(Network):
    def forward(self, images):
        if images.shape[-1] % 32:
            raise RuntimeError("Wrong input shape, expected multiples of 32")
        return super().forward(images)


def spaced(parameters):
    return torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1)


def with_state(loss):
    module = nn.CrossEntropyLoss(ignore_index=255)
    module.temperature = nn.Parameter(torch.ones(()))
    return module


TRAINING = {
    "nothing to train on": ({"train": None, "val": None}, RecipeError, "no data given: name "),
    "no validation data": ({"val": None}, RecipeError, r"train= without val=.*random_split divides one Squares"),
    "no training data": ({"train": None}, RecipeError, "found val= without train="),
    "a path that is not there": ({"train": "no/such/folder", "val": None}, DataError, "no/such/folder"),
    "data as recipe": ({"recipe": "street/dataset.yaml"}, RecipeError, "found the data 'street/dataset.yaml' as recipe: give it as train="),
    "a number as recipe": ({"recipe": 3}, RecipeError, "found int as recipe, expected a Recipe"),
    "an unknown setting": ({"epoch": 3}, RecipeError, r"no setting 'epoch' \(did you mean 'epochs'\?\)"),
    "a setting of several sections": ({"name": "unet"}, RecipeError, "'name' may be model.name or optimizer.name or schedule.name"),
    "a setting out of range": ({"epochs": 0}, RecipeError, "run.epochs = 0: "),
    "classes missing": ({"train": Unlabelled()}, DataError, "the dataset Unlabelled has no attribute 'labels'.*or give labels="),
    "one string as classes": ({"labels": "ground"}, DataError, "found labels of type str, expected a list of class names"),
    "classes that differ": ({"val": Renamed()}, DataError, "the splits differ in their classes: class 1 is 'square' against 'circle'"),
    "no images": ({"train": Squares(0)}, DataError, "the dataset Squares holds no image"),
    "no length": ({"train": Endless()}, DataError, "found Endless as dataset, expected a path, or an object with labels, __len__ and"),
    "an array as data": ({"train": PIXELS}, DataError, r"found an array of shape \(40, 48, 3\) .* as dataset"),
    "a sample without a mask": ({"train": Given(sample=PIXELS)}, DataError, r"Given\[2\]: found an array .*expected a Sample, or an"),
    "a sample of three": ({"train": Given(sample=(PIXELS, MASK, 0))}, DataError, r"Given\[2\]: found tuple of 3, expected a Sample"),
    "floats from 0 to 255": ({"train": Given(torch.ones(3, 40, 48) * 200)}, DataError, r"Given\[2\]: .*from 200 to 200.*divide it by 255"),
    "a normalised image": ({"train": Given(torch.randn(3, 40, 48))}, DataError, r"Given\[2\]: .*before normalisation"),
    "an array of floats": ({"train": Given(PIXELS / 255)}, DataError, r"Given\[2\]: .*float64 as image.*convert it to uint8, times 255"),
    "channels first": ({"train": Given(PIXELS.transpose(2, 0, 1))}, DataError, r"Given\[2\]: .*\.transpose\(1, 2, 0\)"),
    "a grey array": ({"train": Given(PIXELS[..., 0])}, DataError, r"Given\[2\]: .*repeat grey with np.stack"),
    "a path as image": ({"train": Given("image.png")}, DataError, r"Given\[2\]: found str, expected an image"),
    "a mask of floats": ({"train": Given(mask=MASK / 255)}, DataError, r"Given\[2\]: .*float64 as a mask.*ToTensor, is not for masks"),
    "a mask of colours": ({"train": Given(mask=PIXELS)}, DataError, r"Given\[2\]: .* as a mask.*give each colour its number first"),
    "a PIL mask of colours": ({"train": Given(mask=Image.fromarray(PIXELS))}, DataError, r"Given\[2\]: found a PIL image of mode 'RGB'"),
    "a negative class": ({"train": Given(mask=MASK.astype(int) - 1)}, DataError, r"Given\[2\]: found -1 in a mask.*255 where"),
    "a class too many": ({"train": Given(mask=MASK + 7)}, DataError, r"1 of 9 masks \(train 2\) hold values that are no class \(7: 1920"),
    "sizes that differ": ({"train": Given(mask=MASK[:-1])}, DataError, r"Given\[2\]: .*\(39, 48\).* as mask of an image of 40×48"),
    "too many channels": ({"model": Three()}, ModelError, r"Three returned shape \(1, 3, 64, 96\).*expected logits \(N, 2, H, W\)"),
    "a dictionary": ({"model": InADict()}, ModelError, r"InADict returned a dict with out.*forward returns \['out'\]"),
    "half the size": ({"model": Halved()}, ModelError, r"Halved returned shape \(1, 2, 32, 48\) for an image of 64×96.*upsample them"),
    "multiples of 32 alone": ({"model": MultiplesOf32()}, ModelError, "raised RuntimeError for an image of 75×97 .*any size: pad them"),
    "a class in place of a network": ({"model": Network}, ModelError, "found type as model, expected an nn.Module, or the name"),
    "an unknown network": ({"model": "fcn8"}, ModelError, r"unknown model 'fcn8' \(did you mean 'fcn8s'\?\)"),
    "weights beside a network": ({"weights": "imagenet"}, RecipeError, "model.weights = 'imagenet' has no effect beside model="),
    "a loss that counts 255": ({"loss": nn.CrossEntropyLoss()}, RecipeError, r"loss= raised IndexError .*ignore_index=255"),
    "a loss for each pixel": (
        {"loss": nn.CrossEntropyLoss(ignore_index=255, reduction="none")}, RecipeError, r"returned a tensor of shape \(2, 8, 8\), exp",
    ),
    "a sum": ({"loss": nn.CrossEntropyLoss(ignore_index=255, reduction="sum")}, RecipeError, "twice as large for the same images twice"),
    "a loss that is no number": ({"loss": lambda x, y: mean_cross_entropy(x, y) * float("nan")}, RecipeError, "loss= returned nan"),
    "a loss without gradient": ({"loss": lambda x, y: mean_cross_entropy(x, y).detach()}, RecipeError, "number without a gradient"),
    "a Python number": ({"loss": lambda x, y: mean_cross_entropy(x, y).item()}, RecipeError, "loss= returned float, expected a scalar"),
    "a loss that weighs 255": (
        {"loss": lambda x, y: nn.functional.cross_entropy(x, y.clamp(max=1))}, RecipeError, "counts pixels of label 255, which are ignored",
    ),
    "a loss to be trained": ({"loss": with_state(0)}, RecipeError, "loss= has trainable parameters"),
    "an unknown loss": ({"loss": "dyce"}, RecipeError, r"did you mean 'dice'\?"),
    "loss settings beside a loss": ({"class_weights": "median"}, RecipeError, "loss.class_weights = 'median' has no effect beside loss="),
    "an optimizer": ({"optimizer": torch.optim.SGD(make_network().parameters(), lr=1)}, RecipeError, "found SGD as optimizer, expected a"),
    "no optimizer": ({"optimizer": lambda parameters: None}, RecipeError, "optimizer= returned NoneType"),
    "other parameters": ({"optimizer": spaced}, RecipeError, "has parameters that it was not given"),
    "LBFGS": ({"optimizer": torch.optim.LBFGS}, RecipeError, "returned LBFGS, which evaluates the loss several times"),
    "a signature": ({"optimizer": lambda: None}, RecipeError, "optimizer= raised TypeError"),
    "no learning rate": ({"optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0)}, RecipeError, "has a learning rate of 0"),
    "a rate beside an optimizer": ({"lr": 0.1}, RecipeError, "optimizer.lr = 0.1 has no effect beside optimizer="),
    "a negative factor": ({"schedule": lambda step, steps: -1.0}, RecipeError, "schedule= returned -1.0 for step 0 of 6"),
    "no factor": ({"schedule": lambda step, steps: None}, RecipeError, "schedule= raised TypeError"),
    "a number for progress": ({"progress": 3}, RecipeError, "found progress=3, expected True, False, or a function"),
    "no function": ({"schedule": 0.9}, RecipeError, "found float as schedule, expected a function, or a name"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", TRAINING)
def test_a_mistake_in_training_is_one_line(mistake, tmp_path):
    given, error, said = TRAINING[mistake]
    right = {
        "train": Squares(), "val": Squares(3, first=100), "model": make_network(), "loss": mean_cross_entropy, "optimizer": make_sgd,
        "epochs": 2, "batch_size": 2, "device": "cpu", "progress": False, "out": tmp_path / "run",
    }  # fmt: skip
    with pytest.raises(UpscoreError, match=said) as raised:
        upscore.train(**{name: value for name, value in (right | given).items() if value is not None})
    assert type(raised.value) is error
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 700
    assert not (tmp_path / "run").exists()


def test_a_loss_that_becomes_no_number_names_the_images(tmp_path):
    calls = []

    def loss(logits, labels):
        calls.append(1)
        return mean_cross_entropy(logits, labels) * (float("nan") if len(calls) > 5 else 1)

    with pytest.raises(TrainingError, match=r"the loss became nan in epoch 2, step 4, on [0-5], [0-5]: lower"):
        upscore.train(
            train=Squares(), val=Squares(3), model=make_network(), loss=loss, epochs=2, batch_size=2, device="cpu", progress=False,
            out=tmp_path / "run",
        )  # fmt: skip


NETWORK = make_network()
USING = {
    "a network without classes": (lambda: upscore.Predictor(NETWORK), DataError, "found Network without labels.*give labels="),
    "one string as classes": (lambda: upscore.Predictor(NETWORK, labels="ground"), DataError, "found labels of type str"),
    "classes of a bundle": (lambda: upscore.Predictor("runs/x", labels=NAMES), RecipeError, "found labels for a bundle"),
    "no bundle": (lambda: upscore.Predictor([]), BundleError, "found no bundle"),
    "a list of images": (lambda: predict([PIXELS, PIXELS]), DataError, "found a list of 2, expected one image: upscore.predict_files"),
    "a folder": (lambda: predict("."), DataError, r"found the folder '\.', expected one image: upscore.predict_files"),
    "a batch": (lambda: predict(torch.zeros(2, 3, 8, 8)), DataError, "batch to predict_probs"),
    "floats from 0 to 255": (lambda: predict(torch.full((3, 8, 8), 200.0)), DataError, "divide it by 255"),
    "an array of floats": (lambda: predict(PIXELS / 255), DataError, "type float64, expected an image"),
    "too few channels": (
        lambda: predict(PIXELS, [*NAMES, "c"]), BundleError, "the network gives 2 classes, but its labels name 3",
    ),
    "evaluation without classes": (lambda: upscore.evaluate(NETWORK, Unlabelled()), DataError, "no attribute 'labels'"),
    "evaluation of other classes": (
        lambda: upscore.evaluate(upscore.Predictor(NETWORK, labels=["a", "b"]), Squares()),
        BundleError,
        "class 0 is 'a' against 'ground'",
    ),
    "evaluation on a broken sample": (lambda: upscore.evaluate(NETWORK, Given(mask=MASK[1:])), DataError, r"Given\[2\]: .*as mask of"),
    "evaluation of a class too many": (lambda: upscore.evaluate(NETWORK, Given(mask=MASK + 7)), DataError, "2: found label 7"),
    "an explanation without classes": (lambda: upscore.explain_image(NETWORK, PIXELS), DataError, "found Network without labels"),
}  # fmt: skip


def predict(image, labels=NAMES):
    return upscore.Predictor(NETWORK, labels=labels).predict(image)


@pytest.mark.parametrize("mistake", USING)
def test_a_mistake_in_use_is_one_line(mistake):
    make, error, said = USING[mistake]
    with pytest.raises(UpscoreError, match=said) as raised:
        make()
    assert type(raised.value) is error
    assert "\n" not in str(raised.value)


def test_classes_may_be_given_where_a_dataset_has_none(tmp_path):
    parts = torch.utils.data.random_split(Squares(9), [6, 3], torch.Generator().manual_seed(0))
    run = upscore.train(
        train=parts[0], val=parts[1], labels=NAMES, model=make_network(), epochs=1, batch_size=3, device="cpu", progress=False,
        out=tmp_path / "run",
    )  # fmt: skip
    evaluation = upscore.evaluate(upscore.Bundle.load(run.best, build=Network), parts[1], labels=NAMES)
    assert evaluation.metrics.mean_iou == run.progress.best_miou
    assert upscore.evaluate(NETWORK, [(PIXELS, MASK)], labels=NAMES).matrix.counts.sum() == MASK.size
