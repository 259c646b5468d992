"""Parse untrusted TOML, YAML, JSON and XML: no document runs code, takes unbounded time or expands in memory.

Integers must fit 64 bits, as TOML requires: one of five thousand digits is no setting, and
Python refuses to format it. Every function takes a text of bounded length
(:func:`upscore.files.read_text`) and raises only ``ValueError``, whose message is a reason for
the caller to put behind the file's name.
"""

from __future__ import annotations

import gc
import json
import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import yaml
from pydantic_core import from_json

from upscore.text import literal, reason, shortened

__all__ = ["MAX_CONTAINERS", "collector_paused", "parse_json", "parse_large_json", "parse_toml", "parse_value", "parse_xml", "parse_yaml"]

MAX_CONTAINERS = 2**24
"""Maximum of lists and objects in a JSON document; each takes some 60 bytes of memory, an empty one too."""

_MAX_DEPTH = 100  # of XML elements

_BITS_64 = range(-(2**63), 2**64)
_MAX_NUMBER_LENGTH = 100  # characters; 64 binary digits with underscores are fewer

# Parsing a dotted key takes time quadratic in its parts. A part is a bare or a quoted word.
_DEEP_KEY = re.compile(r"""(?<![A-Za-z0-9_-])(?:(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){64}""")


def parse_toml(text: str) -> dict[str, Any]:
    """Return the tables of a TOML document.

    A ValueError is raised where it is not TOML, a key has more than 64 dotted parts, or a whole number does not fit 64 bits.
    """
    if deep := _DEEP_KEY.search(text):
        raise ValueError(f"the key '{shortened(deep[0], 40)}' in line {_line(text, deep.start())} has more than 64 dotted parts")
    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise ValueError("lists or tables are nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(reason(error)) from None
    except ValueError:  # int() refuses more than 4,300 digits
        raise ValueError(_too_large("a number")) from None
    _refuse_large_numbers(values)
    return values


def parse_value(text: str) -> Any:
    """Return the value of a setting as TOML reads it, such as ``0.1``, ``true`` or ``[1, 2]``; what is not TOML is text.

    >>> parse_value("[0.5, 2]"), parse_value(" sgd")
    ([0.5, 2], 'sgd')
    """
    try:
        table = parse_toml(f"value = {text}")
    except ValueError:
        table = {}
    return table["value"] if list(table) == ["value"] else text.strip()  # more keys where it holds line breaks


def parse_json(text: str) -> Any:
    """Return the value of a JSON document.

    A ValueError is raised where it is not JSON (NaN and infinities are not), a key is given twice, a whole number does not fit 64
    bits, or there are more than :data:`MAX_CONTAINERS` lists and objects.
    """
    if (count := text.count("[") + text.count("{")) > MAX_CONTAINERS:
        raise ValueError(f"it holds {count:,} brackets, expected at most {MAX_CONTAINERS:,}")
    try:
        return json.loads(text, parse_int=_whole_number, parse_constant=_refuse_constant, object_pairs_hook=_without_repeats)
    except RecursionError:
        raise ValueError("lists or objects are nested too deeply") from None
    except ValueError as error:
        raise ValueError(reason(error)) from None


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause Python's collector of cyclic garbage, while many values without cycles are made; also a decorator.

    The collector visits all lists and objects again and again while they grow in number, which takes as long as parsing them. What no
    value refers to any more is freed at once all the same: only cycles wait. A collector that is off already stays off.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@collector_paused()
def parse_large_json(text: str) -> Any:
    """Return the value of a JSON document of many megabytes, in a third of the time of :func:`json.loads`.

    Whole numbers may be of any size, and the last of repeated keys counts. A ValueError is raised where it is not JSON (NaN and infinities
    are not), is nested more than some 200 deep, or holds more than :data:`MAX_CONTAINERS` lists and objects.

    >>> parse_large_json('{"points": [[1, 2.5]]}')
    {'points': [[1, 2.5]]}
    """
    if (count := text.count("[") + text.count("{")) > MAX_CONTAINERS:
        raise ValueError(f"it holds {count:,} brackets, expected at most {MAX_CONTAINERS:,}")
    try:
        return from_json(text, allow_inf_nan=False, cache_strings="keys")
    except (ValueError, RecursionError, UnicodeError) as error:
        raise ValueError(reason(error)) from None


def parse_xml(text: str) -> Element:
    """Return the root of an XML document that declares no document type, and therefore no entities.

    An encoding that the document names does not matter. A ValueError is raised where it is not XML, has a DOCTYPE, is nested more than 100
    deep, or holds more than :data:`MAX_CONTAINERS` elements.

    >>> [child.get("label") for child in parse_xml('<image><polygon label="road"/></image>')]
    ['road']
    """
    if (count := text.count("<")) > MAX_CONTAINERS:
        raise ValueError(f"it holds {count:,} tags, expected at most {MAX_CONTAINERS:,}")
    builder, depth = TreeBuilder(), 0

    def refuse(*_: Any) -> None:
        raise ValueError("it declares a document type (DOCTYPE), whose entities are not read: remove the declaration")

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise ValueError(f"its elements are nested more than {_MAX_DEPTH} deep")
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(text.encode("utf-8"), True)
    except (expat.ExpatError, UnicodeEncodeError) as error:
        raise ValueError(reason(error)) from None
    return builder.close()


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML document: plain data, without aliases and repeated keys.

    A ValueError, whose reason begins ``in line 3:``, is raised where it is not YAML, has aliases, which can expand a small file to
    any size, or tags other than those of plain data, a key is given twice, or a whole number does not fit 64 bits.
    """
    loader = None
    try:
        loader = _PlainLoader(text)
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, why = mark.line + 1 if mark else 1, reason(error.problem or error.context)
    except yaml.reader.ReaderError as error:
        line, why = _line(text, int(error.position)), f"the character {literal(chr(int(error.character)))} is not allowed in YAML"
    except RecursionError:
        line, why = 1 if loader is None else int(loader.line) + 1, "lists or mappings are nested too deeply"
    raise ValueError(f"in line {line}: {why}")


_NUMBERS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool"))


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML without aliases, repeated keys and numbers that do not fit 64 bits."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases (*) are not read, write the value out", problem_mark=self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (yaml.YAMLError, RecursionError):
            raise
        except Exception:  # PyYAML raises an IndexError for an empty '!!int', a KeyError for a bad '!!bool', an AttributeError for …
            kind = str(node.tag).rpartition(":")[2]
            problem = f"{literal(node.value, 40) if isinstance(node.value, str) else 'a list or mapping'} cannot be read as {kind}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None

    def construct_yaml_int(self, node: Any) -> int:
        text = self.construct_scalar(node)
        if len(text) <= _MAX_NUMBER_LENGTH:  # parsing base 60 takes quadratic time
            number = int(super().construct_yaml_int(node))
            if number in _BITS_64:
                return number
        raise yaml.MarkedYAMLError(problem=_too_large(f"the number {shortened(text, 40)}"), problem_mark=node.start_mark)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode):
                # 1 and 0x1, and 1 and true, are equal keys in Python: the second would replace the first.
                value = self.construct_object(key) if key.tag in _NUMBERS else (key.tag, key.value)
                if value in seen:
                    raise yaml.MarkedYAMLError(problem=f"'{key.value}' is given twice", problem_mark=key.start_mark)
                seen.add(value)
        return super().construct_mapping(node, deep)


_PlainLoader.add_constructor("tag:yaml.org,2002:int", _PlainLoader.construct_yaml_int)


def _whole_number(text: str) -> int:
    if len(text) > _MAX_NUMBER_LENGTH or (number := int(text)) not in _BITS_64:
        raise ValueError(_too_large(f"the number {shortened(text, 40)}"))
    return number


def _refuse_large_numbers(value: Any) -> None:
    """Raise where a whole number of a TOML document does not fit 64 bits: hexadecimal ones have any length."""
    if isinstance(value, dict):
        for name, inner in value.items():
            try:
                _refuse_large_numbers(inner)
            except ValueError as error:
                raise ValueError(f"{shortened(name, 40)}: {error}" if isinstance(inner, int) else str(error)) from None
    elif isinstance(value, list):
        for inner in value:
            _refuse_large_numbers(inner)
    elif isinstance(value, int) and value not in _BITS_64:
        raise ValueError(_too_large(f"the number {literal(value, 40)}" if abs(value) < 2**1000 else "a number"))


def _too_large(text: str) -> str:
    return f"{text} is too large: whole numbers fit 64 bits"


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number in JSON")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen = set[str]()
        repeated = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"'{shortened(repeated, 40)}' is given twice")
    return values


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
