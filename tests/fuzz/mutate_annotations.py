"""Read thousands of altered annotation files of each format, and print what became of them.

    UPSCORE_FUZZ_EXAMPLES=10000 python tests/fuzz/mutate_annotations.py [FORMAT …]

Each file is opened by its reader and as a user opens it, and its masks are drawn: success, or one bounded line. The table has the largest
time of one file and the memory of the process, which no file may raise without bound.
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz.test_annotations import CHUNKS, FORMATS, WRONG, content_of, opened, prepare


def altered(valid: bytes, rng: random.Random) -> bytes:
    """Return ``valid`` with spans deleted, repeated, overwritten or flipped, hostile chunks put in, or its end cut off."""
    data = valid
    for _ in range(rng.randint(1, 4)):
        start, length = rng.randint(0, len(data)), rng.randint(0, 16)
        head, span, tail = data[:start], data[start : start + length], data[start + length :]
        kind = rng.randrange(7)
        if kind < 2:
            data = head + rng.choice(CHUNKS) + (span if kind else b"") + tail
        elif kind == 2:
            data = head + tail
        elif kind == 3:
            data = head + span * min(rng.choice((2, 3, 100, 10_000)), 20_000 // max(1, length)) + tail
        elif kind == 4:
            data = head + bytes(byte ^ rng.randint(1, 255) for byte in span[:1]) + span[1:] + tail
        elif kind == 5:
            data = head + rng.randbytes(rng.randint(0, 16)) + tail
        else:
            data = head
    return data


def replaced(value: Any, rng: random.Random) -> Any:
    """Return a JSON value with one of its parts of another type or size."""
    if isinstance(value, dict | list) and value and rng.random() < 0.85:
        result = value.copy()
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        result[key] = replaced(value[key], rng)
        return result
    return rng.choice((*WRONG, [value] * rng.choice((0, 2, 1000)), {"a": value}))


def main() -> None:
    count = int(os.environ.get("UPSCORE_FUZZ_EXAMPLES", "10000"))
    print(f"{'format':20} {'files':>7} {'masks drawn':>12} {'largest s':>10} {'mean ms':>8} {'peak MB':>8}")
    for name in sys.argv[1:] or FORMATS:
        rng, valid, value = random.Random(name), content_of(name), FORMATS[name][2]
        drawn, largest, begin = 0, 0.0, time.perf_counter()
        with TemporaryDirectory() as folder:
            file = prepare(Path(folder), name)
            for _ in range(count):
                content = altered(valid, rng)
                if not isinstance(value, str | bytes) and rng.random() < 0.5:
                    content = json.dumps(replaced(value, rng)).encode()
                file.write_bytes(content)
                start = time.perf_counter()
                try:
                    drawn += opened(name, file, Path(folder))
                except BaseException:
                    Path("hostile-annotation").write_bytes(content)
                    print(f"{name}: the content is in the file hostile-annotation")
                    raise
                largest = max(largest, time.perf_counter() - start)
        mean = (time.perf_counter() - begin) / count
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{name:20} {count:7,} {drawn:12,} {largest:10.2f} {1000 * mean:8.1f} {peak:8.0f}", flush=True)


if __name__ == "__main__":
    main()
