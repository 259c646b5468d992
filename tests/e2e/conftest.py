"""Command lines run in this process."""

import sys

import pytest

from upscore.cli import main


@pytest.fixture
def upscore(capsys, monkeypatch):
    """Run a command line; return (exit code, standard output, standard error)."""
    monkeypatch.setenv("COLUMNS", "250")

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["upscore", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        printed = capsys.readouterr()
        return left.value.code or 0, printed.out, printed.err

    return run
