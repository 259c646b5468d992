"""Text of unknown origin: bounded, on one line, and without anything a terminal obeys."""

import doctest
import pickle
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

import upscore.text
from upscore import errors
from upscore.text import MAX_LINE, one_line, shortened, visible


def test_its_examples_hold():
    assert doctest.testmod(upscore.text).failed == 0


@given(st.text(st.characters(exclude_categories=()), max_size=40))
def test_nothing_in_what_is_shown_is_a_control_character_and_plain_text_is_left_alone(text):
    shown = visible(text)
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in shown)
    assert not set(shown) & set("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u061c")
    assert visible(shown) == shown
    shown.encode("utf-8")


@pytest.mark.parametrize("text", ["Straße", "도로", "naïve café", "a b", "🛣️", "نام‌ها", "1 × 2 – 3 %"])
def test_letters_of_any_script_are_shown_as_they_are(text):
    assert visible(text) == text


@pytest.mark.parametrize("text", ["9" * 5000, "x" * 10**6, "a b " * 10**5, "\x1b" * 10**6, "é" * 3000, "\n" * 3000])
def test_a_message_is_one_bounded_line(text):
    shown = str(errors.DataError(f"{text}: no such file"))
    assert len(shown) <= MAX_LINE + 40
    assert "\n" not in shown
    assert "\x1b" not in shown
    assert shown.endswith("no such file") or shown.endswith("characters)")


def test_what_is_short_is_not_shortened():
    path = "/".join(["folder"] * 50)
    assert one_line(f"{path}: no such file") == f"{path}: no such file"
    assert shortened("abc", 3) == "abc"
    assert shortened("abcdefghi", 6) == "abcd…hi (9 characters)"


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name.endswith("Error")])
def test_every_error_shows_its_text_so_and_survives_another_process(name):
    error = getattr(errors, name)("bad\x1b[2J\nname")
    assert str(error) == "bad\\x1b[2J\\nname"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
