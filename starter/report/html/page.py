"""What the kit's HTML pages share: templates, escaping, and a policy for the browser.

A page needs no server, no network and no other file. Names are strangers' texts:
everything is escaped, control characters are replaced, and a content security policy
names the only script and style that a browser may run, by their hashes.
"""

import base64
import hashlib
from datetime import datetime
from functools import cache
from importlib.resources import files

import jinja2
from markupsafe import Markup

from starter.contract.errors import CATALOGUE
from starter.contract.text import clean, inline


@cache
def source(name: str) -> str:
    """Return a template or style sheet of this folder."""
    return files("starter.report.html").joinpath(name).read_text(encoding="utf-8")


def policy(style: str, script: str = "") -> Markup:
    """Return the content security policy of a page with this style and script."""
    allowed = f"script-src {_hash(script)}; " if script else ""
    text = f"default-src 'none'; style-src {_hash(style)}; {allowed}base-uri 'none'"
    return Markup(text)  # noqa: S704 - hashes in quotes


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def environment() -> jinja2.Environment:
    """Return what renders the templates."""
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
