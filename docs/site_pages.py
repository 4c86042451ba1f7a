"""The parts of the site that are generated when it is built: `tox -e site`.

Commands come from Typer, records from pydantic, the operators from the table, the URLs from pyproject.toml.
Prose is in the other files of this folder. A page that would load anything from elsewhere fails the build.
"""

import importlib
import json
import re
import tomllib
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel
from pymdownx.slugs import slugify
from update import fields

from starter.cli.app import COMMANDS, load
from starter.contract.competition import CompetitionFile
from starter.contract.results import EvaluationResult, Reference

ROOT = Path(__file__).parents[1]
EXTERNAL = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^>]*>"
    r"|<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preload|preconnect|icon))[^>]*\bhref=[\"']?(?:https?:)?//[^>]*>"
)
"""What a browser fetches by itself from another host."""

KOREAN = ("first-score", "plugin", "scoring", "training", "troubleshooting", "errors")
"""Pages of docs/ko, in the order in which they are read."""

KOREAN_LABELS = {
    "Next": "다음",
    "Previous": "이전",
    "Table of contents": "목차",
    "Skip to content": "본문으로 건너뛰기",
}
"""The theme's own words around a Korean page."""

RECORDS: dict[str, type[BaseModel]] = {
    "competition.toml": CompetitionFile,
    "A result: `--json`, the store, the report": EvaluationResult,
    "baseline/reference.json": Reference,
}

ADDRESSES = {
    "starter": "What a plugin, a notebook and a library import.",
    "starter.transforms": "Transforms of the kit's own.",
    "starter.costs": "Rules of an organizer's own, and counting.",
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Take the URLs from pyproject.toml; put the Korean pages into the navigation, with Hangul in anchors."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    config.site_url, config.repo_url = urls["Documentation"], urls["Homepage"]
    pages = [f"ko/{name}.md" for name in KOREAN if (ROOT / "docs/ko" / f"{name}.md").is_file()]
    if pages and config.nav is not None:
        config.nav.append({"한국어": pages})
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {
        "commands": commands(),
        "python": python(),
        "operators": operators(),
        "records": records(),
        "changelog": '--8<-- "CHANGELOG.md"\n',
    }
    for name, content in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=content))
    return files


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Mark a Korean page as Korean, and keep the theme from asking the repository's host for its stars."""
    del config
    output = output.replace(' data-md-component="source"', "")
    if not page.file.src_uri.startswith("ko/"):
        return output
    output = output.replace('<html lang="en"', '<html lang="ko"', 1)
    for english, korean in KOREAN_LABELS.items():
        output = re.sub(rf"(>\s*){english}(\s*<)", rf"\g<1>{korean}\g<2>", output)
        output = output.replace(f'aria-label="{english}', f'aria-label="{korean}')
    return output


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a page that loads something from another host.

    Raises:
        PluginError: there is one; it names the page and the element.
    """
    for path in sorted(Path(config.site_dir).rglob("*.html")):
        found = EXTERNAL.search(path.read_text(encoding="utf-8"))
        if found:
            raise PluginError(f"{path} loads from elsewhere: {found[0]}")


def commands() -> str:
    """Return each command with its arguments and options, as `--help` has them."""
    lines = ["# Commands", "", "Generated from the program; `starter COMMAND --help` prints the same.", ""]
    for name in COMMANDS:
        lines += _command(f"starter {name}", load(name), level=2)
    return "\n".join(lines)


def _command(words: str, command: Any, level: int) -> list[str]:
    lines = [f"{'#' * level} {words}", "", command.help or "", ""]
    parameters = [p for p in command.params if p.name != "help" and not getattr(p, "hidden", False)]
    if parameters:
        lines += ["| argument or option | meaning |", "|---|---|", *map(_parameter, parameters), ""]
    for name, child in getattr(command, "commands", {}).items():
        lines += _command(f"{words} {name}", child, level + 1)
    return lines


def _parameter(parameter: Any) -> str:
    names = [*parameter.opts, *parameter.secondary_opts]
    if parameter.param_type_name == "argument":
        names = [str(parameter.metavar or parameter.name).upper() + ("..." if parameter.nargs == -1 else "")]
    kind = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    choices = list(kind) if isinstance(kind, type) and issubclass(kind, Enum) else []
    text = [(getattr(parameter, "help", "") or "").replace("|", "\\|")]
    if choices:
        text.append(f"One of {', '.join(f'`{_plain(choice)}`' for choice in choices)}.")
    if parameter.default not in {None, False, ()} and not callable(parameter.default):
        text.append(f"Default: `{_plain(parameter.default)}`.")
    return f"| {', '.join(f'`{name}`' for name in names)} | {' '.join(text)} |"


def _plain(value: Any) -> str:
    return "on" if value is True else str(getattr(value, "value", value))


def python() -> str:
    """Return the public addresses; mkdocstrings fills them in from the docstrings."""
    lines = ["# Python", "", "Generated from the docstrings. Any other module may move.", ""]
    for address, what in ADDRESSES.items():
        lines += [f"## {address}", "", what, ""]
        for name in importlib.import_module(address).__all__:
            lines += [f"::: {address}.{name}", ""]
    return "\n".join(lines)


def operators() -> str:
    """Return the operator tables of docs/scoring.md as a page of their own."""
    text = (ROOT / "docs/scoring.md").read_text(encoding="utf-8")
    start = text.index("## The operators")
    return (
        "# Operators\n\nWhat the classes mean: [scoring](../scoring.md).\n\n" + text[start:].split("\n", 1)[1]
    )


def records() -> str:
    """Return the fields of each stored record, and its JSON schema."""
    lines = ["# Records", "", "Generated from the pydantic models that read and write them.", ""]
    for title, model in RECORDS.items():
        lines += [f"## {title}", ""]
        for part in _parts(model):
            text = " ".join((part.__doc__ or "").split())
            lines += [f"### {part.__name__}", "", text, "", fields(part), ""]
        schema = json.dumps(model.model_json_schema(mode="serialization"), indent=1)
        lines += [f'??? note "JSON schema of {model.__name__}"', "", "    ```json"]
        lines += [f"    {line}" for line in schema.splitlines()]
        lines += ["    ```", ""]
    return "\n".join(lines)


def _parts(model: type[BaseModel]) -> list[type[BaseModel]]:
    """Return a record and the records in it, each once, in the order of their fields."""
    found = [model]
    for field in model.model_fields.values():
        for kind in _kinds(field.annotation):
            found += [part for part in _parts(kind) if part not in found]
    return found


def _kinds(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _kinds(argument)
