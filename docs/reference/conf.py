"""The API reference: the public names of every module, from their docstrings. `make docs` builds it.

A reference to a name that does not exist is an error, as every warning is: see ``nitpicky``.
"""

from pathlib import Path

import upscore

project = "upscore"
version = release = upscore.__version__
extensions = ["sphinx.ext.apidoc", "sphinx.ext.autodoc", "numpydoc"]
exclude_patterns = ["modules/modules.rst"]
html_theme = "furo"
html_title = f"upscore {version}"

apidoc_modules = [
    {
        "path": str(Path(upscore.__file__).parent),
        "destination": "modules",
        "separate_modules": True,
        "automodule_options": {"members", "show-inheritance"},
    }
]
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings give shapes, ranges and units, which types do not
numpydoc_show_class_members = False
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!upscore\.).*"),  # names of other projects: their pages are not read
    ("py:.*", r".*\._\w+"),  # private bases
]
