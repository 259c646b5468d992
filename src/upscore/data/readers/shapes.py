"""A generated dataset: scenes of shapes of very different sizes, drawn when they are read.

Six shapes lie on textured ground, from blobs a third of the image wide to discs of five
pixels and rods two pixels thick; they overlap, cast shadows and have common textures. A
hue hints at the class, and the outline determines it. Coarse networks find the big ones and
lose the thin ones, which the papers' skips are for.

An outline is a signed distance: the label is where it is negative, the image's soft edge
is its clipped value, the rounded rim its gradient. Labels are therefore exact.
"""

from __future__ import annotations

import math
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from upscore.data.reader import Reader
from upscore.data.splits import choose_split
from upscore.errors import DataError, nearest_name
from upscore.input_spec import DTYPES, MAX_BANDS, RGB, DType, InputSpec
from upscore.text import shortened
from upscore.types import LabelSpace, Sample

__all__ = ["READER", "SHAPES_LABELS", "Shapes", "open_shapes", "shapes_splits"]

SHAPES_LABELS = LabelSpace(
    ("background", "disc", "square", "triangle", "ring", "rod", "star"),
    ((38, 43, 56), (240, 98, 86), (78, 160, 230), (104, 196, 122), (250, 190, 72), (186, 116, 220), (72, 204, 200)),
)
"""The seven classes of the dataset."""

_COUNTS = {"train": 800, "val": 200, "test": 200}
_Array = npt.NDArray[Any]


def _options_in(path: str) -> dict[str, Any]:
    """Return the options that follow the word, as in ``shapes:bands=4,dtype=uint16,count=100``."""
    options: dict[str, Any] = {}
    for option in path.partition(":")[2].split(","):
        name, _, value = option.partition("=")
        number = int(value) if value.isascii() and value.isdecimal() and len(value) < 10 else None
        height, _, width = value.partition("x")
        if name in ("bands", "count", "seed") and number is not None:
            options[name] = number
        elif name == "dtype":
            options[name] = value
        elif name == "size" and height.isdecimal() and width.isdecimal() and len(value) < 12:
            options[name] = (int(height), int(width))
        elif option or ":" in path:
            raise DataError(
                f"found '{shortened(option)}' in '{shortened(path)}', expected bands=N, dtype={'|'.join(DTYPES)}, size=HxW, count=N "
                "or seed=N, as in shapes:bands=4,dtype=uint16"
            )
    return options


def shapes_splits() -> tuple[str, ...]:
    """Return ``("train", "val", "test")``."""
    return tuple(_COUNTS)


def open_shapes(
    split: str,
    *,
    size: tuple[int, int] = (128, 160),
    count: int | None = None,
    seed: int = 0,
    bands: int = 3,
    dtype: DType = "uint8",
) -> Shapes:
    """Open a split of the generated dataset.

    Parameters
    ----------
    split : str
        ``train``, ``val`` or ``test``; they have no image in common.
    size : (int, int)
        Height and width in pixels, 32 to 4096. Thin parts have the same thickness in pixels at any size.
    count : int, optional
        How many images; 800, 200 and 200 when not given.
    seed : int
        Another seed is another dataset.

    Raises
    ------
    DataError
        The split is unknown, or a value is out of range.
    """
    if split not in _COUNTS:
        raise DataError(f"shapes: no split '{split}'{nearest_name(split, tuple(_COUNTS))}, expected {', '.join(_COUNTS)}")
    if not all(32 <= side <= 4096 for side in size):
        raise DataError(f"shapes: found size {tuple(size)}, expected height and width from 32 to 4096")
    count = _COUNTS[split] if count is None else count
    if not 1 <= count <= 10**6:
        raise DataError(f"shapes: found count {count}, expected 1 to 1000000")
    if not isinstance(bands, int) or not 1 <= bands <= MAX_BANDS:
        raise DataError(f"shapes: found {bands!r:.80} bands, expected 1 to {MAX_BANDS}")
    if dtype not in DTYPES:
        raise DataError(f"shapes: found dtype {dtype!r:.80}, expected {', '.join(DTYPES)}")
    return Shapes(split, size, count, seed, input=RGB if (bands, dtype) == (3, "uint8") else _band_spec(bands, dtype))


def _band_spec(bands: int, dtype: DType) -> InputSpec:
    if bands < 3:
        return InputSpec.unnamed(bands, dtype)
    return InputSpec(("red", "green", "blue", *(f"mixture {number}" for number in range(1, bands - 2))), dtype)


class Shapes:
    """The generated dataset; sample ``i`` is a function of (seed, split, i), the size and the bands alone. See :func:`open_shapes`."""

    name = "shapes"
    labels = SHAPES_LABELS
    warnings: tuple[str, ...] = ()

    def __init__(self, split: str, size: tuple[int, int], count: int, seed: int, *, input: InputSpec = RGB) -> None:
        self.split = split
        self.size = size
        self.seed = seed
        self.input = input
        self.keys = [f"{split}-{i:05d}" for i in range(count)]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        key = self.keys[index]
        digest = blake2b(f"shapes\0{self.seed}\0{key}".encode(), digest_size=16).digest()
        sample = _draw_scene(key, self.size, np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little"))))
        return sample if self.input.is_rgb else replace(sample, image=_as_bands(sample.image, self.input))

    def __repr__(self) -> str:
        return f"<shapes {self.split}: {len(self)} images of {self.size[0]}×{self.size[1]}, {len(self.labels)} classes>"


def _as_bands(rgb: _Array, spec: InputSpec) -> _Array:
    """Return an RGB image as other bands: a fixed mixture of the colours, a gain and an offset for each."""
    rng = np.random.default_rng(len(spec))
    mixtures = rng.dirichlet((0.7, 0.7, 0.7), len(spec))
    if len(spec) >= 3:
        mixtures[:3] = np.eye(3)
    else:
        mixtures[0] = 0.299, 0.587, 0.114
    gains, offsets = rng.uniform(0.05, 0.9, len(spec)), rng.uniform(0, 0.1, len(spec))
    values = rgb.astype(np.float32) / np.float32(255) @ (mixtures * gains[:, None]).T.astype(np.float32) + offsets.astype(np.float32)
    if spec.dtype == "float32":
        return np.asarray(100 * values - 20, np.float32)
    return np.asarray(np.rint(values * np.float32(spec.unit)), spec.dtype)


class _Scene(NamedTuple):
    """The arrays that objects are drawn on, and what all objects of one image have in common."""

    canvas: _Array  # (3, H, W) float32: with colours apart, NumPy broadcasts a plane over them fast
    label: _Array
    instances: _Array
    light: tuple[float, float]  # x and y of the direction the light comes from
    rng: np.random.Generator


def _draw_scene(key: str, size: tuple[int, int], rng: np.random.Generator) -> Sample:
    height, width = size
    tint, sun = rng.uniform(0, 1), rng.uniform(0, math.tau)
    label, instances = np.zeros(size, np.uint8), np.zeros(size, np.int32)
    scene = _Scene(_ground(size, tint, rng), label, instances, (math.cos(sun), math.sin(sun)), rng)
    count = max(1, int(rng.integers(11, 19) * height * width / (128 * 160)))
    longest = 0.3 * min(height, width)
    reaches = longest * np.exp(-rng.uniform(0, 1, count) * math.log(longest / 2.6))
    # Large objects are drawn first, so that they do not hide small ones; 15 % are drawn out of this order, and may be hidden.
    order = np.argsort(-reaches * rng.choice([1.0, 4.0], count, p=[0.85, 0.15]))
    for number, reach in enumerate(reaches[order].tolist(), 1):
        _draw_object(scene, int(rng.integers(1, len(SHAPES_LABELS))), reach, number)
    # One light over the whole scene, then the camera's noise.
    ramp = rng.uniform(0.7, 1.25, (2, 2)).astype(np.float32)
    canvas = scene.canvas * cv2.resize(ramp, (width, height), interpolation=cv2.INTER_LINEAR)
    canvas += rng.standard_normal(size, np.float32) * np.float32(rng.uniform(1, 6))
    image = cv2.merge([np.clip(plane, 0, 255).astype(np.uint8) for plane in canvas])
    return Sample(key, image, label, instances)


def _ground(size: tuple[int, int], tint: float, rng: np.random.Generator) -> _Array:
    """Return a soft, textured ground, (3, H, W) float32."""
    height, width = size
    first = _colour(tint, rng.uniform(0.2, 0.6), rng.uniform(110, 215))
    second = _colour(tint + rng.uniform(-0.15, 0.15), rng.uniform(0.1, 0.5), rng.uniform(70, 225))
    blend = np.full(size, 0.5, np.float32)
    for cells, strength in ((3, 0.45), (9, 0.18), (36, 0.1)):
        grid = rng.uniform(-1, 1, (cells, cells + 1)).astype(np.float32)
        blend += strength * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.5:
        y, x = np.ogrid[:height, :width]
        blend += np.float32(0.16) * _pattern(x.astype(np.float32), y.astype(np.float32), rng)
    return np.asarray(first + blend * (second - first))


def _draw_object(scene: _Scene, kind: int, reach: float, number: int) -> None:
    """Draw one object and its shadow at a random position; its label is ``kind``, its instance ``number``."""
    rng, name = scene.rng, SHAPES_LABELS.names[kind]
    height, width = scene.label.shape
    centre_x, centre_y, turn = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, math.tau)
    thin = float(np.clip(reach * rng.uniform(0.06, 0.22), 1.0, 7.0))  # half the thickness of a rod or ring
    cast = max(1.0, 0.16 * reach)  # how far the shadow falls
    cos, sin = math.cos(turn), math.sin(turn)
    along, aside = (1.8 * reach + 4, 0.0) if name == "rod" else (reach, reach)
    half_x = int(max(along * abs(cos), aside) + 2 * (thin + cast) + 4)
    half_y = int(max(along * abs(sin), aside) + 2 * (thin + cast) + 4)
    left, right = max(0, int(centre_x) - half_x), min(width, int(centre_x) + half_x + 1)
    top, bottom = max(0, int(centre_y) - half_y), min(height, int(centre_y) + half_y + 1)
    x = (np.arange(left, right) - centre_x).astype(np.float32)[None]
    y = (np.arange(top, bottom) - centre_y).astype(np.float32)[:, None]
    u = np.float32(cos) * x + np.float32(sin) * y
    v = np.float32(cos) * y - np.float32(sin) * x
    distance = _OUTLINES[name](u, v, reach, thin)

    under = scene.canvas[:, top:bottom, left:right]
    light_x, light_y = scene.light
    # The shadow is the outline again, softened and moved away from the light.
    shade = np.clip(0.5 - distance / np.float32(2 * cast), 0, 1) * np.float32(rng.uniform(0.35, 0.6))
    away = np.array([[1, 0, -light_x * cast], [0, 1, -light_y * cast]])
    under *= 1 - cv2.warpAffine(shade, away, shade.shape[::-1], borderMode=cv2.BORDER_REPLICATE)

    # Hues vary about one of each class, at times beyond the next class's: a hint at the class, no more.
    hue = (kind - 1) / (len(SHAPES_LABELS) - 1) + rng.normal(0, 0.06)
    first = _colour(hue, rng.uniform(0.35, 0.9), rng.uniform(120, 250))
    second = first * np.float32(rng.uniform(0.55, 0.85)) + np.float32(rng.uniform(0, 40))
    blend = 0.5 + np.float32(0.5) * _pattern(u, v, rng) if rng.random() < 0.6 else 0.5 + v / np.float32(2 * reach + 2)
    surface = first + np.clip(blend, 0, 1) * (second - first)
    # A rounded rim: brighter where the outline's slope faces the light.
    slope = np.array([[0, -light_y, 0], [-light_x, 0, light_x], [0, light_y, 0]], np.float32) / 2
    rim = np.float32(np.clip(0.2 * reach, 1, 4))
    facing = cv2.filter2D(distance, cv2.CV_32F, slope, borderType=cv2.BORDER_REPLICATE) * np.clip(1 + distance / rim, 0, 1)
    surface *= 1 + np.float32(0.45) * facing
    under += np.clip(0.5 - distance, 0, 1) * (surface - under)

    inside = distance < 0
    scene.label[top:bottom, left:right][inside] = kind
    scene.instances[top:bottom, left:right][inside] = number


def _pattern(u: _Array, v: _Array, rng: np.random.Generator) -> _Array:
    """Return stripes, checks, dots or ripples over the plane, about -1 to 1."""
    pitch = np.float32(math.tau / rng.uniform(3.5, 14))
    kind = int(rng.integers(4))
    if kind == 0:
        turn = rng.uniform(0, math.pi)
        return np.asarray(2 * np.sin(pitch * (u * np.float32(math.cos(turn)) + v * np.float32(math.sin(turn)))))
    if kind == 1:
        return np.asarray(np.clip(6 * np.sin(pitch * u) * np.sin(pitch * v), -1, 1))
    if kind == 2:
        return np.asarray(np.clip(3 * (np.cos(pitch * u) + np.cos(pitch * v)) - 3, -1, 1))
    return np.asarray(np.sin(pitch * np.hypot(u + np.float32(rng.uniform(-30, 30)), v + np.float32(rng.uniform(-30, 30)))))


def _colour(hue: float, saturation: float, value: float) -> _Array:
    """Return an RGB colour, (3, 1, 1) float32 in [0, 255], from hue in turns."""
    ramps = [abs((hue + third) % 1 * 6 - 3) - 1 for third in (0, 2 / 3, 1 / 3)]
    return np.array([value * (1 - saturation * (1 - min(1.0, max(0.0, ramp)))) for ramp in ramps], np.float32)[:, None, None]


# Signed distances in pixels, negative inside, exact or a lower bound outside. u and v are
# the object's own axes, r its reach, w half the thickness of what is thin.


def _disc(u: _Array, v: _Array, r: float, w: float) -> _Array:
    return np.hypot(u, v) - np.float32(r)


def _square(u: _Array, v: _Array, r: float, w: float) -> _Array:
    return np.maximum(np.abs(u), np.abs(v)) - np.float32(0.82 * r)


def _triangle(u: _Array, v: _Array, r: float, w: float) -> _Array:
    slanted = np.float32(math.sqrt(0.75)) * np.abs(u) - np.float32(0.5) * v
    return np.maximum(slanted, v) - np.float32(0.55 * r)


def _ring(u: _Array, v: _Array, r: float, w: float) -> _Array:
    return np.abs(np.hypot(u, v) - np.float32(max(r, w + 1.5))) - np.float32(w)


def _rod(u: _Array, v: _Array, r: float, w: float) -> _Array:
    return np.hypot(np.maximum(np.abs(u) - np.float32(max(1.8 * r, 4.0)), 0), v) - np.float32(w)


def _star(u: _Array, v: _Array, r: float, w: float) -> _Array:
    """Five points: fold the plane into a tenth of it, where the outline is one straight line from tip to notch."""
    fifth = math.tau / 5
    angle = np.abs((np.arctan2(v, u) + np.float32(fifth / 2)) % np.float32(fifth) - np.float32(fifth / 2))
    away = np.hypot(u, v)
    tip, notch = max(r, 2.8), 0.38 * max(r, 2.8)
    edge_x, edge_y = notch * math.cos(fifth / 2) - tip, notch * math.sin(fifth / 2)
    length = math.hypot(edge_x, edge_y)
    across = np.float32(edge_y / length) * (away * np.cos(angle) - np.float32(tip))
    return np.asarray(across - np.float32(edge_x / length) * away * np.sin(angle))


_OUTLINES = {"disc": _disc, "square": _square, "triangle": _triangle, "ring": _ring, "rod": _rod, "star": _star}


READER = Reader(
    "shapes",
    "the word shapes (generated scenes)",
    recognise=lambda path: path.partition(":")[0] == "shapes",
    splits=lambda path: shapes_splits(),
    open=lambda path, split, **options: open_shapes(choose_split(Path(path), split, shapes_splits()), **(_options_in(path) | options)),
    options=("size", "count", "seed", "bands", "dtype"),
)
