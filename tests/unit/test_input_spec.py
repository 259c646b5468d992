"""What goes into a network, as a value: what it refuses, how it compares, and how its bands are shown."""

from __future__ import annotations

import numpy as np
import pytest

from upscore.errors import DataError
from upscore.input_spec import RGB, InputSpec

FOUR = InputSpec(("red", "green", "blue", "infrared"), "uint16", (0.1, 0.2, 0.3, 0.4), (0.05, 0.05, 0.1, 0.2))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"bands": ()}, "found 0 bands, expected 1 to 64"),
        ({"bands": tuple(map(str, range(65)))}, "found 65 bands"),
        ({"bands": ("a", "a")}, "expected names that are unique"),
        ({"bands": ("a", "")}, "expected names that are unique"),
        ({"bands": ("a" * 101,)}, "of 1 to 100 characters"),
        ({"dtype": "int16"}, "values of type 'int16', expected one of uint8, uint16, float32"),
        ({"mean": (1, 2, 3)}, "found 3 means and 0 deviations for 3 bands"),
        ({"mean": (1, 2), "std": (1, 1)}, "found 2 means and 2 deviations for 3 bands"),
        ({"mean": (1, 2, 3), "std": (1, 1, 0)}, "deviations above 0"),
        ({"mean": (1, 2, float("nan")), "std": (1, 1, 1)}, "all finite"),
        ({"shown": ("red", "green")}, "expected one, or three"),
        ({"shown": ("red", "green", "infrared")}, "as the bands to show"),
    ],
)
def test_what_is_no_input_is_refused(arguments: dict, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint) as error:
        InputSpec(**arguments)
    assert "\n" not in str(error.value)


def test_bands_are_shown_by_their_names_or_their_order() -> None:
    assert FOUR.shown == ("red", "green", "blue")
    assert InputSpec(("infrared", "blue", "green", "red")).shown == ("red", "green", "blue")
    assert InputSpec.unnamed(5, "float32").shown == ("band 1", "band 2", "band 3")
    assert InputSpec.unnamed(2, "float32").shown == ("band 1",)
    assert FOUR.colours == (0, 1, 2)
    assert InputSpec(("infrared", "blue", "green", "red")).colours == (3, 2, 1)
    assert InputSpec.unnamed(3, "uint8").colours == ()


def test_images_fit_by_number_type_and_names_where_both_give_them() -> None:
    assert FOUR.fits(InputSpec(("red", "green", "blue", "band 4"), "uint16"))
    assert not FOUR.fits(InputSpec(("blue", "green", "red", "band 4"), "uint16"))
    assert not FOUR.fits(InputSpec(("red", "green", "blue", "band 4"), "float32"))
    assert not FOUR.fits(InputSpec(("red", "green", "blue"), "uint16"))
    assert not RGB.fits(InputSpec(("blue", "green", "red")))
    assert FOUR.difference(FOUR.with_statistics((0,) * 4, (1,) * 4)) == ""
    assert FOUR.difference(RGB) == "4 bands of uint16 (red, green, blue, infrared) against 3 bands of uint8 (red, green, blue)"


def test_only_three_bytes_of_the_colours_are_rgb() -> None:
    assert RGB.is_rgb
    assert InputSpec(mean=(0.5,) * 3, std=(0.2,) * 3).is_rgb
    for other in (FOUR, InputSpec(("blue", "green", "red")), InputSpec(dtype="uint16"), InputSpec.unnamed(3, "uint8")):
        assert not other.is_rgb


def test_a_wrong_array_is_told_from_the_right_one() -> None:
    RGB.check(np.zeros((1, 1, 3), np.uint8))
    FOUR.check(np.zeros((2, 3, 4), np.uint16))
    for image, words in (
        (np.zeros((2, 3, 3), np.uint16), "shape (2, 3, 3) and type uint16, expected an image (H, W, 4) uint16: 4 bands of uint16 (red"),
        (np.zeros((2, 3, 4), np.uint8), "type uint8"),
        (np.zeros((4, 2, 3), np.uint16), "channels come last"),
        (np.zeros((0, 3, 4), np.uint16), "shape (0, 3, 4)"),
        ([[1]], "found list"),
    ):
        with pytest.raises(DataError) as error:
            FOUR.check(image)
        assert words in str(error.value)


def test_bands_are_stretched_by_two_deviations_about_the_mean_and_no_data_is_black() -> None:
    values = np.array([0.1 - 0.1, 0.1 - 0.05, 0.1, 0.1 + 0.05, 0.1 + 0.1, 0.9]) * 65535
    image = np.zeros((1, 6, 4), np.uint16)
    image[0, :, 0] = np.rint(values)
    assert FOUR.display(image)[0, :, 0].tolist() == [0, 64, 128, 191, 255, 255]
    assert FOUR.display(image, ("infrared",)).shape == (1, 6, 3)
    height = InputSpec(("height",), "float32", (100.0,), (10.0,))
    shown = height.display(np.array([[[np.nan], [80], [120]]], np.float32))
    assert shown.tolist() == [[[0] * 3, [0] * 3, [255] * 3]]
    assert height.display_note == "Of 1 band, images show height as grey, stretched: height from 80 to 120."
    assert FOUR.display_note.startswith(
        "Of 4 bands, images show red, green and blue as red, green and blue, stretched: red from 0 to 13,107;"
    )


def test_rgb_is_shown_as_it_is_and_other_bytes_without_statistics_too() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8)
    assert RGB.display(image) is image
    assert np.array_equal(RGB.display(image, ("blue", "green", "red")), image[..., ::-1])
    assert np.array_equal(InputSpec(("blue", "green", "red")).display(image), image[..., ::-1])
    assert RGB.display_note == ""
    assert InputSpec(("blue", "green", "red")).display_note.endswith("as stored.")
    sixteen = InputSpec(dtype="uint16")
    assert np.array_equal(sixteen.display(image.astype(np.uint16) * 257), image)
