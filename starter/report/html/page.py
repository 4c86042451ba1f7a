"""The frame, the escaping and the content security policy of every HTML page.

A page needs no server, no network and no other file. Names are strangers' texts:
everything is escaped, control characters are replaced, and a content security policy
names by hash the only script and style that a browser may use; pictures are embedded.
"""

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from starter.contract.errors import CATALOGUE
from starter.contract.text import clean, inline


@cache
def source(name: str) -> str:
    """Return a template or style sheet of this folder."""
    return files("starter.report.html").joinpath(name).read_text(encoding="utf-8")


def render(
    template: str, kind: str, *, styles: Sequence[str] = (), scripts: Sequence[str] = (), **values: Any
) -> str:
    """Return a page.

    Args:
        template: a file of this folder that extends page.html.
        kind: the command that makes such pages; the page names it as its generator.
        styles: style sheets of this folder that the page needs besides base.css.
        scripts: scripts of this folder, which share one scope.
        values: values for the template; every text is escaped.
    """
    css, js = "".join(map(source, ("base.css", *styles))), "".join(map(source, scripts))
    allowed = f"script-src {_hash(js)}; " if js else ""
    loads = f"default-src 'none'; style-src {_hash(css)}; {allowed}img-src data:"
    policy = f"{loads}; base-uri 'none'; form-action 'none'"
    ours = {"css": Markup(css), "js": Markup(js), "policy": Markup(policy)}  # noqa: S704 - our files, hashes
    return environment().get_template(template).render(values | ours | {"kind": kind})


def picture_uri(data: bytes, kind: str) -> str:
    """Return a picture as a data URI; `kind` is its media type, such as image/jpeg."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def environment() -> jinja2.Environment:
    """Return the environment that renders the templates."""
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    made.globals |= {
        "text": inline,
        "lines": clean,
        "date": _date,
        "f4": lambda value: f"{value:.4f}",
        "f3": lambda value: f"{value:.3f}",
        "title": lambda code: CATALOGUE[code].title,
    }
    return made


def _date(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M}"
