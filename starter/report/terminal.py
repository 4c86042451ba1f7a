"""Print to a terminal: wrapped prose, and problems in the order in which a reader asks.

Names and texts come from strangers, so none of them is read as markup and no control character
reaches the terminal.
"""

import textwrap

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from starter.contract.errors import CATALOGUE, Problem
from starter.contract.text import clean, inline

_FIELD = 9
"""The column at which the text of a problem's field begins."""


def pad(text: str, width: int) -> str:
    """Pad a text with spaces to a width in columns; a wide character such as Hangul takes two."""
    return text + " " * (width - cell_len(inline(text)))


def print_line(console: Console, text: str = "", style: str = "") -> None:
    """Print a text without markup, highlighting or wrapping."""
    console.print(Text(clean(text), style=style), soft_wrap=True)


def print_wrapped(console: Console, text: str) -> None:
    """Print prose: in a terminal wrapped between words with a hanging indent, otherwise unchanged."""
    for line in clean(text).split("\n"):
        indent = " " * (_FIELD if line.startswith("  ") else 2)
        lines = textwrap.wrap(
            line, console.width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        print_line(console, "\n".join(lines) if console.is_terminal else line)


def describe(problem: Problem, subject: str) -> str:
    """Say what is wrong, where, why and what to do, in the order in which a reader asks."""
    why = CATALOGUE[problem.code].why
    fields = {
        "where": problem.where if problem.where != subject else "",
        "got": problem.got,
        "wanted": problem.expected if problem.expected != why else "",
        "why": why,
        "fix": problem.hint,
        "code": f"{problem.code}: starter explain {problem.code}",
    }
    lines = [f"{inline(subject)}: {CATALOGUE[problem.code].title}"]
    # Further lines of a stranger's text are indented, so none of them can pass for a line of ours.
    lines += [f"  {name:6} {_indented(text)}" for name, text in fields.items() if text]
    return "\n".join(lines)


def _indented(text: str) -> str:
    return clean(text).rstrip().replace("\n", "\n" + _FIELD * " ")
