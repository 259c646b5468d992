"""Make docs/images/fcn8s.svg and deconvnet-layers.svg: `python docs/make_architecture_images.py`.

The papers' networks as drawings, from a forward pass on 500×500 and 224×224 pixels: every box is a map that a layer of our own network
returned, its height that of the map, its width by the channels. No tensor is allocated. On a white ground, so that they can be read on
light and dark pages.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from upscore import create_model

STYLE = (
    "text { font: 11px sans-serif; fill: #222 } .name { font-weight: bold } "
    ".arrow { stroke: #555; stroke-width: 1.4; fill: none; marker-end: url(#tip) }"
)
TIP = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>'
)
BLUE, GREEN, ORANGE, VIOLET, GREY = "#7fa9d6", "#8fc49a", "#f0b36b", "#b79ad6", "#c9c9c9"


@dataclass(frozen=True)
class Map:
    """A map on the drawing: its layer, its shape, and where its box is."""

    name: str
    shape: tuple[int, int, int]  #: C, H, W
    x: float
    y: float  #: of its centre
    colour: str
    pixels_per_unit: float

    @property
    def height(self) -> float:
        """Of the box."""
        return max(5.0, self.shape[1] / self.pixels_per_unit)

    @property
    def width(self) -> float:
        """Of the box: 4 for 3 channels, 6 for 21, 22 for 4096."""
        return max(4.0, 2.0 * self.shape[0].bit_length() - 4)

    def svg(self) -> str:
        """Return the box, with its name above and its shape below."""
        top, middle = self.y - self.height / 2, self.x + self.width / 2
        channels, height, width = self.shape
        return (
            f'<rect x="{self.x:.1f}" y="{top:.1f}" width="{self.width:.1f}" height="{self.height:.1f}" fill="{self.colour}" stroke="#444"/>'
            f'<text class="name" x="{middle:.1f}" y="{top - 6:.1f}" text-anchor="middle">{self.name}</text>'
            f'<text x="{middle:.1f}" y="{top + self.height + 14:.1f}" text-anchor="middle">{channels}</text>'
            f'<text x="{middle:.1f}" y="{top + self.height + 27:.1f}" text-anchor="middle">{height}×{width}</text>'
        )


def record(network: nn.Module, size: int, layers: dict[str, str]) -> dict[str, tuple[int, int, int]]:
    """Return the shapes (C, H, W) that layers return in a forward pass: from their paths in the network to the names given them."""
    shapes: dict[str, tuple[int, int, int]] = {}

    def note(name: str, output: Tensor) -> None:
        shapes[name] = (output.shape[1], output.shape[2], output.shape[3])

    for path, name in layers.items():
        network.get_submodule(path).register_forward_hook(lambda _, __, output, name=name: note(name, output))
    with torch.no_grad():
        network(torch.empty(1, 3, size, size, device="meta"))
    return shapes


def draw_fcn() -> None:
    """FCN-8s of VGG16 on an image of 500×500."""
    with torch.device("meta"):
        network = create_model("fcn8s", num_classes=21).eval()
    convolutions = {f"backbone.conv{block}_{last}": f"conv{block}" for block, last in zip(range(1, 6), (2, 2, 3, 3, 3), strict=True)}
    decoder = {f"decoder.{name}": name for name in ("score_fr", "upscore2", "score_pool4", "upscore_pool4", "score_pool3")}
    pools: dict[int, tuple[int, int, int]] = {}
    network.backbone.register_forward_hook(lambda _, __, maps: pools.update({stride: tuple(x.shape[1:]) for stride, x in maps.items()}))
    shapes = record(network, 500, convolutions | decoder | {"backbone.fc6": "fc6", "backbone.fc7": "fc7", "": "labels"})
    top, scale = 120.0, 5.0
    maps, x = {"image": Map("image", (3, 500, 500), 36, top, GREY, scale)}, 100.0
    for name in ("conv1", "conv2", "conv3", "pool3", "conv4", "pool4", "conv5", "fc6", "fc7"):
        shape = pools[8] if name == "pool3" else pools[16] if name == "pool4" else shapes[name]
        maps[name] = Map(name, shape, x, top, ORANGE if name.startswith("pool") else BLUE, scale)
        x += 62
    maps["score_fr"] = Map("score_fr", shapes["score_fr"], maps["fc7"].x + 90, top, GREEN, scale)
    maps["upscore2"] = Map("upscore2", shapes["upscore2"], maps["score_fr"].x + 90, top, VIOLET, scale)
    second, third = 250.0, 350.0
    maps["score_pool4"] = Map("score_pool4", shapes["score_pool4"], maps["pool4"].x, second, GREEN, scale)
    maps["upscore_pool4"] = Map("upscore_pool4", shapes["upscore_pool4"], maps["upscore2"].x, second, VIOLET, scale)
    maps["score_pool3"] = Map("score_pool3", shapes["score_pool3"], maps["pool3"].x, third, GREEN, scale)
    maps["labels"] = Map("scores", shapes["labels"], maps["upscore2"].x + 110, third, VIOLET, scale)
    encoder = ("image", "conv1", "conv2", "conv3", "pool3", "conv4", "pool4", "conv5", "fc6", "fc7")
    lines = chain([maps[name] for name in (*encoder, "score_fr", "upscore2")])
    lines += [down(maps["pool4"], maps["score_pool4"]), down(maps["pool3"], maps["score_pool3"])]
    plus4, plus3 = (maps["upscore_pool4"].x - 110, second), (maps["upscore2"].x + 3, third)
    lines += [bend(maps["upscore2"], plus4), straight(maps["score_pool4"], plus4), straight_from(plus4, maps["upscore_pool4"])]
    lines += [bend(maps["upscore_pool4"], plus3), straight(maps["score_pool3"], plus3), straight_from(plus3, maps["labels"])]
    sums = "".join(add(point) for point in (plus4, plus3))
    write("fcn8s.svg", 960, 440, list(maps.values()), [*lines, sums], "FCN-8s on VGG16: the maps of an image of 500 by 500 pixels")


def draw_deconvnet() -> None:
    """DeconvNet on a window of 224×224."""
    with torch.device("meta"):
        network = create_model("deconvnet", num_classes=21).eval()
    blocks = {f"encoder.conv{number}": f"conv{number}" for number in range(1, 6)}
    blocks |= {f"decoder.{name}": name for name, _ in network.decoder.named_children()}
    blocks |= {f"bottom.{index}": name for index, name in enumerate(("fc6", "fc7", "fc6-deconv"))}
    shapes = record(network, 224, blocks | {"seg_score_voc": "score"})
    encoder = [f"conv{number}" for number in range(1, 6)]
    decoder = [name for name, _ in network.decoder.named_children()]
    names = [*encoder, "fc6", "fc7", "fc6-deconv", *decoder, "score"]
    assert set(names) == set(shapes)
    middle, scale, x = 130.0, 1.4, 100.0
    maps = [Map("image", (3, 224, 224), 36, middle, GREY, scale)]
    for name in names:
        colour = BLUE if name in encoder else ORANGE if name.startswith("fc") else GREEN if name == "score" else VIOLET
        maps.append(Map(name, shapes[name], x, middle, colour, scale))
        x += 66
    by_name = {m.name: m for m in maps}
    arcs = []
    for depth, (down_name, up_name) in enumerate(zip(encoder, reversed(decoder), strict=True)):
        first, last, y = by_name[down_name], by_name[up_name], 340 - 20 * depth
        start, end = first.x + first.width / 2, last.x + last.width / 2
        top, end_y = first.y + first.height / 2 + 32, last.y + last.height / 2 + 32
        arcs.append(f'<path class="arrow" stroke-dasharray="4 3" d="M{start:.1f} {top:.1f}V{y}H{end:.1f}V{end_y:.1f}"/>')
    label = '<text x="500" y="358" text-anchor="middle">switches: the position of each maximum, two bits</text>'
    write(
        "deconvnet-layers.svg",
        110 + 66 * len(names),
        370,
        maps,
        [*chain(maps), *arcs, label],
        "DeconvNet: the maps of a window of 224 by 224 pixels",
    )


def chain(maps: list[Map]) -> list[str]:
    """Return arrows from each map to the next."""
    return [straight_from((a.x + a.width, a.y), b) for a, b in pairwise(maps)]


def straight(a: Map, point: tuple[float, float]) -> str:
    """Return an arrow from a map to a sum."""
    return f'<path class="arrow" d="M{a.x + a.width + 2:.1f} {a.y:.1f}H{point[0] - 9:.1f}"/>'


def straight_from(point: tuple[float, float], b: Map) -> str:
    """Return an arrow from a point to a map."""
    return f'<path class="arrow" d="M{point[0] + 3:.1f} {point[1]:.1f}H{b.x - 3:.1f}"/>'


def down(a: Map, b: Map) -> str:
    """Return an arrow from below a map to above another."""
    return f'<path class="arrow" d="M{a.x + a.width / 2:.1f} {a.y + a.height / 2 + 32:.1f}V{b.y - b.height / 2 - 20:.1f}"/>'


def bend(a: Map, point: tuple[float, float]) -> str:
    """Return an arrow from below a map, down and then aside to a sum."""
    start, turn = a.x + a.width / 2, a.y + a.height / 2 + 44
    return f'<path class="arrow" d="M{start:.1f} {a.y + a.height / 2 + 32:.1f}V{turn:.1f}H{point[0]:.1f}V{point[1] - 9:.1f}"/>'


def add(point: tuple[float, float]) -> str:
    """Return the sign of a sum."""
    x, y = point
    circle = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="#fff" stroke="#444"/>'
    return f'{circle}<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle">+</text>'


def write(name: str, width: float, height: float, maps: list[Map], lines: list[str], title: str) -> None:
    """Write a drawing as docs/images/NAME."""
    target = Path(__file__).with_name("images") / name
    target.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img">\n'
        f'<title>{title}</title>\n<style>{STYLE}</style>{TIP}\n<rect width="{width:g}" height="{height:g}" rx="8" fill="#fff"/>\n'
        + "\n".join([*lines, *(m.svg() for m in maps)])
        + "\n</svg>\n",
        encoding="utf-8",
    )
    print(target)


if __name__ == "__main__":
    draw_fcn()
    draw_deconvnet()
