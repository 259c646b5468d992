"""The errors: everything that a user can cause or fix is an ``UpscoreError``.

::

    UpscoreError                 one line: what was found, what was expected, what to do
    ├── DataError                images, masks, datasets: the files and their contents
    ├── RecipeError              recipes, flags and ``--set``: names, types, ranges
    ├── BundleError              a bundle that is damaged, foreign or does not fit the data
    ├── GeometryError            grids that cannot be aligned by a whole number of cells
    ├── CRFError                 scores, images and kernels of a CRF that do not fit together
    ├── ModelError               an architecture, backbone or weights file that does not fit
    ├── TrainingError            a run that cannot continue (a non-finite loss, another run's folder)
    └── OutputError              a path that cannot be written: permissions, space, something in the way

    UpscoreWarning               something a user of a function should know, where no command prints it

The command line prints the message alone and exits with code 1 (``--debug`` shows the
traceback). ``assert`` is for programmers; users never see one.

``RunInterrupted`` is no ``UpscoreError`` but a ``KeyboardInterrupt`` that reports what was saved.

The text of an error is one line of bounded length in which control characters are escaped
(:func:`upscore.text.one_line`), whatever names and values it holds.
"""

from upscore.text import one_line

__all__ = [
    "BundleError",
    "CRFError",
    "DataError",
    "GeometryError",
    "ModelError",
    "OutputError",
    "RecipeError",
    "RunInterrupted",
    "TrainingError",
    "UpscoreError",
    "UpscoreWarning",
    "nearest_name",
]


class UpscoreError(Exception):
    """Anything a user can cause or fix; its text is one line with what to do."""

    exit_code = 1  #: of a command that ends with it

    def __str__(self) -> str:
        return one_line(super().__str__())


class DataError(UpscoreError):
    """An image, mask or dataset is not what it should be.

    ``check`` is the id of the check (:mod:`upscore.doctor`) under which it is reported; "" for what is no fault of one image or mask.
    """

    def __init__(self, message: str = "", *, check: str = "") -> None:
        super().__init__(message)
        self.check = check


class RecipeError(UpscoreError, ValueError):
    """A setting has an unknown name, the wrong type or an impossible value."""


class BundleError(UpscoreError):
    """A bundle is damaged, incomplete, made by something else, or does not fit the data."""


class GeometryError(UpscoreError, ValueError):
    """Two grids cannot be aligned by cropping whole cells."""


class CRFError(UpscoreError, ValueError):
    """The inputs of a CRF do not fit together, or are not of their declared kind."""


class ModelError(UpscoreError, ValueError):
    """An architecture, backbone or weights file is unknown or does not fit."""


class TrainingError(UpscoreError):
    """A run cannot start or cannot continue."""


class OutputError(UpscoreError):
    """Results cannot be written to the path given."""


class RunInterrupted(KeyboardInterrupt):
    """A run was asked to stop; the text is what was saved and how to resume.

    ``number`` is that of the signal, such as ``signal.SIGINT``; a command's exit code is 128 and this.
    """

    def __init__(self, message: str, *, number: int) -> None:
        super().__init__(message)
        self.number = number

    def __str__(self) -> str:
        return one_line(super().__str__())


class UpscoreWarning(UserWarning):
    """A decision that a user of a function should know about; commands print it with their warnings."""


def nearest_name(wanted: str, known: "list[str] | tuple[str, ...]") -> str:
    """Return ``" (did you mean 'x'?)"``, to append to an error message, for the closest known name; "" where none is close.

    >>> nearest_name("vall", ("train", "val"))
    " (did you mean 'val'?)"
    """
    import difflib

    close = difflib.get_close_matches(wanted, known, n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""
