"""Templates of pages that load nothing from outside their file.

A page includes ``head.html.j2``, which holds the shared style and a security policy that forbids the browser to load
or run anything. Values are untrusted: every one is escaped, and hidden characters (control characters, marks that change
the writing direction) are made visible.
"""

from __future__ import annotations

import math

import jinja2
from markupsafe import Markup

from upscore.text import visible

__all__ = ["open_template"]


def open_template(package: str, name: str) -> jinja2.Template:
    """Return the template ``name`` of the folder ``package`` in ``upscore``: it escapes its values, and fails where one is missing."""
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader("upscore", package), jinja2.PackageLoader("upscore", "html")]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda value: "–" if value is None or math.isnan(value) else f"{100 * value:.1f}"
    environment.filters["change"] = _signed
    environment.filters["colour"] = lambda rgb: "#{:02x}{:02x}{:02x}".format(*rgb)
    environment.filters["thousands"] = lambda value: f"{value:,}".replace(",", "\u2009")
    environment.filters["lines"] = lambda text: Markup("\n").join(map(visible, text.split("\n")))
    return environment.get_template(name)


def _visible(value: object) -> object:
    """Make hidden characters of a text visible; the template's own markup is left as it is."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _signed(value: float) -> str:
    """Return a difference of metrics in points, with its sign."""
    points = round(100 * value, 1) if not math.isnan(value) else math.nan
    return "–" if math.isnan(points) else "0.0" if points == 0 else f"{points:+.1f}".replace("-", "\u2212")
