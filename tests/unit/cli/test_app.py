"""The command line's ends: whatever happens, one line that hides nothing, and an exit code that says what kind it was."""

import os
import subprocess
import sys

import pytest

import upscore.cli.app
from upscore.cli import main
from upscore.cli.arguments import DATA_HELP
from upscore.data.open_dataset import describe_readers


@pytest.fixture
def ended(monkeypatch, capsys):
    """Run a command line whose verb ``recipes`` raises ``error``; return (exit code, standard error)."""

    def run(error=None, words=("recipes",)):
        if error is not None:

            def fail():
                raise error

            monkeypatch.setattr("upscore.training.recipes.list_recipes", fail)
        monkeypatch.setattr(sys, "argv", ["upscore", *words])
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code, capsys.readouterr().err

    return run


def test_an_error_nobody_foresaw_is_one_bounded_line(ended):
    code, said = ended(RuntimeError("bad\x1b[2J\n" + "x" * 10**6))
    assert code == 1
    assert said.startswith("upscore: unexpected RuntimeError: bad\\x1b[2J xxx")
    assert "--debug" in said
    assert len(said) < 2000
    assert said.count("\n") == 1
    code, said = ended(ValueError(16**5000))
    assert (code, said.partition(" (")[0]) == (1, "upscore: unexpected ValueError: ValueError")


def test_what_the_system_refuses_is_said_in_its_words(ended):
    assert ended(OSError(28, "No space left on device", "runs/a\nb"))[1].startswith("upscore: runs/a\\nb: No space left on device: check")
    assert ended(OSError(28, "No space left on device"))[1].startswith("upscore: No space left on device: check")


def test_an_interrupt_is_said_and_ends_with_130(ended):
    assert ended(KeyboardInterrupt()) == (130, "upscore: interrupted\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["\x1b[2J"], "No such command '\\x1b[2J'"),
        (["train", "a", "b\x1b]0;x\x07"], "(b\\x1b]0;x\\x07)"),
        (["train", "a", "--b\u202e"], "--b\\u202e"),
        (["train", "a", "--crop-size", "[bold]x"], "found '[bold]x'"),
        (["train", "a", "--crop-size", "9" * 5000], "characters)"),
        (["evaluate", "a", "b", "--tile", "9" * 5000], "characters)"),
        (["x" * 10**6], "(1,000,003 characters)"),
    ],
    ids=range(7),
)
def test_usage_errors_hide_nothing_and_are_short(ended, words, says):
    code, said = ended(words=words)
    assert code == 2
    assert says in " ".join(said.replace("│", " ").split())
    assert "\x1b" not in said
    assert len(said) < 3000


def command(script):
    script = script.replace("UPSCORE", f"'{sys.executable}' -m upscore.cli")
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=300)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_standard_output_that_is_full_gone_closed_or_of_another_encoding():
    full = command("UPSCORE recipes > /dev/full")
    assert full.returncode == 1
    assert full.stderr.splitlines()[-1].startswith("upscore: ")
    assert "No space left on device" in full.stderr
    assert "Traceback" not in full.stderr
    gone = command("UPSCORE recipes | head -1 > /dev/null; exit ${PIPESTATUS[0]}")
    assert (gone.returncode in (0, 1), gone.stderr) == (True, "")
    closed = command("UPSCORE recipes >&-")
    assert (closed.returncode, closed.stderr) == (0, "")
    narrow = command("PYTHONIOENCODING=ascii UPSCORE recipes deconvnet-voc-1 || PYTHONIOENCODING=ascii UPSCORE recipes")
    assert "Traceback" not in narrow.stderr
    assert narrow.returncode == 0


def test_the_usage_error_is_typers_own():
    assert issubclass(upscore.cli.app.UsageError, Exception)
    assert upscore.cli.app.UsageError.__name__ == "UsageError"


def test_the_help_lists_the_readers_in_their_own_words():
    described = describe_readers()
    assert f"{described[0].upper()}{described[1:]}." == DATA_HELP
