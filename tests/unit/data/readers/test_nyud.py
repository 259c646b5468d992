"""NYUDv2 in colour, with HHA and with depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mat_bytes import mat_bytes
from small_files import SIZE, image, mask, write
from upscore.data.dataset import input_of, read_as
from upscore.data.mask_check import check_dataset
from upscore.data.open_dataset import list_splits, open_dataset
from upscore.data.readers.nyud import CLASSES
from upscore.errors import DataError
from upscore.input_spec import InputSpec


@pytest.fixture
def nyud(tmp_path: Path) -> Path:
    for key in ("5001", "5002", "5003"):
        image(tmp_path / "data/images" / f"img_{key}.png", 7)
        image(tmp_path / "data/hha" / f"img_{key}.png", np.broadcast_to(np.array([1, 2, 3], np.uint8), (*SIZE, 3)))
        image(tmp_path / "data/depth" / f"img_{key}.png", mask(0, 1, 1000, 65535, dtype="u2"))
        write(tmp_path / "segmentation" / f"img_{key}.mat", mat_bytes({"segmentation": mask(0, 1, 40, 2, dtype="f8")}))
    for split, names in {"train": "5002\n", "val": "5001\n", "test": "5003\n"}.items():
        write(tmp_path / f"{split}.txt", names)
    return tmp_path


def test_nyud_in_colour_and_with_further_bands(nyud: Path) -> None:
    assert list_splits(nyud) == ("test", "train", "val", "trainval")
    colour = open_dataset(nyud, "trainval")
    assert colour.keys == ["5002", "5001"]
    assert colour.labels.names == CLASSES
    assert len(CLASSES) == 40
    assert np.array_equal(colour[0].label, mask(255, 0, 39, 1))
    hha = open_dataset(nyud / "data/hha", "test")
    assert hha.input.bands == ("red", "green", "blue", "disparity", "height", "angle")  # type: ignore[attr-defined]
    assert hha[0].image[0, 0].tolist() == [7, 7, 7, 1, 2, 3]
    assert hha[0].image.dtype == np.uint8
    assert check_dataset(hha).class_pixels[[0, 1, 39]].tolist() == [12, 12, 12]
    depth = open_dataset(nyud / "data/depth", "train")
    assert str(depth.input) == "4 bands of float32 (red, green, blue, log depth)"  # type: ignore[attr-defined]
    pixels = depth[0].image[0]
    depth.input.check(depth[0].image)  # type: ignore[attr-defined]
    assert pixels[:, :3].tolist() == [[7, 7, 7]] * 8
    assert np.isnan(pixels[0, 3])
    np.testing.assert_allclose(pixels[[2, 4, 6], 3], np.log([1, 1000, 65535]), rtol=1e-6)


def test_faults_of_nyud_are_one_line(nyud: Path) -> None:
    image(nyud / "data/hha/img_5003.png", np.zeros((3, 4, 3), np.uint8))
    with pytest.raises(DataError, match=r"img_5003\.png: the image is 3×4 .* colour image 6×8"):
        open_dataset(nyud / "data/hha", "test")[0]
    (nyud / "data/depth/img_5003.png").unlink()
    with pytest.raises(DataError, match=r"img_5003\.png: no such file; 1 of 1 images of test have none"):
        open_dataset(nyud / "data/depth", "test")
    image(nyud / "data/depth/img_5002.png", 9)
    with pytest.raises(DataError, match=r"img_5002\.png: the image has 3 bands of uint8"):
        open_dataset(nyud / "data/depth", "train")[0]
    write(nyud / "segmentation/img_5001.mat", mat_bytes({"a": np.eye(6), "b": np.eye(6)}))
    with pytest.raises(DataError, match=r"holds 2 matrices that may be a mask, found a, b: save one"):
        open_dataset(nyud, "val")[0]
    write(nyud / "segmentation/img_5001.mat", mat_bytes({"names": "x"}))
    with pytest.raises(DataError, match="holds 0 matrices that may be a mask, found the variables names"):
        open_dataset(nyud, "val")[0]


def test_bands_of_nyud_can_be_read_alone(nyud: Path) -> None:
    spec = InputSpec(("height", "angle"))
    both = read_as(open_dataset(nyud / "data/hha", "test"), spec)
    assert both[0].image[0, 0].tolist() == [2, 3]
    assert input_of(both) == spec
    (angle,) = read_as(both, InputSpec(("angle",)))[0].image[0, 0].tolist()
    assert angle == 3
    with pytest.raises(DataError, match="which the network takes"):
        read_as(both, InputSpec(("disparity",)))
    with pytest.raises(DataError, match="which the network takes"):
        read_as(both, InputSpec(("angle",), "uint16"))
