import pytest
import torch

from upscore.errors import DataError, ModelError
from upscore.localization.classifiers import imagenet_names, open_classifier, read_class_names
from upscore.models.backbones import import_timm
from upscore.models.classifier import create_classifier


def test_a_timm_network_takes_images_before_normalisation(tmp_path):
    torch.manual_seed(0)
    network = import_timm().create_model("resnet10t", num_classes=3).eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    opened, size = open_classifier("resnet10t", weights=tmp_path / "w.pth", num_classes=3)
    images = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(network.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        torch.testing.assert_close(opened(images), network((images - mean) / std))
    assert size == network.pretrained_cfg["input_size"][-1]


def test_the_papers_classifiers_by_name(tmp_path):
    torch.save(create_classifier("alexnet", num_classes=3).state_dict(), tmp_path / "w.pth")
    opened, size = open_classifier("alexnet", weights=tmp_path / "w.pth", num_classes=3)
    assert (size, opened.training) == (227, False)
    assert opened(torch.rand(1, 3, 227, 227)).shape == (1, 3)


def test_refusals(tmp_path):
    with pytest.raises(ModelError, match="give a file"):
        open_classifier("alexnet", weights="imagenet")
    with pytest.raises(ModelError, match="no weights file"):
        open_classifier("resnet10t", weights=tmp_path / "none.pth")
    torch.save(import_timm().create_model("resnet10t", num_classes=3).state_dict(), tmp_path / "w.pth")
    with pytest.raises(ModelError, match="do not fit"):
        open_classifier("resnet10t", weights=tmp_path / "w.pth", num_classes=4)


def test_names(tmp_path):
    names, synsets = imagenet_names()
    assert (len(names), len(synsets), names[281], synsets[281]) == (1000, 1000, "tabby", "n02123045")
    (tmp_path / "names.txt").write_text("cat\n\n dog \n")
    assert read_class_names(tmp_path / "names.txt") == ("cat", "dog")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match="found 0 names"):
        read_class_names(tmp_path / "empty.txt")
