"""In Chromium, every page fits its window, can be read in the light and in the dark, and sorts its tables."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from chromium import BROWSER, MISSING, Browser, Scheme, running
from large_store import Inventor
from test_pages import PAGES, pages

from starter.contract.competition import load_competition
from starter.data.dataset import open_dataset
from starter.evaluation.evaluate import read_reference
from starter.organizer.leaderboard.standings import Standings
from starter.organizer.store.model import Entry
from starter.organizer.store.store import Store
from starter.report.html.leaderboard import write_board

__all__ = ["pages"]
ROOT = Path(__file__).parents[2]
WIDTHS = (1300, 800, 400)
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
NAMES = (
    "shufflenet",
    "A" * 60,
    "대한민국 경량화 모델 연구팀 서울대학교 인공지능 연구실 이름이 아주 긴 팀입니다",
    "فريق الرؤية الحاسوبية للشبكات العصبية الخفيفة جدا",
    "🚀🔥 rockets",
    "kestrel",
)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason=MISSING)]

FITS = """(() => {
  const page = document.documentElement, wrong = [];
  if (page.scrollWidth > page.clientWidth) wrong.push(`the page is ${page.scrollWidth} wide`);
  for (const table of document.querySelectorAll("table")) {
    const box = table.closest(".scroll");
    if (box) {
      if (getComputedStyle(box).overflowX !== "auto") wrong.push("a box that cannot scroll");
      if (box.tabIndex !== 0 || !box.getAttribute("role")) wrong.push("a box that no key can scroll");
    }
    if ((box ?? table).getBoundingClientRect().right > page.clientWidth + 1) wrong.push("a table is cut off");
    const shown = (row) => [...row.cells].filter((c) => c.offsetParent).length;
    for (const row of table.querySelectorAll("tbody tr"))
      if (table.tHead && shown(row) !== shown(table.tHead.rows[0])) wrong.push("cells without a heading");
  }
  for (const element of document.querySelectorAll("body *:not(script):not(svg *):not(.skip)")) {
    const style = getComputedStyle(element), text = element.innerText?.trim();
    const clips = /hidden|clip/.test(style.overflow);
    if (text && clips) wrong.push(`text can be cut: ${text.slice(0, 40)}`);
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !element.offsetParent || style.overflowX === "auto") continue;
    if (element.scrollWidth > element.clientWidth + 1 && style.display !== "inline")
      wrong.push(`text leaves its place: ${text.slice(0, 40)}`);
  }
  return wrong;
})()"""
"""What does not fit: nothing may be wider than the window, but inside a box that scrolls by itself."""

BREAKS = """[...document.querySelectorAll("tbody .t")].flatMap((cell) => {
  const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), broken = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode())
    for (const word of node.data.matchAll(/[\\p{L}\\p{N}]+/gu)) {
      if (word[0].length > 14) continue;
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const lines = new Set([...range.getClientRects()].map((box) => Math.round(box.top)));
      if (lines.size > 1) broken.push(word[0]);
    }
  return broken;
})"""
"""The words in names that stand on two lines; a word wider than its column may."""

CONTRAST = """(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].map((v) => v / 255);
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const ground = (element) => {
    if (!element) return rgba(getComputedStyle(document.body).backgroundColor);
    const own = rgba(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own : over(own, ground(element.parentElement));
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => {
    const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };
  const wrong = [], least = { text: 21, shape: 21 };
  const check = (kind, needed, colour, element, what) => {
    const below = ground(element), found = ratio(over(colour, below), below);
    least[kind] = Math.min(least[kind], found);
    if (found < needed) wrong.push(`${what}: ${found.toFixed(2)}`);
  };
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || element.tagName === "SCRIPT" || !element.getClientRects().length) continue;
    const style = getComputedStyle(element), drawn = element instanceof SVGElement;
    if (element.tagName === "title") continue;
    check("text", 4.5, rgba(drawn ? style.fill : style.color), element, element.textContent.slice(0, 40));
  }
  for (const shape of document.querySelectorAll("svg :is(circle, rect, .ref)")) {
    const below = shape.closest("td") ?? document.body;
    check("shape", 3, rgba(getComputedStyle(shape).fill), below, shape.classList.value);
  }
  return { wrong: [...new Set(wrong)], ...least };
})()"""
"""WCAG 2.2, 1.4.3 and 1.4.11: the contrast of texts and of shapes, as Chromium computes colours."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running(tmp_path_factory.mktemp("chromium")) as chromium:
        yield chromium


@pytest.fixture(scope="module")
def all_pages(pages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages of hostile texts, and boards of many names, of one entry and of 500."""
    folder = tmp_path_factory.mktemp("boards")
    return pages | {
        "names": board_page(folder / "names", 12),
        "one entry": board_page(folder / "one", 1),
        "500 entries": board_page(folder / "many", 500),
    }


def board_page(folder: Path, num_teams: int) -> Path:
    """Write a board of made-up teams; the first have difficult names."""
    folder.mkdir()
    rules, dataset = load_competition(ROOT / "competition.toml"), open_dataset(ROOT / "data" / "waste")
    reference = read_reference(ROOT / "baseline")
    inventor = Inventor(rules, dataset, reference)
    with Store(f"sqlite:///{folder / 'results.sqlite'}") as store:
        context = store.context_id(inventor.context)
        for number in range(num_teams):
            entry, record, evidence = inventor.entry(number, 0)
            team = NAMES[number] if number < len(NAMES) else entry.team
            store.add(context, [Entry(**vars(entry) | {"team": team})])
            store.put(context, record, evidence)
        board = Standings(store, rules, dataset, reference, now=datetime(2026, 5, 1, tzinfo=UTC)).board()
    return write_board(board, folder / "site", ())


EVERY = (*PAGES, "names", "one entry", "500 entries")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", EVERY)
def test_a_page_fits_its_window_and_its_tables_scroll_by_themselves(
    all_pages: dict[str, Path], browser: Browser, name: str, width: int
) -> None:
    browser.open(all_pages[name], width)
    assert not browser.run(FITS)
    assert not browser.console


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", EVERY)
def test_texts_and_shapes_stand_out_from_their_ground(
    all_pages: dict[str, Path], browser: Browser, name: str, scheme: Scheme
) -> None:
    browser.open(all_pages[name], 1300, scheme)
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(253, 253, 252)", "dark": "rgb(20, 23, 26)"}[scheme]
    found = browser.run(CONTRAST)
    assert not found["wrong"]
    assert found["text"] < 21, "nothing has been measured"


@pytest.mark.parametrize("width", WIDTHS)
def test_a_name_breaks_between_its_words(all_pages: dict[str, Path], browser: Browser, width: int) -> None:
    browser.open(all_pages["names"], width)
    assert not browser.run(BREAKS)


def test_columns_are_hidden_in_a_narrow_window_until_they_are_asked_for(
    all_pages: dict[str, Path], browser: Browser
) -> None:
    shown = "[...document.querySelectorAll('#board thead th')].filter((h) => h.offsetParent).length"
    browser.open(all_pages["names"], 1300)
    assert browser.run(shown) == 12
    browser.run("document.getElementById('columns').click()")
    every = browser.run("document.querySelectorAll('#board thead th').length")
    assert browser.run(shown) == every
    browser.open(all_pages["names"], 400)
    assert browser.run(shown) == 6
    browser.run("document.getElementById('columns').focus()")
    browser.press(" ", 32, " ")
    assert browser.run(shown) == every
    assert not browser.run(FITS)


def column(browser: Browser, heading: str) -> list[Any]:
    return browser.run(
        "(() => { const head = [...document.querySelectorAll('#board thead th')]"
        f".find((h) => h.textContent === '{heading}');"
        "return [...document.querySelectorAll('#board tbody tr')].map((row) => "
        "row.cells[head.cellIndex].textContent) })()"
    )


@pytest.mark.slow
@pytest.mark.parametrize(("key", "code", "text"), [("Enter", 13, "\r"), (" ", 32, " ")])
def test_a_key_on_a_heading_sorts_and_what_has_no_value_comes_last(
    all_pages: dict[str, Path], browser: Browser, key: str, code: int, text: str
) -> None:
    browser.open(all_pages["500 entries"], 1300)
    order = "document.querySelector('#board [aria-sort]')?.ariaSort"
    assert browser.run(order) == "ascending", "by rank, as the page is written"
    ranks = column(browser, "rank")
    browser.run(
        "[...document.querySelectorAll('#board th button')].find((b) => b.textContent === 'MACs').focus()"
    )
    browser.press(key, code, text)
    macs = [int(cell.replace(",", "")) for cell in column(browser, "MACs")]
    assert macs == sorted(macs)
    assert browser.run(order) == "ascending"
    browser.press(key, code, text)
    assert [int(cell.replace(",", "")) for cell in column(browser, "MACs")] == sorted(macs, reverse=True)
    assert browser.run(order) == "descending"
    assert column(browser, "rank") != ranks
    browser.run("document.querySelector('#board th button').click()")
    assert column(browser, "rank")[-1] == "\N{EN DASH}", "the baseline has no rank"
    browser.run("document.querySelector('#board th button').click()")
    assert column(browser, "rank")[-1] == "\N{EN DASH}"


@pytest.mark.parametrize("name", ["profile", "data", "search", "entry"])
def test_a_click_sorts_the_tables_of_every_page(
    all_pages: dict[str, Path], browser: Browser, name: str
) -> None:
    browser.open(all_pages[name], 800)
    headings = browser.run(
        "[...document.querySelectorAll('table.sortable th button')].map((b) => (b.click(),"
        " b.parentElement.ariaSort))"
    )
    assert len(headings) >= 4
    assert set(headings) == {"ascending"}
