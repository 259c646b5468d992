"""Documents of unknown origin: plain values, or one reason; never another exception, and never for long."""

import doctest
import gc
import json

import pytest

import upscore.documents
from upscore.documents import collector_paused, parse_json, parse_large_json, parse_toml, parse_value, parse_xml, parse_yaml


def test_its_examples_hold():
    assert doctest.testmod(upscore.documents).failed == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a = " + "9" * 5000, "too large"),
        ("a = 0x" + "f" * 5000, "a: a number is too large"),
        ("a = 0o" + "7" * 5000, "too large"),
        ("a.b = [{c = 18446744073709551616}]", "c: the number 18446744073709551616 is too large"),
        ("a." * 10**4 + "a = 1", "in line 1 has more than 64 dotted parts"),
        ("b = 1\n" + '"a" . ' * 10**4 + "a = 1", "in line 2 has more than 64 dotted parts"),
        ("[" + "'a'." * 10**4 + "a]", "more than 64 dotted parts"),
        ("a = {" + "a." * 10**4 + "a = 1}", "more than 64 dotted parts"),
        ("a = " + "[" * 10**5, "too deep"),
        ("a = " + "{a = " * 10**5, "too deep"),
        ("a = 0000-00-00", "line 1"),
        ("a = \x00", "line 1"),
        ("a = 1\ra = 2", "line 1"),
    ],
    ids=range(13),
)
def test_toml_that_is_refused(text, why):
    with pytest.raises(ValueError, match=why) as caught:
        parse_toml(text)
    assert len(str(caught.value)) < 300


def test_toml_that_is_taken():
    assert parse_toml(f"a = {2**63 - 1}\nb = -{2**63}\nc = 0xffff_ffff_ffff_ffff\n") == {"a": 2**63 - 1, "b": -(2**63), "c": 2**64 - 1}
    path = "'" + "a.b." * 15 + "c'"
    assert parse_toml(f"a = {path}") == {"a": path[1:-1]}
    assert parse_toml("a = [" + "0.1, " * 1000 + "]") == {"a": [0.1] * 1000}
    assert parse_toml(".".join("a" * 64) + " = 1")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), (" sgd ", "sgd"), ("[1, 2]", [1, 2]), ("", ""), ("1\nother = 2", "1\nother = 2"), ("1\n[run]", "1\n[run]"),
     ("0x" + "f" * 50, "0x" + "f" * 50)],
    ids=range(7),
)  # fmt: skip
def test_the_value_of_a_setting(text, value):
    assert parse_value(text) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: " + "9" * 5000, "in line 1: the number 9999.* is too large"),
        ("a: 1\nb: 0x" + "f" * 5000, "in line 2: the number 0xff.* is too large"),
        ("a: 0" + "7" * 5000, "too large"),
        ("a: 0b" + "1" * 5000, "too large"),
        ("a: 1" + "_0" * 5000, "too large"),
        ("a: 1" + ":59" * 5000, "too large"),
        ("a: 1" + ":59" * 5000 + ".5", "cannot be read as float"),
        ("a: 18446744073709551616", "too large"),
        ("a: !!int", "in line 1: '' cannot be read as int"),
        ("a: !!int ''", "cannot be read as int"),
        ("a: !!int +", "cannot be read as int"),
        ("a: !!bool maybe", "'maybe' cannot be read as bool"),
        ("a: !!float x", "'x' cannot be read as float"),
        ("a: !!timestamp x", "'x' cannot be read as timestamp"),
        ("a: 2001-99-99", "cannot be read as timestamp"),
        ("a: !!binary x", "base64"),
        ("a: !!set [1]", "expected a mapping"),
        ("a: !!map ab", "expected a mapping"),
        ("a: !!seq ab", "expected a sequence"),
        ("a: !!str [a]", "expected a scalar"),
        ("a: !!omap [[a]]", "expected a mapping"),
        ("!!python/object/apply:os.system [x]", "could not determine a constructor"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        ("<<: 1", "merging"),
        ("a: &a [b]\nc: *a", "in line 2: aliases"),
        ("a: 1\na: 2", "in line 2: 'a' is given twice"),
        ("? [a, b]\n: c", "unhashable"),
        ("[" * 10**5, "too deep"),
        ("{a: " * 10**5, "too deep"),
        ("- " * 10**5, "too deep"),
        ("\ta: 1", "line 1"),
        ("a: 1\nb: \x00", r"in line 2: the character '\\x00' is not allowed in YAML"),
        ("a: \ud800", "is not allowed in YAML"),
        ("a\n---\nb", "another document"),
    ],
)  # fmt: skip
def test_yaml_that_is_refused(text, why):
    with pytest.raises(ValueError, match=why) as caught:
        parse_yaml(text)
    assert str(caught.value).startswith("in line ")
    assert len(str(caught.value)) < 300


def test_yaml_that_is_taken():
    assert parse_yaml(f"a: {2**64 - 1}\nb: -{2**63}\nc: 0x_ff\nd: 1:30") == {"a": 2**64 - 1, "b": -(2**63), "c": 255, "d": 90}
    assert parse_yaml("a: {<<: {b: 1}, c: 2}") == {"a": {"b": 1, "c": 2}}
    assert parse_yaml("") is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("9" * 5000, "too large"),
        ("[18446744073709551616]", "too large"),
        ('{"a": 1, "b": 2, "a": 3}', "'a' is given twice"),
        ("NaN", "NaN is no number"),
        ("-Infinity", "no number"),
        ("[" * 10**5, "too deep"),
        ('{"a":' * 10**5, "too deep"),
        ("", "line 1"),
        ("{} {}", "line 1"),
    ],
    ids=range(9),
)
def test_json_that_is_refused(text, why):
    with pytest.raises(ValueError, match=why) as caught:
        parse_json(text)
    assert len(str(caught.value)) < 300


def test_json_of_too_many_lists_is_not_parsed(monkeypatch):
    monkeypatch.setattr(upscore.documents, "MAX_CONTAINERS", 3)
    assert parse_json("[[], []]") == [[], []]
    with pytest.raises(ValueError, match="4 brackets, expected at most 3"):
        parse_json("[[], [], {}]")


def test_large_json_is_that_of_the_standard_library() -> None:
    for text in ('{"a": [1, 2.5, -3e4, null, true, "ü\\u00e9"], "b": {}}', "[]", "3", "9" * 30):
        assert parse_large_json(text) == json.loads(text)


@pytest.mark.parametrize("text", ["", "{", "[1,]", "NaN", "[Infinity]", "[" * 100_000, '"\\ud800"', "{'a': 1}"])
def test_large_json_that_is_none_is_a_reason(text: str) -> None:
    with pytest.raises(ValueError):
        parse_large_json(text)


def test_the_collector_is_paused_and_then_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def parse(*_: object, **__: object) -> None:
        seen.append(gc.isenabled())
        with collector_paused():
            seen.append(gc.isenabled())
        seen.append(gc.isenabled())  # inner pauses do not end the outer one
        raise ValueError("not JSON")

    monkeypatch.setattr("upscore.documents.from_json", parse)
    assert gc.isenabled()
    with pytest.raises(ValueError, match="not JSON"):
        parse_large_json("[]")
    assert seen == [False] * 3
    assert gc.isenabled()
    gc.disable()
    try:
        with collector_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_brackets_of_large_json_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upscore.documents.MAX_CONTAINERS", 3)
    assert parse_large_json("[[{}]]") == [[{}]]
    with pytest.raises(ValueError, match="holds 4 brackets, expected at most 3"):
        parse_large_json("[[[[]]]]")
    with pytest.raises(ValueError, match="holds 4 tags, expected at most 3"):
        parse_xml("<a><b/><b/></a>")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("<!DOCTYPE a><a/>", "declares a document type"),
        ('<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]><a>&d;</a>', "declares a document type"),
        ("<a>&b;</a>", "undefined entity"),
        ("<a>" * 101 + "</a>" * 101, "more than 100 deep"),
        ("<a>", "no element found"),
        ("", "no element found"),
        ("<a>\ud800</a>", "surrogates not allowed"),
    ],
)
def test_xml_that_is_not_read_is_a_reason(text: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        parse_xml(text)


def test_xml_is_read_with_its_text_and_attributes() -> None:
    root = parse_xml('<?xml version="1.0" encoding="latin-1"?><a x="ü"><b>&lt;1 &amp; 2</b><!-- c --></a>')
    assert (root.tag, root.get("x"), root.findtext("b")) == ("a", "ü", "<1 & 2")
