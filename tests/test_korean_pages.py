"""The Korean pages say what the English ones say: the same commands, figures, codes and files."""

import re
from pathlib import Path

import pytest

from starter.contract.errors import CATALOGUE

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.ko.md", *sorted((ROOT / "docs" / "ko").glob("*.md"))]
ENGLISH = " ".join(
    " ".join(path.read_text(encoding="utf-8").split())
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
)
COMMAND = re.compile(r"(?:starter|python3?|tox|apt|pip|docker|export|magick|unzip|convmv) .+")
FIGURE = re.compile(r"\d{1,3}(?:,\d{3})+|\d+\.\d+|\d{3,}", re.ASCII)


def commands(text: str) -> list[str]:
    """Return the lines of code blocks for a shell, without comments, and the commands in running text."""
    blocks = re.findall(r"```(sh|bash|text)\n(.*?)```", text, re.DOTALL)
    lines = [(kind, line.split("#")[0].strip()) for kind, block in blocks for line in block.splitlines()]
    typed = [line for kind, line in lines if kind != "text" or COMMAND.fullmatch(line)]
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    return [line for line in typed if line] + [span for span in spans if COMMAND.fullmatch(span)]


def test_the_pages_that_a_participant_needs_are_there() -> None:
    needed = {"first-score", "plugin", "scoring", "training", "troubleshooting", "errors"}

    assert needed <= {page.stem for page in PAGES}
    assert all(len(re.findall("[가-힣]", page.read_text(encoding="utf-8"))) > 500 for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_korean_page_is_in_an_english_one(page: Path) -> None:
    shown = commands(page.read_text(encoding="utf-8"))

    assert shown
    assert [command for command in shown if command not in ENGLISH] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_figure_and_code_of_a_korean_page_is_an_english_ones(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    assert {figure for figure in FIGURE.findall(text) if figure not in ENGLISH} == set()
    assert set(re.findall(r"\b[EUH]\d{3}\b", text)) <= CATALOGUE.keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_of_a_korean_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
