"""Build the compiled module with the address and undefined-behaviour sanitizers and run its tests: ``make sanitize``.

::

    python native/sanitized.py [arguments of pytest]      by default tests/fuzz/test_native.py and the oracles of native/

The first invalid access or undefined operation ends the run with the sanitizer's report. The installed
module does not change: the sanitized one is built in ``build/sanitized`` and replaces it in this process.
It needs Linux, GCC (whose libasan is preloaded), CMake, and nanobind on this Python's path.
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
    """Build the module, restart Python with libasan preloaded, and run the tests."""
    if "libasan" not in os.environ.get("LD_PRELOAD", ""):
        options = ["-DUPSCORE_SANITIZE=ON", "-DCMAKE_CXX_COMPILER=g++", f"-DPython_EXECUTABLE={sys.executable}"]
        for step in (["-S", str(ROOT / "native"), "-B", str(BUILD), *options], ["--build", str(BUILD), "--parallel", "2"]):
            subprocess.run(["cmake", *step], check=True, stdout=subprocess.DEVNULL)
        # libasan looks up __cxa_throw when it is loaded, and Python itself does not link libstdc++.
        os.environ["LD_PRELOAD"] = " ".join(map(_library, ("libasan.so", "libstdc++.so")))
        # Python and torch free much of their memory only at exit; tests ask for too much memory and expect null, not an abort.
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
