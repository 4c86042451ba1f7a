"""The examples in docstrings and documents are run, and print what they say."""

import doctest
import importlib
from pathlib import Path
from typing import Any

import pytest
from usual import slow

ROOT = Path(__file__).parents[1]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


EVALUATE = {"row.py", "plugin.md"}
"""Their examples evaluate plugins."""


def with_examples(pattern: str) -> list[Any]:
    found = [path for path in sorted(ROOT.glob(pattern)) if ">>> " in path.read_text(encoding="utf-8")]
    return [slow(path) if path.name in EVALUATE else path for path in found]


@pytest.mark.parametrize("path", with_examples("starter/**/*.py"), ids=lambda path: path.stem)
def test_the_examples_of_a_module_are_right(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    done = doctest.testmod(importlib.import_module(name), optionflags=OPTIONS)
    assert done.attempted
    assert not done.failed


@pytest.mark.parametrize("path", with_examples("docs/*.md"), ids=lambda path: path.stem)
def test_the_examples_of_a_document_are_right(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = path.read_text(encoding="utf-8").replace("```", "")  # a fence is no part of what is printed
    test = doctest.DocTestParser().get_doctest(text, {}, path.name, str(path), 0)
    done = doctest.DocTestRunner(optionflags=OPTIONS).run(test)
    assert done.attempted
    assert not done.failed
