"""Import paths of a caller's own objects, ``package.module:name``: written down for people, and imported for nobody but a caller."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

from upscore.errors import ModelError, UpscoreError

__all__ = ["import_named", "import_path"]


def import_path(thing: object) -> str:
    """Return where a class, a function, or the class of an object is defined.

    >>> import functools
    >>> import_path(import_path), import_path(functools.partial(import_path)), import_path(3)
    ('upscore.import_path:import_path', 'upscore.import_path:import_path', 'builtins:int')
    """
    while isinstance(thing, functools.partial):
        thing = thing.func
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{getattr(named, '__module__', None) or '?'}:{named.__qualname__}"


def import_named(path: str, *, error: type[UpscoreError] = ModelError) -> Callable[..., Any]:
    """Import what a caller names by ``package.module:name``; ``error`` where it cannot be imported, or called.

    Never to be called with a path that was read from a file: importing runs code.
    """
    module, _, name = path.partition(":")
    if not module or not name:
        raise error(f"found '{path}', expected package.module:name, such as mypackage.networks:make_network")
    try:
        found: Any = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError, ValueError) as reason:
        raise error(f"'{path}' cannot be imported ({reason}): name what can be, as package.module:name, or give the object") from reason
    if not callable(found):
        raise error(f"'{path}' is {type(found).__name__}, expected a class or function that returns a network")
    return found  # type: ignore[no-any-return]
