"""Scripts run as processes of their own, which one server forks once it has imported what nearly all of them need."""

import contextlib
import multiprocessing
import os
import runpy
import sys
import traceback
from multiprocessing import forkserver
from pathlib import Path
from typing import NamedTuple

import pytest


class Ended(NamedTuple):
    code: int
    out: str
    err: str


def run_script(script: Path, *words: object, folder: Path, timeout: float = 200) -> Ended:
    """Run a script in ``folder`` as ``python SCRIPT WORDS``."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["scripts_preload"])
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # where the server finds what it preloads
        forkserver.ensure_running()
    out, err = folder / f"{script.stem}.out", folder / f"{script.stem}.err"
    process = context.Process(target=_run, args=(str(script), [str(word) for word in words], str(folder), str(out), str(err)))
    process.start()
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        process.join()
    code = process.exitcode
    process.close()
    return Ended(-9 if code is None else code, out.read_text(), err.read_text())


def _run(script: str, words: list[str], folder: str, out: str, err: str) -> None:
    import torch

    os.chdir(folder)
    for path, number in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
    torch.set_num_threads(1)
    sys.argv = [script, *words]
    sys.path[0:0] = [str(Path(script).parent)]
    code: object = 0
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as left:
        code = left.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code if isinstance(code, int) else 1)
