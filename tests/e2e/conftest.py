"""Command lines run in this process."""

import sys

import pytest

from upscore.cli import console, main


@pytest.fixture
def upscore(capsys, monkeypatch):
    """Run a command line; return (exit code, standard output, standard error)."""
    for terminal in (console.console, console.aside):
        monkeypatch.setattr(terminal, "_width", 250)  # a worker of pytest-xdist has COLUMNS, which a console reads once

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["upscore", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        printed = capsys.readouterr()
        return left.value.code or 0, printed.out, printed.err

    return run
