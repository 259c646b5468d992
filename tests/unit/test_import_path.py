"""Names of a caller's objects, and their import."""

import functools

import pytest

from upscore.errors import BundleError, ModelError
from upscore.import_path import import_named, import_path


def test_what_is_named_is_found_again():
    for thing in (import_path, ModelError, functools.partial(import_path)):
        assert import_path(import_named(import_path(thing))) == import_path(thing)


def test_an_object_is_named_by_its_class():
    assert import_path(ModelError("")) == "upscore.errors:ModelError"
    assert "<lambda>" in import_path(lambda: None)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("upscore", "expected package.module:name"),
        ("no.such.module:name", "cannot be imported"),
        ("upscore.errors:Nothing", "cannot be imported"),
        ("upscore:__version__", "is str, expected a class or function"),
    ],
)
def test_what_cannot_be_imported_is_one_line(path, said):
    with pytest.raises(BundleError, match=said):
        import_named(path, error=BundleError)
