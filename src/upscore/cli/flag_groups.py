"""Flags that several verbs share, as one parameter of each verb: a dataclass whose fields are the flags."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_type_hints

__all__ = ["flag_group"]


def flag_group(group: type[Any], parameter: str, *, leave_out: tuple[str, ...] = ()) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a verb the fields of the dataclass ``group`` as flags, in place of its ``parameter``, but for those in ``leave_out``."""
    flags = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=annotation)
        for field, annotation in zip(fields(group), get_type_hints(group, include_extras=True).values(), strict=True)
        if field.name not in leave_out
    ]

    def decorate(verb: Callable[..., Any]) -> Callable[..., Any]:
        def run(**values: Any) -> Any:
            return verb(**values | {parameter: group(**{flag.name: values.pop(flag.name) for flag in flags})})

        own = inspect.signature(verb, eval_str=True).parameters.values()
        parameters = [item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in own if item.name != parameter] + flags
        run.__name__, run.__doc__ = verb.__name__, verb.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # which typer reads
        run.__annotations__ = {item.name: item.annotation for item in parameters}
        return run

    return decorate
