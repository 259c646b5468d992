from typing import Any

import numpy as np
import numpy.typing as npt

class TooFarApart(OverflowError): ...

class Lattice:
    @property
    def points(self) -> int: ...
    @property
    def vertices(self) -> int: ...

def lattice(features: npt.NDArray[np.float32], threads: int, instructions: str = "best") -> Lattice: ...
def filter(lattice: Lattice, values: npt.NDArray[np.float32], out: npt.NDArray[np.float32], threads: int) -> None: ...
def mean_field(
    scores: npt.NDArray[np.float32],
    kind: str,
    messages: list[tuple[Any, ...]],
    self_message: bool,
    belief: npt.NDArray[np.float32] | None,
    out: npt.NDArray[np.float32],
    steps: int,
    threads: int,
    instructions: str = "best",
) -> None: ...
def instructions(name: str = "best") -> str: ...
