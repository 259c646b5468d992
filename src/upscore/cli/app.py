"""The command line: its verbs, and how it ends.

Only typer is imported at the top of this package's modules: ``upscore --help`` and every verb's help answer
without loading PyTorch. A verb imports what it needs when it runs.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Annotated, NoReturn

import typer

from upscore.cli import convert, doctor, evaluate, localize, next_images, overview, predict, train

__all__ = ["app", "main"]

app = typer.Typer(
    name="upscore",
    help="Semantic segmentation: train, evaluate and use networks that label every pixel.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="To begin: [bold]upscore demo[/bold]  ·  Then: [bold]upscore train DATA[/bold],  [bold]upscore evaluate RUN DATA[/bold],  "
    "[bold]upscore predict RUN IMAGES[/bold]",
)
for module in (convert, doctor, train, evaluate, predict, next_images, localize, overview):
    app.add_typer(module.commands)


def _print_version(asked: bool) -> None:
    """Print the versions of what computes, without loading it, and end."""
    if not asked:
        return
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import upscore

    try:
        torch = version("torch")
    except PackageNotFoundError:  # put there by other means
        torch = "of unknown version"
    print(f"upscore {upscore.__version__}\nPyTorch {torch}, Python {platform.python_version()}")
    raise typer.Exit


@app.callback()
def _upscore(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the versions of upscore, PyTorch and Python.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # what a wrong flag raises; its module's name differs between versions of typer


def main() -> NoReturn:
    """Run the command line; an error that a user can correct is one line on standard error and exit code 1."""
    for handle in (0, 1, 2):
        try:
            os.fstat(handle)
        except OSError:  # it is closed, and the next file that is opened would take its number and what is printed
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names may hold characters that the terminal's encoding lacks
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    code = _run(arguments, debug=len(arguments) < len(sys.argv) - 1)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # flushing the rest of the buffer at exit would fail once more
        if not isinstance(error, BrokenPipeError) and code == 0:
            _print_error(f"standard output cannot be written ({error.strerror})")
        code = code or 1
    sys.exit(code)


def _run(arguments: list[str], *, debug: bool) -> int:
    """Run a command line, print its error, and return the exit code."""
    from upscore.errors import UpscoreError
    from upscore.text import one_line, reason

    try:
        code = app(args=arguments, standalone_mode=False)
        code = code if isinstance(code, int) else 0
    except BrokenPipeError:  # the reader of the pipe has closed it
        return 1
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except UsageError as error:
        from typer.rich_utils import rich_format_error

        error.message = one_line(error.message)  # type: ignore[attr-defined]
        rich_format_error(error)  # type: ignore[arg-type]
        return 2
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except UpscoreError as error:
        if debug:
            raise
        _print_error(str(error))
        return error.exit_code
    except Exception as error:
        if debug:
            raise
        if isinstance(error, OSError) and error.strerror:  # a full disk, a name too long: the system's words name the cause
            where = f"{error.filename}: " if error.filename else ""
            _print_error(one_line(f"{where}{error.strerror}: check the path, the rights and the space on the disk"))
        else:
            words = reason(error, 1000)
            _print_error(
                one_line(f"unexpected {type(error).__name__}: {words} (run it with --debug for the traceback, and please report it)")
            )
        return 1
    if code == 130:
        _print_error("interrupted")
    return code


def _print_error(line: str) -> None:
    with contextlib.suppress(OSError):
        print(f"upscore: {line}", file=sys.stderr)
