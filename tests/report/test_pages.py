"""Every page of the kit stands in one frame, whose policy lets a browser load and run nothing else."""

import base64
import hashlib
import re
from importlib.resources import files
from pathlib import Path

import pytest

from starter.report.html.page import render

TEMPLATES = sorted(path for path in Path(str(files("starter.report.html"))).glob("*.html"))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_every_template_stands_in_the_frame_and_has_nothing_that_the_policy_forbids(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.name != "page.html":
        assert text.startswith('{% extends "page.html" %}')
        assert not re.search(r"<(script|style|link|iframe|object|form)\b", text)
    assert not re.search(r"\s(style|on\w+)=", text), "an attribute that a policy of hashes blocks"
    assert not re.search(r"(src|href)=\"(https?:)?//", text), "something from elsewhere"
    assert not re.search(r"\|\s*safe\b|autoescape", text)


def test_the_policy_names_the_style_and_the_script_of_the_page_by_their_hashes() -> None:
    shown = {"heading": "<b>", "picture": "", "best": [], "num_found": 0, "shape": str}
    html = render("search.html", "search", styles=["board.css"], script="board.js", **shown)
    assert "<b>" not in html
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None
    style, script = (re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL) for tag in ("style", "script"))
    assert style is not None
    assert script is not None
    rules = dict(rule.split(maxsplit=1) for rule in policy[1].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["style-src"] == hashed(style[1])
    assert rules["script-src"] == hashed(script[1])
    assert rules["img-src"] == "data:"


def hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
