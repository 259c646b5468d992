"""The command line's ends: whatever happens, one line that hides nothing, and an exit code that says what kind it was."""

import os
import platform
import subprocess
import sys

import pytest
import typer

import upscore.cli.app
from upscore.cli import main
from upscore.cli.arguments import DATA_HELP, MODELS
from upscore.cli.inference_options import PANELS
from upscore.data.open_dataset import describe_readers
from upscore.models.architectures import ARCHITECTURES


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
    assert ended(KeyboardInterrupt()) == (130, "upscore: interrupted: nothing was written\n")


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


def test_the_networks_that_a_shell_completes_are_those_there_are():
    assert tuple(ARCHITECTURES) == MODELS


def test_the_version_names_what_computes():
    said = command("UPSCORE --version")
    assert said.stdout.splitlines()[0] == f"upscore {upscore.__version__}"
    assert said.stdout.splitlines()[1].startswith("PyTorch 2.")
    assert said.stdout.rstrip().endswith(f"Python {platform.python_version()}")
    assert (said.returncode, said.stderr) == (0, "")


def test_every_argument_and_flag_is_described_and_a_run_has_one_name():
    root = typer.main.get_command(upscore.cli.app.app)
    for verb, described in root.commands.items():
        for parameter in described.params:
            assert parameter.help, (verb, parameter.name)
        metavars = {parameter.metavar for parameter in described.params if parameter.name in ("run", "runs", "bundle")}
        assert metavars <= {"RUN", "RUN…"}, verb
        groups = [getattr(parameter, "rich_help_panel", None) for parameter in described.params]
        assert PANELS[1] not in groups or groups.index(PANELS[1]) > max(i for i, group in enumerate(groups) if group != PANELS[1])
    assert all(parameter.help for parameter in root.params)


@pytest.mark.parametrize("verb", ["", "train", "evaluate", "predict", "tune", "proposal-sweep", "ensemble", "explain", "models", "recipes"])
def test_help_fits_into_80_columns(verb):
    said = command(f"COLUMNS=80 UPSCORE {verb} --help")
    assert said.returncode == 0
    assert max(map(len, said.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("upscore tr", {"train"}),
        ("upscore train --back", {"--backbone"}),
        ("upscore train --model fcn8", {"fcn8s", "fcn8s-atonce"}),
        ("upscore train --recipe deconvnet-stage", {"deconvnet-stage1", "deconvnet-stage2"}),
        ("upscore recipes segnet-b", {"segnet-basic-camvid"}),
        ("upscore predict --device c", {"cpu", "cuda"}),
    ],
)
def test_a_shell_completes_verbs_flags_and_names_without_loading_torch(line, completions):
    script = "import sys; sys.modules['torch'] = None; sys.argv = ['upscore']; from upscore.cli import main; main()"
    words = {"_UPSCORE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    said = subprocess.run([sys.executable, "-c", script], env=os.environ | words, capture_output=True, text=True, timeout=60)
    assert set(said.stdout.split()) == completions, said.stderr


def test_the_completion_can_be_shown():
    said = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv = ['upscore', '--show-completion', 'bash']; from upscore.cli import main; main()"],
        env=os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "_UPSCORE_COMPLETE=complete_bash" in said.stdout
