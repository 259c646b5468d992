"""The types that mypy knows of the compiled module are those of the module: its functions and the names of their arguments."""

import ast
import re
from pathlib import Path

import pytest

import upscore

STUB = Path(upscore.__file__).with_name("_native.pyi")


def test_the_stub_has_the_functions_and_arguments_of_the_compiled_module():
    native = pytest.importorskip("upscore._native")
    declared = {
        node.name: [argument.arg for argument in node.args.args]
        for node in ast.parse(STUB.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    functions = {name: value for name, value in vars(native).items() if callable(value) and not isinstance(value, type)}
    found = {name: re.findall(r"(\w+): ", function.__doc__.splitlines()[0]) for name, function in functions.items()}
    assert declared == found
