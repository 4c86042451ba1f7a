"""Every page of the kit stands in one frame, whose policy lets a browser load and run nothing else."""

import base64
import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from importlib.resources import files
from itertools import chain
from pathlib import Path

import pytest
from large_store import Inventor
from photo_server import photograph, serving

from starter.contract.competition import ScoreRules, load_competition
from starter.contract.costs import Finding, LayerProfile, ProfileReport, Timing
from starter.contract.errors import Status
from starter.contract.results import EvaluationResult
from starter.data.check import check
from starter.data.dataset import open_dataset
from starter.data.writer import Description, Item, Split, write_dataset
from starter.evaluation.evaluate import read_reference
from starter.organizer.leaderboard.standings import Standings
from starter.organizer.store.model import Entry
from starter.organizer.store.store import Store
from starter.organizer.waiting import Queue, WaitingEntry
from starter.recipes.search.search import Found
from starter.report import contact_sheet
from starter.report.html import dataset as dataset_page
from starter.report.html import profile as profile_page
from starter.report.html.leaderboard import write_board
from starter.report.html.page import render
from starter.report.html.search import write_page
from starter.report.html.svg import BOTTOM, HEIGHT, RIGHT, WIDTH, Axes, front_line

ROOT = Path(__file__).parents[2]
KIT = Path(str(files("starter")))
TEMPLATES = sorted((KIT / "report" / "html").glob("*.html"))
PAGES = ("leaderboard", "entry", "data", "data of nothing", "profile", "search", "search of nothing")
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)><p style=color:red>{{ 7*7 }}\x1b[2J\u202e"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_every_template_stands_in_the_frame_and_has_nothing_that_the_policy_forbids(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.name != "page.html":
        assert text.startswith('{% extends "page.html" %}')
        assert not re.search(r"<(script|style|link|iframe|object|form)\b", text)
    assert not re.search(r"\s(style|on\w+)=", text), "an attribute that a policy of hashes blocks"
    assert not re.search(r"(src|href)=\"(https?:)?//", text), "something from elsewhere"
    assert not re.search(r"\|\s*safe\b|autoescape", text)


def test_no_page_begins_anywhere_else() -> None:
    sources = chain(KIT.rglob("*.py"), KIT.rglob("*.html"))
    begins = re.compile(r"<html|<!doctype|<body", re.IGNORECASE)
    # A bundle's web server has its own page.
    own = (path for path in sources if "platforms" not in path.parts)
    found = [path for path in own if begins.search(path.read_text(encoding="utf-8"))]
    assert found == [KIT / "report" / "html" / "page.html"]


def test_the_policy_names_the_style_and_the_script_of_the_page_by_their_hashes() -> None:
    shown = {"heading": "<b>", "picture": "", "best": [], "num_found": 0, "shape": str}
    page = Page(
        render("search.html", "search", styles=["data.css"], scripts=["table.js", "board.js"], **shown)
    )
    assert page.policy["script-src"] == hashed(page.contents["script"][0])
    assert page.policy["style-src"] == hashed(page.contents["style"][0])


class Page(HTMLParser):
    """Reads a page as a browser does: its policy, and all that it loads or runs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.policy: dict[str, str] = {}
        self.contents: dict[str, list[str]] = {"script": [], "style": []}
        self.attributes: list[tuple[str, str, str]] = []
        """Tag, name and value of each."""
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.attributes += [(tag, name, value) for name, value in values.items()]
        if values.get("http-equiv") == "Content-Security-Policy":
            assert not any(self.contents.values()), "a policy holds only for what comes after it"
            assert not self.policy
            self.policy = dict(rule.split(maxsplit=1) for rule in values["content"].split("; "))
        if tag in self.contents:
            self.contents[tag].append("")
            self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.contents[self._inside][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._inside = "" if tag == self._inside else self._inside


def hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One page of each kind; each text that can be a stranger's is hostile."""
    folder = tmp_path_factory.mktemp("pages")
    made = dict(chain(board_pages(folder), data_pages(folder), search_pages(folder)))
    made["profile"] = folder / "profile.html"
    made["profile"].write_text(profile(), encoding="utf-8")
    assert made.keys() == set(PAGES)
    return made


def board_pages(folder: Path) -> Iterator[tuple[str, Path]]:
    """The board of six made-up entries and the page of its first."""
    rules, dataset = load_competition(ROOT / "competition.toml"), open_dataset(ROOT / "data" / "waste")
    reference = read_reference(ROOT / "baseline")
    inventor, store = Inventor(rules, dataset, reference), Store(f"sqlite:///{folder / 'results.sqlite'}")
    context = store.context_id(inventor.context)
    for number in range(6):
        entry, record, evidence = inventor.entry(number % 3, number // 3)
        store.add(context, [Entry(**vars(entry) | {"team": f"{number % 3}{HOSTILE}", "name": HOSTILE})])
        texts = {"title": HOSTILE, "authors": (HOSTILE,), "description": HOSTILE, "log_tail": HOSTILE}
        result = record.result.model_copy(update=texts)
        store.put(context, record.model_copy(update={"result": result}), evidence)
    standings = Standings(store, rules, dataset, reference, now=datetime(2026, 5, 1, tzinfo=UTC))
    board = standings.board().model_copy(update={"competition": HOSTILE})
    queue = Queue((WaitingEntry(HOSTILE, HOSTILE, 1, datetime(2026, 5, 1, tzinfo=UTC)),), 0)
    index = write_board(board, folder / "site", standings.details(board), queue)
    yield "leaderboard", index
    yield "entry", min((index.parent / "entries").iterdir())


def data_pages(folder: Path) -> Iterator[tuple[str, Path]]:
    """A data set with a duplicate and a broken image, and one of two classes without an image."""
    splits: tuple[Split, ...] = ("train", "Public", "Private", "train")
    everywhere = [Item(f"{i}.jpg", photograph(max(i, 1)), i // 4, splits[i % 4]) for i in range(8)]
    for name, items in (("data", everywhere), ("data of nothing", everywhere[:4])):
        texts = Description(name=HOSTILE, classes=("can", HOSTILE), licence=HOSTILE, source=HOSTILE)
        write_dataset(folder / name, items, texts)
        (folder / name / "images" / "3.jpg").write_bytes(b"damaged")
        dataset, report = open_dataset(folder / name), check(folder / name)
        sheets = contact_sheet.samples(dataset, report.classes, per_class=3, seed=0)
        same = contact_sheet.duplicate_samples(dataset, report.duplicates)
        assert same
        assert report.problems
        page = folder / f"{name}.html"
        page.write_text(dataset_page.page(dataset, report, sheets, same), encoding="utf-8")
        yield name, page


def search_pages(folder: Path) -> Iterator[tuple[str, Path]]:
    stage = {"channels": 8, "depth": 1, "kernel": 3, "expansion": 2}
    config = {"resolution": 32, "stem": 8, "stages": [stage]}
    found = [
        Found(number=n, macs=n * 10**6, macro_f1=0.5 + n / 10, config=config, folder=f"front/{n}")
        for n in (1, 2)
    ]
    for name, networks in (("search", found), ("search of nothing", [])):
        (folder / name).mkdir()
        yield name, write_page(networks, networks, folder / name, HOSTILE)


def profile() -> str:
    timing = {1: Timing(median=20, low=10, high=30), 32: Timing(median=300, low=200, high=400)}
    layer = LayerProfile(
        module=HOSTILE, source=HOSTILE, ops=(HOSTILE,), shape=(1, 8, 8, 8), params=216, contraction=13_824,
        pointwise=10, reduction=0, flops=27_000, access=900, access_bytes=3_600, latency=timing,
    )  # fmt: skip
    finding = Finding(
        guideline="G4", module=HOSTILE, source=HOSTILE, formula="1 of 2", advice="Fewer.", saving=9, share=0.1
    )
    report = ProfileReport(
        layers=(layer, layer), latency=timing, findings=(finding, finding), device="CPU", threads=1,
        peak_flops=1e10, peak_bytes=1e10,
    )  # fmt: skip
    result = EvaluationResult(
        name=HOSTILE, path="/mine", status=Status.OK, official=False, isolation="lockdown", macs=27_668,
        contraction_macs=27_648, pointwise_macs=20, reduction_macs=0, params=216, input_shape=(3, 8, 8),
        profile=report,
    )  # fmt: skip
    return profile_page.page([(result, report)], None, ScoreRules())


@pytest.mark.parametrize("name", PAGES)
def test_a_page_carries_the_policy_and_nothing_that_it_refuses(pages: dict[str, Path], name: str) -> None:
    text = pages[name].read_text(encoding="utf-8")
    page = Page(text)
    scripts, (style,) = page.contents["script"], page.contents["style"]
    assert len(scripts) == 1

    assert page.policy == {
        "script-src": hashed(scripts[0]),
        "default-src": "'none'",
        "style-src": hashed(style),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    for tag, attribute, value in page.attributes:
        assert attribute != "style"
        assert not attribute.startswith("on")
        if attribute in {"src", "href"}:
            assert tag in {"img", "a"}
            assert value.startswith("data:image/") if tag == "img" else not re.match(r"\w+:|//", value)
    assert not re.search(r"url\(|@import", style)
    assert not {character for character in text if character != "\n" and not character.isprintable()}
    assert "&lt;script&gt;alert(1)" in text
    assert "49" not in re.findall(r"color:red&gt;(.{2})", text)


@pytest.mark.parametrize("points", [[(1e6, 0.8)], [(1e6, 0.7), (2e6, 0.8)]], ids=["one", "two"])
def test_the_front_reaches_from_the_bottom_to_the_right_edge(points: list[tuple[float, float]]) -> None:
    """Beyond its last point no entry has a higher F1: there the front goes on, also where it is one point."""
    axes = Axes([macs for macs, _ in points], [f1 for _, f1 in points], floor=0)
    path = Page(front_line(points, axes)).attributes[1][2]
    assert path.startswith(f"M{axes.x(1e6):.1f} {HEIGHT - BOTTOM}V")
    assert path.endswith(f"V{axes.y(0.8):.1f}H{WIDTH - RIGHT}")


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed: apt install chromium")
@pytest.mark.parametrize("name", PAGES)
def test_a_browser_finds_the_page_sound_and_refuses_all_that_is_added(
    pages: dict[str, Path], tmp_path: Path, name: str
) -> None:
    """Chromium's console names each thing that the policy refuses: what was added here, and no other."""
    with serving() as server:
        added = (
            "<script>document.title = 'foreign'</script>",
            '<p style="color: red">red</p>',
            f'<img src="{server.url}/a.png">',
            f'<script src="{server.url}/a.js"></script>',
        )
        text = pages[name].read_text(encoding="utf-8")
        changed = tmp_path / "index.html"
        changed.write_text(text.replace("</body>", "".join(added) + "</body>"), encoding="utf-8")
        dom, console = in_browser(changed, tmp_path / "profile")

    refused = [line for line in console.splitlines() if "Content Security Policy" in line]
    assert len(refused) == len(added), console
    assert not server.asked
    assert "<title>foreign" not in dom
    assert "</main>" in dom


def in_browser(page: Path, user_data: Path) -> tuple[str, str]:
    """Return the page's elements after its script has run, and what the browser logs."""
    assert BROWSER is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000"]
    options += ["--enable-logging=stderr", f"--user-data-dir={user_data}", "--dump-dom"]
    run = subprocess.run([BROWSER, *options, page.as_uri()], capture_output=True, text=True, check=True)
    return run.stdout, run.stderr
