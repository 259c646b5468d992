"""Build the compiled module with the address and undefined-behaviour sanitizers and run tests with it: ``make sanitize``.

::

    python native/sanitized.py [arguments of pytest]      tests/fuzz/test_native.py and the oracles of native/ when there are none

The first wrong access or undefined step ends the run with the sanitizer's report. The module in use
stays as it is: the other is built in ``build/sanitized`` and takes its place in this process alone.
It needs Linux, GCC (whose libasan is preloaded), CMake, and nanobind where this Python finds it.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "sanitized"
TESTS = ("fuzz/test_native.py", "oracles/test_crf_native.py", "oracles/test_boxes.py", "oracles/test_unpool.py")


def main(arguments: list[str]) -> int:
    """Build, start again with libasan preloaded, and there run the tests."""
    if "libasan" not in os.environ.get("LD_PRELOAD", ""):
        options = ["-DUPSCORE_SANITIZE=ON", "-DCMAKE_CXX_COMPILER=g++", f"-DPython_EXECUTABLE={sys.executable}"]
        for step in (["-S", str(ROOT / "native"), "-B", str(BUILD), *options], ["--build", str(BUILD), "--parallel", "2"]):
            subprocess.run(["cmake", *step], check=True, stdout=subprocess.DEVNULL)
        # libasan looks for what throws exceptions when it is loaded, and Python has no part of C++.
        os.environ["LD_PRELOAD"] = " ".join(map(_library, ("libasan.so", "libstdc++.so")))
        # Python and torch keep what they allocate until the end; what a request for too much memory gives is what is tested.
        os.environ["ASAN_OPTIONS"] = "detect_leaks=0:allocator_may_return_null=1"
        os.environ["UBSAN_OPTIONS"] = "print_stacktrace=1"
        os.environ["OMP_NUM_THREADS"] = "1"
        os.execv(sys.executable, [sys.executable, __file__, *arguments])

    import pytest

    import upscore

    (module,) = BUILD.glob("_native*.so")
    spec = importlib.util.spec_from_file_location("upscore._native", module)
    assert spec is not None
    assert spec.loader is not None
    native = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(native)
    sys.modules["upscore._native"] = native
    upscore._native = native  # type: ignore[attr-defined]
    print(f"tests run with {module}", flush=True)
    return int(pytest.main(["-p", "no:cacheprovider", "--capture=sys", *(arguments or [str(ROOT / "tests" / test) for test in TESTS])]))


def _library(name: str) -> str:
    return subprocess.run(["g++", f"-print-file-name={name}"], check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
