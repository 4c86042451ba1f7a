"""Which categories of a COCO file make up a class: a TOML file, or each of them its own."""

import json
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from starter.contract.errors import Code, Problem, UsageError, problem, usage_error
from starter.contract.text import read_text


class Mapping(BaseModel):
    """A mapping file: which categories make up a class, and which are left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: dict[str, tuple[str, ...]]
    """Class name to category names; the order is the label order."""
    skip: tuple[str, ...] = ()
    """Categories left out on purpose."""


def read_mapping(path: Path | None, categories: Sequence[str]) -> Mapping:
    """Read a mapping file and check that it places every category once.

    Without a file each category is a class of its own, in the COCO file's order.

    Raises:
        UsageError: the file is missing or not valid, or categories are placed twice or not at all.
    """
    if path is None:
        return Mapping(classes={name: (name,) for name in categories})
    try:
        mapping = Mapping.model_validate(tomllib.loads(read_text(path)))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise usage_error(Code.BAD_MAPPING, where=str(path), got=str(error)) from error
    placed = Counter(name for group in (*mapping.classes.values(), mapping.skip) for name in group)
    problems = [
        problem(Code.BAD_MAPPING, where=str(path), got=f"{name!r} is listed {count} times")
        for name, count in placed.items()
        if count > 1
    ]
    if missing := [name for name in categories if name not in placed]:
        problems.append(_unmapped(path, missing))
    if problems:
        raise UsageError(problems)
    return mapping


def _unmapped(path: Path, names: list[str]) -> Problem:
    """Name all categories that a mapping forgets, ready to be pasted into it."""
    shown = ", ".join(json.dumps(name, ensure_ascii=False) for name in names)
    what = "1 category is" if len(names) == 1 else f"{len(names)} categories are"
    return problem(
        Code.BAD_MAPPING,
        where=str(path),
        got=f"{what} neither in a class nor skipped: {shown}",
        hint=f"Put each into a class, or add skip = [{shown}] at the top of a copy of the file; "
        "then type the same command again with --mapping COPY.",
    )
