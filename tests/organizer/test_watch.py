"""A watched competition: what arrives whole is evaluated, the page is whole, an end loses nothing."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import crowd
import organizing
import pytest
from conftest import Command
from crowd import stored, told

from starter.cli.app import load
from starter.contract.errors import Code, Status, UsageError
from starter.data.dataset import Dataset
from starter.organizer.arrivals import Arrivals
from starter.organizer.entries import EntrySource
from starter.organizer.plan import Action, PlannedEntry
from starter.organizer.store.holding import held
from starter.organizer.waiting import Queue

LONG_AGO = 1_700_000_000.0
EVERY = 0.3
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


class Watcher:
    """A watch that runs, as an organizer starts it."""

    def __init__(self, place: Path, *options: str) -> None:
        self.place = place
        self._log = place / f"log{time.monotonic_ns()}"
        command = [sys.executable, "-m", "starter", "batch", "entries", "--watch", "--html", "public/site"]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--every", str(EVERY), *options], cwd=place, stdout=log, stderr=log
            )

    @property
    def said(self) -> str:
        """What it has written to stderr and stdout."""
        return self._log.read_text(encoding="utf-8")

    @property
    def page(self) -> str:
        """The text of its page; nothing before there is one."""
        with contextlib.suppress(FileNotFoundError):
            return (self.place / "public" / "site" / "index.html").read_text(encoding="utf-8")
        return ""

    @property
    def waiting(self) -> list[str]:
        """Position and name of each entry that its page shows without a result."""
        table = self.page.partition('<table id="waiting"')[2].partition("</table>")[0]
        return [
            " ".join(found)
            for found in re.findall(r"<tr><td>(\w+)</td>.*?<td class=\"t\"><bdi>(.*?)</bdi>", table)
        ]

    def until(self, is_so: Callable[[], object], seconds: float = 300) -> None:
        """Wait until something is so."""
        end = time.monotonic() + seconds
        while not is_so():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < end, f"{self.said}\n{self.waiting}"
            time.sleep(0.05)

    def until_told(self, count: int) -> None:
        """Wait until it has said that so many entries are stored."""
        self.until(lambda: len(told(self.said)) >= count)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


@pytest.fixture
def watching(place: Path) -> Iterator[Callable[..., Watcher]]:
    """Start watches; all are ended."""
    with contextlib.ExitStack() as stack:

        def start(*options: str) -> Watcher:
            (place / "entries").mkdir(exist_ok=True)
            (place / "public").mkdir(exist_ok=True)
            watcher = Watcher(place, *options)
            stack.callback(watcher.process.wait)
            stack.callback(watcher.process.kill)
            watcher.until(lambda: "watching entries" in watcher.said)
            return watcher

        yield start


def zipped(text: str, path: Path) -> bytes:
    """The bytes of a zip with one plugin, and some weights that nobody reads so that it is not small."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("plugin.py", text)
        archive.writestr("weights.bin", os.urandom(100_000))
    return path.read_bytes()


@pytest.mark.slow
def test_what_arrives_is_evaluated_once_it_is_whole(
    watching: Callable[..., Watcher], place: Path, easy_dataset: Dataset, tmp_path: Path
) -> None:
    """A zip copied slowly, one renamed in, a folder, a line of the index; and a zip that stays broken."""
    (place / "index.csv").write_text("path,team\n")
    watcher = watching("--index", "index.csv")
    entries = place / "entries"
    data = zipped(crowd.honest(1), tmp_path / "slow.zip")

    with (entries / "slow.zip").open("wb") as file:  # slower than two looks
        for part in (data[:30_000], data[30_000:60_000], data[60_000:-1]):
            file.write(part)
            file.flush()
            time.sleep(4 * EVERY)
            assert told(watcher.said) == []
            assert watcher.waiting == []
        file.write(data[-1:])
    watcher.until(lambda: told(watcher.said) == ["slow"])

    zipped(crowd.honest(2), entries / ".moved.zip.part")
    (entries / ".moved.zip.part").rename(entries / "moved.zip")
    watcher.until(lambda: "moved" in told(watcher.said))

    (entries / "red" / "net").mkdir(parents=True)
    (entries / "red" / "net" / "plugin.py").write_text(crowd.honest(3))
    watcher.until(lambda: "net" in told(watcher.said))

    (place / "index.csv").write_text("path,team\nentries/later.py,blue\n")  # the line first, then the entry
    (entries / "later.py").write_text(crowd.honest(4))
    watcher.until(lambda: "later" in told(watcher.said))

    (entries / "broken.zip").write_bytes(data[:50_000])
    watcher.until(lambda: "broken" in told(watcher.said))
    assert re.search(r"^5/5  broken  invalid  E111$", watcher.said, re.MULTILINE)
    watcher.until(lambda: "<bdi>broken</bdi>" in watcher.page)
    assert re.search(r"<bdi>blue</bdi></th>\s*<td.*?<bdi>later</bdi>", watcher.page)

    assert watcher.end() == 0
    found = stored(place, easy_dataset)
    assert {name: status for name, (status, _) in found.items()} == {
        **dict.fromkeys(("slow", "moved", "net", "later"), Status.OK),
        "broken": Status.INVALID,
    }


@pytest.mark.long
def test_the_page_is_whole_at_all_times_and_shows_who_waits(
    watching: Callable[..., Watcher], place: Path
) -> None:
    watcher = watching()
    watcher.until(lambda: watcher.page)
    assert "0 evaluated since the watch began, 0 without a result" in watcher.page
    sleeper = crowd.honest(9) + "\nimport time\ntime.sleep(3)"
    for number, name in enumerate(("a", "b", "c", "d")):
        path = place / f"{name}.py"
        path.write_text(sleeper + f"# {number}")
        os.utime(path, (LONG_AGO + number,) * 2)
        path.rename(place / "entries" / path.name)

    watcher.until(lambda: len(watcher.waiting) == 4)
    assert [line.split()[1] for line in watcher.waiting] == ["a", "b", "c", "d"]
    seen, pages = set(), set()
    while len(told(watcher.said)) < 4:
        page = watcher.page
        assert page.rstrip().endswith("</html>"), "no page, or half of one"
        assert str(place) not in page
        seen.add(tuple(watcher.waiting))
        pages.add(page)
        assert watcher.process.poll() is None
    assert any(lines[0] == "now b" for lines in seen if lines)
    assert any(re.search(r"<td>20\d\d-\d\d-\d\d \d\d:\d\d</td></tr>", page) for page in pages)
    watcher.until(lambda: "4 evaluated since the watch began, 0 without a result" in watcher.page)
    assert watcher.page.count('href="entries/') >= 4
    assert watcher.end() == 0
    assert "The evaluation is paused" in watcher.page


@pytest.mark.long
def test_an_end_gives_up_what_takes_long_and_the_next_watch_goes_on(
    watching: Callable[..., Watcher], place: Path, easy_dataset: Dataset
) -> None:
    rules = place / "competition.toml"
    rules.write_text(rules.read_text().replace("wall_seconds = 6", "wall_seconds = 300"))
    watcher = watching()
    (place / "entries" / "quick.py").write_text(crowd.honest(1))
    watcher.until(lambda: told(watcher.said) == ["quick"])
    sleeper = place / "entries" / "sleeper.py"
    sleeper.write_text(crowd.honest(2) + "\nimport time\ntime.sleep(3600)")
    watcher.until(lambda: watcher.waiting == ["now sleeper"])

    began = time.monotonic()
    assert watcher.end() == 0
    assert time.monotonic() - began < 45
    assert "stopped: 1 evaluated, 1 without a result" in watcher.said
    before = stored(place, easy_dataset)
    assert before.keys() == {"quick"}
    assert not [path for path in (place / "public").iterdir() if path.name != "site"]

    sleeper.write_text(crowd.honest(2))
    again = watching()
    again.until(lambda: told(again.said) == ["sleeper"])
    assert before.items() <= stored(place, easy_dataset).items()


@pytest.mark.long
def test_a_kill_loses_nothing_and_the_next_watch_evaluates_what_is_missing(
    watching: Callable[..., Watcher], place: Path, easy_dataset: Dataset
) -> None:
    kinds = crowd.write_crowd(place / "entries", 12, every=20)
    said: list[str] = []
    for _ in range(2):
        watcher = watching("--jobs", "2")
        watcher.until_told(3)
        watcher.end(signal.SIGKILL)
        said += told(watcher.said)
        assert set(said) <= stored(place, easy_dataset).keys()
    left = len(kinds) - len(stored(place, easy_dataset))
    last = watching("--jobs", "2")
    last.until_told(left)
    said += told(last.said)
    assert stored(place, easy_dataset).keys() == kinds.keys()
    assert len(said) == len(set(said)), "an entry was evaluated twice"
    assert last.end() == 0


@pytest.mark.long
def test_a_second_watch_and_a_batch_are_told_who_holds_the_store(
    watching: Callable[..., Watcher], starter: Command, place: Path
) -> None:
    watcher = watching()
    (place / "other").mkdir()
    (place / "other" / "a.py").write_text(crowd.honest(1))

    for words in (("entries", "--watch"), ("other",)):
        run = starter("batch", *words, expected=2)
        assert "U130" in run.stderr
        assert f"held by starter batch --watch, process {watcher.process.pid} on " in run.stderr
    assert "evaluate   a/a" in starter("batch", "other", "--dry-run").stdout
    starter("leaderboard")

    assert watcher.end() == 0
    assert {path.name for path in (place / ".starter").iterdir()} <= {"images", "results.sqlite"}
    again = watching()
    again.end(signal.SIGKILL)
    assert watching().end() == 0, "a killed holder holds nothing"


@pytest.mark.slow
def test_ctrl_c_ends_a_watch_as_every_command(watching: Callable[..., Watcher]) -> None:
    watcher = watching()
    watcher.until(lambda: watcher.page)
    assert watcher.end(signal.SIGINT) == 130


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--watch", "--dry-run", "--limit", "3", "--json", "-"),
            "cannot take --dry-run, --limit, --json",
        ),
        (("--html", "site"), "--html needs --watch"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    starter: Command, place: Path, words: tuple[str, ...], said: str
) -> None:
    (place / "entries").mkdir()
    assert said in starter("batch", "entries", *words, expected=2).stderr


@pytest.mark.slow
def test_a_site_that_is_something_else_is_refused_before_anything_is_evaluated(
    starter: Command, place: Path, easy_dataset: Dataset
) -> None:
    (place / "entries").mkdir()
    (place / "entries" / "a.py").write_text(crowd.honest(1))
    os.utime(place / "entries" / "a.py", (LONG_AGO,) * 2)
    (place / "site").mkdir()
    (place / "site" / "letter.txt").write_text("dear")
    assert "U106" in starter("batch", "entries", "--watch", "--html", "site", expected=2).stderr
    assert stored(place, easy_dataset) == {}


def looked(arrivals: Arrivals, now: float) -> list[str]:
    """The names of what a look finds; they are taken."""
    found = arrivals.look(now)
    arrivals.taken(found)
    return [source.name for source in found]


def at(path: Path, when: float) -> None:
    os.utime(path, (when,) * 2)


def test_an_entry_is_taken_when_it_is_still_between_two_looks(tmp_path: Path) -> None:
    arrivals = Arrivals([tmp_path], None, every=2)
    assert looked(arrivals, 100) == []  # an empty folder is no error
    path = tmp_path / "a.py"
    path.write_text("a")
    at(path, 101)
    assert looked(arrivals, 102) == []
    path.write_text("ab")
    at(path, 103)
    assert looked(arrivals, 104) == []
    assert looked(arrivals, 106) == ["a"]
    assert looked(arrivals, 108) == []
    path.write_text("abc")
    at(path, 109)
    assert looked(arrivals, 110) == []
    assert looked(arrivals, 112) == ["a"]
    path.unlink()
    assert looked(arrivals, 114) == []


def test_what_was_written_before_the_last_look_is_taken_at_once(tmp_path: Path) -> None:
    """It was renamed in, or lay there when the watch began."""
    arrivals = Arrivals([tmp_path], None, every=2)
    for name in ("old.py", "new.py", "future.py"):
        (tmp_path / name).write_text("a")
    for name, when in (("old.py", 90), ("new.py", 99), ("future.py", 10**9)):
        at(tmp_path / name, when)
    assert looked(arrivals, 100) == ["old"]
    assert looked(arrivals, 102) == ["new", "future"]


def test_a_folder_is_whole_when_all_in_it_is(tmp_path: Path) -> None:
    arrivals = Arrivals([tmp_path], None, every=2)
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "plugin.py").write_text("a")
    at(folder / "plugin.py", 1)
    (folder / "weights.safetensors").write_bytes(b"1")
    at(folder / "weights.safetensors", 99)
    assert looked(arrivals, 100) == []
    (folder / "weights.safetensors").write_bytes(b"12")
    at(folder / "weights.safetensors", 101)
    assert looked(arrivals, 102) == []
    assert looked(arrivals, 104) == ["net"]


def test_a_zip_without_its_end_waits_for_fifteen_looks(tmp_path: Path) -> None:
    arrivals = Arrivals([tmp_path], None, every=2)
    data = zipped("a", tmp_path / "a.zip")
    (tmp_path / "a.zip").write_bytes(data[:-30])
    at(tmp_path / "a.zip", 99)
    assert [looked(arrivals, 100 + 2 * number) for number in range(15)] == [[]] * 15
    (tmp_path / "a.zip").write_bytes(data)  # the copy that had stopped goes on
    at(tmp_path / "a.zip", 131)
    assert [looked(arrivals, now) for now in (132, 134)] == [[], ["a"]]
    (tmp_path / "a.zip").write_bytes(data[:-30])
    at(tmp_path / "a.zip", 139)
    assert [looked(arrivals, 140 + 2 * number) for number in range(16)] == [[]] * 15 + [["a"]]


def test_a_changed_line_of_the_index_takes_its_entry_again(tmp_path: Path) -> None:
    index, entry = tmp_path / "index.csv", tmp_path / "a.py"
    entry.write_text("a")
    index.write_text("path,team\nb.py,red\n")
    for path in (entry, index):
        at(path, 1)
    arrivals = Arrivals([tmp_path], index, every=2)
    assert looked(arrivals, 100) == ["a"]
    index.write_text("path,team\nb.py,red\na.py,blue\n")
    at(index, 101)
    assert arrivals.look(102) == []  # it may not be whole
    (again,) = arrivals.look(104)
    assert again.team == "blue"
    arrivals.taken([again])
    index.write_text("path,colour\na.py,blue\n")
    at(index, 1)
    with pytest.raises(UsageError) as caught:
        arrivals.look(106)
    assert caught.value.problems[0].code is Code.BAD_INDEX


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root reads everything")
def test_what_may_not_be_read_is_named_and_waits(tmp_path: Path) -> None:
    arrivals = Arrivals([tmp_path], None, every=2)
    path = tmp_path / "a.py"
    path.write_text("a")
    at(path, 1)
    path.chmod(0)
    assert looked(arrivals, 100) == []
    assert arrivals.unreadable == [str(path)]
    path.chmod(0o600)
    assert looked(arrivals, 102) == ["a"]
    assert arrivals.unreadable == []


def planned(*names: str) -> list[PlannedEntry]:
    sources = [EntrySource(f"team {name}", Path(f"{name}.py"), NOW) for name in names]
    return [PlannedEntry(source, source.name, Action.EVALUATE) for source in sources]


def test_a_queue_tells_positions_and_times_from_what_was_measured() -> None:
    unfinished = planned("a", "b"), planned("c", "d", "e")
    queue = Queue.of(unfinished, durations=[100, 200, 300], jobs=2, evaluated=3, now=NOW)
    assert [entry.position for entry in queue.entries] == [0, 0, 1, 2, 3]
    after = [(entry.expected_at or NOW) - NOW for entry in queue.entries]
    assert after == [timedelta(minutes=n) for n in (4, 4, 7, 7, 11)]
    unknown = Queue.of(unfinished, durations=[], jobs=2, evaluated=0, now=NOW)
    assert [entry.expected_at for entry in unknown.entries] == [None] * 5
    paused = Queue.of(unfinished, durations=[10], jobs=2, evaluated=0, now=NOW, is_running=False)
    assert [entry.expected_at for entry in paused.entries] == [None] * 5


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A store's URL in each of the two databases."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'a.sqlite'}"
        return
    programs = organizing.postgresql_folder()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt install postgresql")
    with organizing.postgresql(programs) as (made, _):
        yield made.format("postgres")


def test_a_store_has_one_holder_at_a_time(url: str) -> None:
    with held(url, "starter batch --watch") as check:
        check()
        with pytest.raises(UsageError) as caught, held(url, "starter batch"):
            pass
        problem = caught.value.problems[0]
        assert problem.code is Code.STORE_HELD
        assert f"held by starter batch --watch, process {os.getpid()} on " in problem.got
        assert "since 20" in problem.got
    with held(url, "starter batch"):
        pass


def test_a_store_in_memory_is_nobody_elses() -> None:
    with held("sqlite://", "a"), held("sqlite://", "b"), held("sqlite:///file:x?mode=memory&uri=true", "c"):
        pass


def test_the_unit_and_the_compose_file_call_the_command_with_options_that_it_has() -> None:
    text = (Path(__file__).parents[2] / "docs" / "watch.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:ini|yaml)\n(.*?)```", text, re.DOTALL)
    calls = [
        " ".join(found.split())
        for block in blocks
        for found in re.findall(r"\bbatch [^[]*?(?=\n\w|\n {4}\w)", block)
    ]
    assert len(calls) == 2
    options = {option for parameter in load("batch").params for option in parameter.opts}
    for call in calls:
        words = {word for word in call.split() if word.startswith("--")}
        assert {"--watch", "--html", "--retry"} <= words <= options
