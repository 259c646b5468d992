"""Set the line numbers of the links in docs/papers and docs/faithfulness.md to where names are defined: `python docs/make_links.py`.

A link has a name and leads to its line, as in [`FCN.at_pool3`](../../src/upscore/models/fcn.py#L180).
The name is looked up in the file's syntax tree, so that the number stays right when the code moves.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

LINK = re.compile(r"\[`([\w.]+)`\]\(([^)#]+\.py)(?:#L(\d*))?\)")
DOCS = Path(__file__).parent
PAGES = [DOCS / "faithfulness.md", *sorted((DOCS / "papers").glob("*.md"))]


def line_of(source: str, name: str) -> int:
    """Return the line, from 1, on which a file defines a function, a class, a variable or an attribute set on ``self``.

    Parameters
    ----------
    source : str
        Python.
    name : str
        ``function``, ``Class``, ``Class.method``, ``Class.attribute``, ``function.variable``, …

    Raises
    ------
    LookupError
        It defines no such name.
    """
    scope: ast.AST = ast.parse(source)
    for part in name.split("."):
        found = [node for node in ast.walk(scope) if node is not scope and part in _defined_by(node)]
        if not found:
            raise LookupError(f"no '{part}' of '{name}'")
        scope = min(found, key=lambda node: getattr(node, "lineno", 0))
    return getattr(scope, "lineno", 0)


def renumbered(page: Path) -> str:
    """Return a page's text with the line number of every link to Python set."""

    def point(match: re.Match[str]) -> str:
        name, target, _ = match.groups()
        try:
            line = line_of((page.parent / target).read_text(encoding="utf-8"), name)
        except LookupError as error:
            raise LookupError(f"{page.name}: {target} has {error}") from None
        return f"[`{name}`]({target}#L{line})"

    return LINK.sub(point, page.read_text(encoding="utf-8"))


def _defined_by(node: ast.AST) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        parts = [part for target in targets for part in ast.walk(target)]
        return {part.attr for part in parts if isinstance(part, ast.Attribute)} | {part.id for part in parts if isinstance(part, ast.Name)}
    return set()


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(renumbered(page), encoding="utf-8")
