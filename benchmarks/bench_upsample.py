"""Bilinear upsampling of class scores to pixels, beside what computes the same numbers in torch.

The peer is the papers' layer as Caffe computes it, a transposed convolution over all pairs of
classes whose weight is bilinear on the diagonal and zero elsewhere, cropped to the image.
``interpolate`` pads by one zero first, which gives the same pixels. Backward is to the scores
alone: the weights are fixed. Processor time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from timing import interleave, machine, report, summary
from torch import Tensor

from upscore.ops.upsample import BilinearUpsample, bilinear_weights

Upsampling = Callable[[Tensor], Tensor]


def variants_of(factor: int, classes: int, crop: int, size: int) -> dict[str, Upsampling]:
    kernel = 2 * factor
    weights = bilinear_weights(kernel, factor).float()
    square = torch.outer(weights, weights)
    dense = torch.zeros(classes, classes, kernel, kernel)
    dense[range(classes), range(classes)] = square
    grouped = square.expand(classes, 1, kernel, kernel).contiguous()
    layer = BilinearUpsample(classes, factor=factor)
    cells = (size + crop) // factor + 1
    matrix = torch.zeros(size, cells)
    for pixel in range(size):
        for cell in range(cells):
            tap = pixel + crop - cell * factor
            if 0 <= tap < kernel:
                matrix[pixel, cell] = weights[tap]

    def cut(whole: Tensor, start: int = crop) -> Tensor:
        return whole[..., start : start + size, start : start + size]

    return {
        "dense deconvolution": lambda x: cut(F.conv_transpose2d(x, dense, stride=factor)),
        "grouped deconvolution": lambda x: cut(F.conv_transpose2d(x, grouped, stride=factor, groups=classes)),
        "interpolate": lambda x: cut(F.interpolate(F.pad(x, (1, 1, 1, 1)), scale_factor=factor, mode="bilinear"), crop + factor // 2),
        "matrix product": lambda x: matrix @ (x @ matrix.T),
        "upscore": lambda x: layer(x, offset=(crop, crop), size=(size, size)),
    }


def both_ways(upsample: Upsampling, x: Tensor, gradient: Tensor) -> Callable[[], Tensor]:
    def run() -> Tensor:
        leaf = x.detach().requires_grad_()
        upsample(leaf).backward(gradient)
        assert leaf.grad is not None
        return leaf.grad

    return run


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--threads", type=int, default=1)
    flags.add_argument("--rounds", type=int, default=15)
    flags.add_argument("--classes", type=int, default=21)
    flags.add_argument("--size", type=int, default=512)
    flags.add_argument("--batch", type=int, default=1)
    values = flags.parse_args()
    torch.set_num_threads(values.threads)
    torch.manual_seed(0)
    results = {}
    for factor, crop in ((32, 19), (16, 27), (8, 31)):
        cells = (values.size + crop) // factor + 1
        x = torch.randn(values.batch, values.classes, cells, cells)
        gradient = torch.randn(values.batch, values.classes, values.size, values.size)
        variants = variants_of(factor, values.classes, crop, values.size)
        outputs = {name: upsample(x) for name, upsample in variants.items()}
        peer = outputs["dense deconvolution"]
        apart = {name: float((output - peer).abs().max()) for name, output in outputs.items()}
        del outputs, peer
        with torch.no_grad():
            forward = interleave({n: partial(u, x) for n, u in variants.items()}, rounds=values.rounds, clock=time.process_time)
        backward = interleave({n: both_ways(u, x, gradient) for n, u in variants.items()}, rounds=values.rounds, clock=time.process_time)
        results[f"factor {factor}, kernel {2 * factor}"] = {
            "largest_difference": apart,
            "forward": summary(forward, peer="dense deconvolution"),
            "forward and backward": summary(backward, peer="dense deconvolution"),
        }
    setting = {name: getattr(values, name) for name in ("threads", "rounds", "classes", "size", "batch")}
    report({"what": "bilinear upsampling of scores to pixels", **setting, "results": results, **machine("torch")})


if __name__ == "__main__":
    main()
