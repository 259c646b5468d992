"""Make docs/images/checkerboard.png: `python docs/make_checkerboard_image.py`.

Above, by how many cells each pixel is reached in a transposed convolution of stride 2, for kernels of 2, 3, 4 and 5. Below, its output for
a map that is 1 everywhere: random positive weights with kernels of 3 and 4, and bilinear weights with kernels of 3 and 4.
"""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from image_sheet import write_sheet
from torch import Tensor

from upscore.html.drawing import colour_heat
from upscore.ops.upsample import bilinear_weights

CELLS, STRIDE, SHOWN, ENLARGED = 12, 2, 16, 9
MOST = 9  # contributions to a pixel, with a kernel of 5


def main() -> None:
    """Arrange both rows and write the sheet."""
    counts = [colour_heat(respond(torch.ones(kernel, kernel)) / MOST) for kernel in (2, 3, 4, 5)]
    torch.manual_seed(1)
    random = [torch.rand(kernel, kernel) for kernel in (3, 4)]
    bilinear = [torch.outer(line, line) for line in (bilinear_weights(kernel, STRIDE).float() for kernel in (3, 4))]
    outputs = [draw_around_mean(respond(kernel)) for kernel in (*random, *bilinear)]
    write_sheet([[enlarge(above), enlarge(below)] for above, below in zip(counts, outputs, strict=True)], "checkerboard.png", zoom=1)


def respond(kernel: Tensor) -> npt.NDArray[np.float32]:
    """Return what a kernel makes of a constant map, away from its edges."""
    output = F.conv_transpose2d(torch.ones(1, 1, CELLS, CELLS), kernel[None, None], stride=STRIDE)[0, 0].numpy()
    return np.asarray(output[4 : 4 + SHOWN, 4 : 4 + SHOWN], np.float32)


def draw_around_mean(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return values as grey levels, their mean in the middle."""
    grey = np.rint(128 * values / values.mean()).clip(0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def enlarge(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return an image with its pixels in sight."""
    return image.repeat(ENLARGED, 0).repeat(ENLARGED, 1)


if __name__ == "__main__":
    main()
