"""Overlays: what is background stays the image, everything else is tinted and outlined, and the legend covers nothing."""

import math

import cv2
import numpy as np
import pytest
from PIL import ImageFont

from upscore import overlay
from upscore.overlay import draw_overlay, is_background
from upscore.types import LabelSpace, Prediction

PLAIN = LabelSpace(("road", "car"), ((10, 20, 200), (250, 10, 30)))
WITH_BACKGROUND = LabelSpace(("Background", "car"), PLAIN.palette)


def scene(height=60, width=80):
    """Return an image, and a label map with a rectangle of class 1 on class 0."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    label_map = np.zeros((height, width), np.uint8)
    label_map[height // 4 : height // 2 + 1, width // 4 : width // 2 + 1] = 1
    return image, label_map


def by_hand(image, label_map, labels, opacity):
    """Return the overlay, pixel by pixel, of an image of which contours are one pixel wide."""
    colours = labels.colours()
    result = image.copy()
    height, width = label_map.shape
    for row in range(height):
        for column in range(width):
            k = label_map[row, column]
            if k == 255 or is_background(labels.names[k]):
                continue
            around = label_map[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
            tint = (1 - opacity) * image[row, column] + opacity * colours[k]
            result[row, column] = colours[k] if (around != k).any() else np.rint(tint)
    return result


@pytest.mark.parametrize("labels", [PLAIN, WITH_BACKGROUND])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (60, 80)])
def test_it_is_what_the_rule_gives_pixel_by_pixel(labels, size):
    image, label_map = scene(*size)
    label_map[-1, -1] = 255
    expected = by_hand(image, label_map, labels, 0.5 if labels is WITH_BACKGROUND else 0.35)
    drawn = draw_overlay(image, label_map, labels)
    assert np.abs(drawn.astype(int) - expected).max() <= 1
    whole = by_hand(image, label_map, labels, 0.8)
    assert np.abs(Prediction(label_map, labels).overlay(image, 0.8).astype(int) - whole).max() <= 1


def test_every_pair_of_values_is_mixed():
    values = np.arange(256, dtype=np.uint8)
    labels = LabelSpace(tuple(map(str, range(255))), tuple((v, 255 - v, v // 2) for v in range(255)))
    image = np.stack([values[:, None].repeat(255, 1)] * 3, 2)
    for k in range(0, 255, 7):
        drawn = draw_overlay(image, np.full(image.shape[:2], k, np.uint8), labels, opacity=0.25)
        expected = np.rint(0.75 * image + 0.25 * np.array(labels.palette[k]))
        assert np.abs(drawn - expected).max() <= 1


def test_the_background_is_the_image_also_beside_a_wide_contour():
    image, label_map = scene(900, 1200)
    drawn = draw_overlay(image, label_map, WITH_BACKGROUND)
    background = label_map == 0
    assert np.array_equal(drawn[background], image[background])
    assert not np.array_equal(drawn[~background], image[~background])
    line = round(math.sqrt(900 * 1200) / 300)
    assert line > 2
    top, left = 225, 300
    column = drawn[top : top + line + 1, left + 100]
    assert (column[: line // 2] == 255).all(), "white beside a dark red"
    assert (column[line // 2 : line] == WITH_BACKGROUND.palette[1]).all()
    assert (column[line] != WITH_BACKGROUND.palette[1]).any()


def test_strips_cannot_be_seen(monkeypatch):
    image, label_map = scene(1000, 1300)
    label_map[500:700:3, 100:900] = 1
    whole = draw_overlay(image, label_map, PLAIN, legend=True)
    for rows in (25, 37):  # borders where strips meet, and elsewhere
        monkeypatch.setattr(overlay, "STRIP", rows)
        assert np.array_equal(draw_overlay(image, label_map, PLAIN, legend=True), whole)


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (700, 3), (480, 640), (2000, 3000)])
def test_the_legend_is_below_and_shows_the_classes_that_are_present(size):
    image, label_map = np.full((*size, 3), 128, np.uint8), np.zeros(size, np.uint8)
    labels = LabelSpace(("road", "car", "a name much longer than any image is wide " * 4), ((10, 20, 200), (250, 10, 30), (20, 200, 30)))
    plain, drawn = draw_overlay(image, label_map, labels), draw_overlay(image, label_map, labels, legend=True)
    height, width = size
    assert np.array_equal(drawn[:height, :width], plain)
    assert len(drawn) > height
    legend = drawn[height:]
    assert (legend == labels.palette[0]).all(-1).any()
    assert not (legend == labels.palette[1]).all(-1).any()
    assert (legend.astype(int).sum(-1) < 120).any(), "dark letters"
    assert (legend[0] == overlay.PAPER).all()
    assert (legend[-1] == overlay.PAPER).all()
    assert (legend[:, -1] == overlay.PAPER).all()


def test_a_legend_of_every_class_breaks_its_lines():
    labels = LabelSpace(tuple(f"class number {k}" for k in range(255)))
    label_map = np.arange(255, dtype=np.uint8)[None].repeat(20, 0)
    drawn = draw_overlay(np.zeros((20, 255, 3), np.uint8), label_map, labels, legend=True)
    assert drawn.shape[1] == 255
    shown = {tuple(colour) for colour in drawn[20:].reshape(-1, 3)}
    assert shown >= set(labels.palette)


def test_names_that_no_font_has_letters_for_are_numbers(monkeypatch):
    assert overlay._text_of("a\x1b[2J", "class 3", 12)[0] == "a\\x1b[2J"
    assert overlay._text_of("x" * 200, "class 3", 12)[0] == "x" * 37 + "..."
    monkeypatch.setattr(overlay, "FONTS", ("no such font.ttf",))
    assert overlay._text_of("길", "class 3", 12)[0] == "class 3"
    monkeypatch.setattr(overlay, "FONTS", ("no such font.ttf", "here.ttf"))
    truetype = ImageFont.truetype
    monkeypatch.setattr(ImageFont, "truetype", lambda path, *size, **how: HasAll() if path == "here.ttf" else truetype(path, *size, **how))
    assert overlay._text_of("길", 3, 12)[0] == "길"


class HasAll:
    def getmask(self, letter):
        return letter.encode()


@pytest.mark.parametrize("name", ["background", "_background_", "BG", "void", "Other", "배경"])
def test_names_of_a_background(name):
    assert is_background(name)


@pytest.mark.parametrize("name", ["road", "backgrounds", "another", ""])
def test_names_of_no_background(name):
    assert not is_background(name)


def test_contours_are_seen_on_an_image_of_the_class_s_own_colour():
    image, label_map = scene(900, 1200)
    image[...] = WITH_BACKGROUND.palette[1]
    drawn = draw_overlay(image, label_map, WITH_BACKGROUND)
    assert cv2.absdiff(drawn, image).max() > 100
