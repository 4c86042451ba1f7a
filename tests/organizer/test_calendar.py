"""Calendar, limits and phases: which entries are taken, where they are ranked, what is shown when."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import crowd
import pytest
from conftest import CLASSES, Command, drawn_image
from crowd import told

from starter.cli.exits import EXIT_PARTICIPANT, EXIT_USAGE
from starter.contract.competition import CompetitionFile, load_competition
from starter.contract.errors import Code, UsageError
from starter.contract.rules.calendar import placed
from starter.data.dataset import Dataset
from starter.data.writer import Description, Item, Split, write_dataset
from starter.organizer.admission import of_phase, rulings
from starter.organizer.arrivals import Arrivals
from starter.organizer.entries import find
from starter.organizer.store.model import Entry

PAGE = (Path(__file__).parents[2] / "docs" / "calendar.md").read_text(encoding="utf-8")
SEOUL = ZoneInfo("Asia/Seoul")

Rules = Callable[[str], CompetitionFile]


@pytest.fixture
def rules(tmp_path: Path) -> Rules:
    """Read a competition.toml with this text in it."""

    def read(text: str) -> CompetitionFile:
        (tmp_path / "competition.toml").write_text(f'name = "test"\n{text}', encoding="utf-8")
        return load_competition(tmp_path / "competition.toml")

    return read


def faults(rules: Rules, text: str) -> dict[str, tuple[str, str]]:
    """Return what is wrong with a competition.toml, by key: what would be right, what was found."""
    with pytest.raises(UsageError) as caught:
        rules(text)
    assert {problem.code for problem in caught.value.problems} == {Code.BAD_COMPETITION}
    return {
        problem.where.partition("competition.toml: ")[2]: (problem.expected, problem.got)
        for problem in caught.value.problems
    }


def entry(at: str, *, team: str = "red", selected: bool = False, zone: str = "UTC") -> Entry:
    """An entry that is called by its time, as a clock in a zone shows it."""
    moment = placed(datetime.fromisoformat(at), ZoneInfo(zone))
    return Entry(team, at, f"sha256:{team}{at}", moment, selected=selected)


def ruled(competition: CompetitionFile, *entries: Entry) -> dict[str, str]:
    """Return why entries have no place, by their names."""
    return {name: ruling.reason for (_, name, _), ruling in rulings(entries, (), competition).items()}


# The rules


def test_times_are_in_the_competitions_zone(rules: Rules) -> None:
    read = rules(
        '[calendar]\ntimezone = "Asia/Seoul"\nopens = 2026-03-01T09:00:00\n'
        "closes = 2026-03-31T23:59:59+00:00\nreveal = '2026-04-02T12:00:00'\n"
    ).calendar

    assert read.opens == datetime(2026, 3, 1, 0, tzinfo=UTC)
    assert read.closes == datetime(2026, 3, 31, 23, 59, 59, tzinfo=UTC)
    assert read.reveal == datetime(2026, 4, 2, 3, tzinfo=UTC)
    assert read.opens.tzinfo is not None
    assert read.shown(read.opens) == "2026-03-01 09:00:00+09:00"


def test_wrong_times_are_told_by_their_keys(rules: Rules) -> None:
    assert faults(rules, '[calendar]\ntimezone = "Asia/Soul"\ncloses = 2026-03-01T00:00:00') == {
        "calendar.timezone": ("the IANA name of a time zone, such as Asia/Seoul", "'Asia/Soul'")
    }
    assert faults(rules, "[calendar]\nopens = 2026-03-02T00:00:00\ncloses = 2026-03-01T00:00:00") == {
        "calendar.closes": ("a time after `opens`, which is 2026-03-02T00:00:00+00:00", "2026-03-01 00:00:00")
    }
    assert faults(rules, "[calendar]\ncloses = 2026-03-02T00:00:00\nreveal = 2026-03-01T00:00:00") == {
        "calendar.reveal": (
            "a time after `closes`, which is 2026-03-02T00:00:00+00:00",
            "2026-03-01 00:00:00",
        )
    }
    assert faults(rules, "[calendar]\ncloses = 2026-03-31") == {
        "calendar.closes": ("a day and a time of day, such as 2026-03-31T23:59:59", "2026-03-31")
    }
    assert faults(rules, '[calendar]\noutside = "rank"').keys() == {"calendar.outside"}


@pytest.mark.parametrize(
    ("at", "often"), [("2026-03-29T02:30:00", "never"), ("2026-10-25T02:30:00", "twice")]
)
def test_a_time_that_clocks_do_not_show_once_needs_its_offset(rules: Rules, at: str, often: str) -> None:
    zone = '[calendar]\ntimezone = "Europe/Berlin"\n'
    (expected, got) = faults(rules, f"{zone}closes = {at}")["calendar.closes"]

    assert f"a clock in Europe/Berlin shows {at.replace('T', ' ')} {often}" in expected
    assert got == at.replace("T", " ")
    first, second = re.findall(r"\S+[+]\S+", expected)
    assert (first, second) == (f"{at}{'+02:00' if often == 'twice' else '+01:00'}", second)
    assert rules(f"{zone}closes = {second}").calendar.closes == datetime.fromisoformat(second)


PHASES = """
dataset = "data/easy"
[calendar]
timezone = "Asia/Seoul"
reveal = 2026-06-02T12:00:00
[leaderboard]
selected = 1
max_total = 2
[[phases]]
name = "practice"
opens = 2026-03-01T09:00:00
closes = 2026-04-30T23:59:59
[[phases]]
name = "final"
opens = 2026-05-02T09:00:00
closes = 2026-05-31T23:59:59
dataset = "data/final"
baseline = "phases/final"
max_total = 1
"""


def test_a_phase_takes_what_it_leaves_out_from_the_competition(rules: Rules) -> None:
    read = rules(PHASES)
    practice, final = read.in_phase("practice"), read.in_phase("final")

    assert (practice.dataset, practice.baseline) == ("data/easy", "baseline")
    assert (final.dataset, final.baseline) == ("data/final", "phases/final")
    assert (practice.leaderboard.max_total, final.leaderboard.max_total) == (2, 1)
    assert practice.calendar.opens == datetime(2026, 3, 1, tzinfo=UTC)
    assert final.calendar.reveal == practice.calendar.reveal == datetime(2026, 6, 2, 3, tzinfo=UTC)
    assert final.in_phase("practice").dataset == "data/easy"
    with pytest.raises(UsageError) as caught:
        read.in_phase("finale")
    (problem,) = caught.value.problems
    assert (problem.code, problem.expected, problem.got) == (Code.NO_PHASE, "practice, final", "finale")


def test_a_time_is_of_the_last_phase_that_has_opened(rules: Rules) -> None:
    read = rules(PHASES)

    def name(at: str) -> str:
        phase = read.in_phase(at=placed(datetime.fromisoformat(at), SEOUL)).phase
        assert phase is not None
        return phase.name

    assert [name(at) for at in ("2026-01-01", "2026-03-01T09:00", "2026-05-02T08:59:59")] == ["practice"] * 3
    assert [name(at) for at in ("2026-05-02T09:00", "2027-01-01")] == ["final"] * 2


def test_wrong_phases_are_told_by_their_keys(rules: Rules) -> None:
    early = PHASES.replace("closes = 2026-05-31", "closes = 2026-05-01")
    assert faults(rules, early).keys() == {"phases.1.closes"}
    assert faults(rules, PHASES.replace("opens = 2026-05-02T09:00:00\n", "")).keys() == {"phases.1.opens"}
    overlap = faults(rules, PHASES.replace("opens = 2026-05-02", "opens = 2026-04-02"))
    assert overlap["phases"][0] == (
        "phases one after another: final opens at 2026-04-02 09:00:00+09:00, "
        "before practice closes at 2026-04-30 23:59:59+09:00"
    )
    assert faults(rules, PHASES.replace('"final"', '"practice"', 1)).keys() == {"phases"}
    both = faults(rules, PHASES.replace("reveal =", "opens = 2026-01-01T00:00:00\nreveal ="))
    assert both["phases"][0] == "`opens` and `closes` in each phase, and not under [calendar]"
    assert faults(rules, PHASES.replace("Seoul", "Soul")).keys() == {"calendar.timezone"}


@pytest.mark.parametrize("block", re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))
def test_the_pages_rules_can_be_read(rules: Rules, block: str) -> None:
    read = rules(block.replace('name = "Waste, two phases"\n', ""))
    assert read.calendar.timezone == SEOUL
    assert read.phases or read.leaderboard.max_total == 100


# Which entries are taken


def test_early_and_late_entries_have_no_place(rules: Rules) -> None:
    """The first and the last moment are in time."""
    read = rules("[calendar]\nopens = 2026-03-01T09:00:00\ncloses = 2026-03-31T23:59:59")
    times = ("2026-03-01T08:59:59", "2026-03-01T09:00:00", "2026-03-31T23:59:59", "2026-04-01T00:00:00")

    assert ruled(read, *map(entry, times)) == {
        times[0]: "E140 submitted at 2026-03-01 08:59:59+00:00, before the competition opened at "
        "2026-03-01 09:00:00+00:00",
        times[3]: "E140 submitted at 2026-04-01 00:00:00+00:00, after the competition closed at "
        "2026-03-31 23:59:59+00:00",
    }


def test_a_day_begins_at_midnight_in_the_competitions_zone(rules: Rules) -> None:
    """15:00 UTC is midnight in Seoul: two entries before it and two after it are within two a day."""
    times = ["2026-03-01T14:58", "2026-03-01T14:59", "2026-03-01T15:00", "2026-03-01T15:01"]
    seoul = rules('[calendar]\ntimezone = "Asia/Seoul"\n[leaderboard]\nmax_per_day = 2')
    utc = rules("[leaderboard]\nmax_per_day = 2")

    assert ruled(seoul, *map(entry, times)) == {}
    assert ruled(seoul, *map(entry, [*times, "2026-03-02T14:59"])) == {
        "2026-03-02T14:59": "E141 more than 2 entries on 2026-03-02 (Asia/Seoul)"
    }
    assert ruled(utc, *map(entry, times)) == dict.fromkeys(
        times[2:], "E141 more than 2 entries on 2026-03-01 (UTC)"
    )


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)])
def test_a_day_is_as_long_as_clocks_say(rules: Rules, day: str, hours: int) -> None:
    read = rules('[calendar]\ntimezone = "Europe/Berlin"\n[leaderboard]\nmax_per_day = 100')
    midnight = placed(datetime.fromisoformat(day), ZoneInfo("Europe/Berlin")).timestamp()
    moments = [datetime.fromtimestamp(midnight + 3600 * number, UTC) for number in range(-1, 27)]

    assert sum(read.calendar.day(at).isoformat() == day for at in moments) == hours


def test_a_total_is_of_a_team_and_of_a_phase(rules: Rules) -> None:
    read = rules(PHASES)
    kst = [entry(at, zone="Asia/Seoul") for at in ("2026-03-02", "2026-03-03", "2026-03-04", "2026-05-03")]
    blue = entry("2026-03-05", team="blue")

    assert ruled(read, *kst, blue) == {"2026-03-04": "E141 more than 2 entries in phase practice"}
    late = entry("2026-05-01T00:00:00", zone="Asia/Seoul")
    assert "after phase practice closed" in ruled(read, late)[late.name]


def test_what_is_known_counts_and_what_has_no_place_does_not(rules: Rules) -> None:
    read = rules("[calendar]\nopens = 2026-03-01T09:00:00\n[leaderboard]\nmax_total = 2\nmax_per_day = 2")
    early, known, new = (entry(f"2026-03-01T{hour}:00:00") for hour in ("08", "12", "10"))
    later = entry("2026-03-02T10:00:00")

    found = rulings([early, new, later], [known], read)

    assert {name for _, name, _ in found} == {early.name, later.name}
    assert not any(ruling.is_evaluated for ruling in found.values())


def test_a_selected_entry_is_of_the_next_phase_as_well(rules: Rules) -> None:
    read = rules(PHASES)
    own = [entry(at, selected=at != "2026-03-04") for at in ("2026-03-02", "2026-03-03", "2026-03-04")]
    refused = Entry("blue", "late", "sha256:late", own[0].submitted_at, selected=True, refused="E140")
    cheat = Entry("red", "cheat", "sha256:cheat", own[2].submitted_at, selected=True, disqualified="copied")
    final = entry("2026-05-03", selected=True)
    everything = [*own, refused, cheat, final]

    def names(phase: str, at: datetime | None = None) -> dict[str, bool]:
        return {e.name: e.selected for e in of_phase(everything, read.in_phase(phase), at).values()}

    assert names("practice") == {"2026-03-02": True, "2026-03-03": True, "2026-03-04": False} | dict.fromkeys(
        ["late", "cheat"], True
    )
    assert names("final") == {"2026-03-03": False, "2026-05-03": True}
    assert names("final", own[1].submitted_at) == {"2026-03-03": False}


def test_a_time_of_the_index_without_an_offset_is_in_the_competitions_zone(place: Path) -> None:
    write(place, "red/one", "red/two", "red/three")
    index = write_index(place, "red/one.py,2026-03-01T09:00:00", "red/two.py,2026-03-01T09:00:00+00:00")

    found = {source.name: source for source in find([place / "entries"], index, SEOUL)}

    assert found["one"].submitted_at == datetime(2026, 3, 1, 0, tzinfo=UTC)
    assert found["two"].submitted_at == datetime(2026, 3, 1, 9, tzinfo=UTC)
    assert [name for name, source in found.items() if source.is_zone_assumed] == ["one"]
    watched = Arrivals([place / "entries"], index, every=0, zone=SEOUL).look(time.time())
    assert {source.name: source.submitted_at for source in watched} == {
        name: source.submitted_at for name, source in found.items()
    }
    index = write_index(place, "red/one.py,2026-10-25T02:30:00")
    with pytest.raises(UsageError) as caught:
        find([place / "entries"], index, ZoneInfo("Europe/Berlin"))
    (problem,) = caught.value.problems
    assert (problem.code, problem.where) == (Code.BAD_INDEX, f"{index}:2")
    assert "shows 2026-10-25 02:30:00 twice" in problem.got


# The commands


def write(place: Path, *names: str) -> None:
    """Write entries of different contents."""
    for number, name in enumerate(names):
        path = place / "entries" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(crowd.honest(number), encoding="utf-8")


def write_index(place: Path, *rows: str) -> Path:
    index = place / "entries" / "index.csv"
    more = max(row.count(",") for row in rows)
    index.write_text("\n".join(["path,submitted,selected"[: 14 if more == 1 else None], *rows]) + "\n")
    return index


def ranked(starter: Command, *options: str) -> tuple[dict[str, object], dict[str, str]]:
    """Return the board, and why entries are not ranked."""
    board = json.loads(starter("leaderboard", "--json", "-", *options).stdout)
    return board, {row["name"]: row["reason"] for row in board["others"]}


def placed_names(board: dict[str, object]) -> list[str]:
    rows = board["rows"]
    assert isinstance(rows, list)
    return [row["name"] for row in rows if row["place"]]


CALENDAR = """
[calendar]
timezone = "Asia/Seoul"
opens = 2026-03-01T09:00:00
closes = 2026-03-31T23:59:59
reveal = 2026-04-02T12:00:00
{outside}
[leaderboard]
max_total = 2
{surplus}
"""


def add_rules(place: Path, text: str) -> None:
    path = place / "competition.toml"
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def write_five(place: Path) -> None:
    """An early entry, two in time, one too many, and a late one."""
    write(place, "red/early", "red/first", "red/second", "red/third", "red/late")
    write_index(
        place,
        "red/early.py,2026-03-01T08:59:59",
        "red/first.py,2026-03-01T09:00:00",
        "red/second.py,2026-03-02T09:00:00+09:00",
        "red/third.py,2026-03-03T09:00:00",
        "red/late.py,2026-04-01T00:00:00",
    )


@pytest.mark.slow
def test_a_plan_says_who_is_early_late_or_too_many(starter: Command, place: Path) -> None:
    add_rules(place, CALENDAR.format(outside="", surplus=""))
    write_five(place)

    run = starter("batch", "entries", "--index", "entries/index.csv", "--dry-run", expected=EXIT_PARTICIPANT)

    assert run.stdout.splitlines()[:5] == [
        (
            "refused    red/early  E140 submitted at 2026-03-01 08:59:59+09:00, "
            "before the competition opened at 2026-03-01 09:00:00+09:00"
        ),
        "evaluate   red/first",
        "evaluate   red/second",
        "refused    red/third  E141 more than 2 entries in the competition",
        (
            "refused    red/late  E140 submitted at 2026-04-01 00:00:00+09:00, "
            "after the competition closed at 2026-03-31 23:59:59+09:00"
        ),
    ]
    assert "4 times in the index have no offset: taken in Asia/Seoul" in run.stderr


@pytest.mark.slow
def test_early_late_and_surplus_entries_are_evaluated_where_the_rules_say_so(
    starter: Command, place: Path
) -> None:
    add_rules(place, CALENDAR.format(outside='outside = "evaluate"', surplus='surplus = "refuse"'))
    write_five(place)
    index = ("--index", "entries/index.csv")

    assert sorted(told(starter("batch", "entries", *index).stderr)) == ["early", "first", "late", "second"]

    board, others = ranked(starter)
    assert {name: reason[:4] for name, reason in others.items()} == {
        "early": "E140",
        "third": "E141",
        "late": "E140",
    }
    assert len(placed_names(board)) == 1
    assert placed_names(board)[0] in {"first", "second"}
    starter("leaderboard", "--reports", "reports")
    assert {path.name for path in (place / "reports" / "red").iterdir()} == {
        "early",
        "first",
        "late",
        "second",
    }

    rules = place / "competition.toml"
    text = rules.read_text(encoding="utf-8")
    rules.write_text(
        text.replace("03-31T23:59:59", "04-01T00:00:00").replace("max_total = 2", "max_total = 4")
    )
    assert told(starter("batch", "entries", *index).stderr) == ["third"]  # the deadline has been extended
    assert ranked(starter)[1].keys() == {"early"}


@pytest.mark.long
def test_private_figures_are_shown_from_the_reveal_on(starter: Command, place: Path) -> None:
    add_rules(place, CALENDAR.format(outside="", surplus=""))
    write_five(place)
    starter("batch", "entries", "--index", "entries/index.csv")

    before = starter("leaderboard", "--at", "2026-04-02T11:59:59", "--json", "before.json", "--html", "site")
    text = (place / "before.json").read_text() + "".join(
        p.read_text() for p in (place / "site").rglob("*.html")
    )
    assert json.loads((place / "before.json").read_text())["usage"] == "Public"
    assert "private figures from 2026-04-02 03:00:00 UTC" in before.stdout
    assert "Private" not in text
    assert "follows at 2026-04-02 03:00 UTC" in text
    after, _ = ranked(starter, "--at", "2026-04-02T12:00:00")
    assert after["usage"] == "Private"
    assert ranked(starter, "--at", "2026-04-02T12:00:00", "--no-reveal")[0]["usage"] == "Public"
    early = starter("leaderboard", "--at", "2026-03-20", "--reveal", "--json", "-")
    assert json.loads(early.stdout)["usage"] == "Private"
    assert "not to be published before 2026-04-02 12:00:00+09:00" in early.stderr
    assert "place 1 of 1" in starter("leaderboard", "--team", "red", "--at", "2026-03-20").stdout
    told_late = starter("leaderboard", "--team", "red", "--at", "2026-04-03").stdout
    assert told_late.rstrip().endswith("on the private images")


@pytest.mark.long
def test_a_board_as_of_a_time_has_no_later_entries(starter: Command, place: Path) -> None:
    add_rules(place, CALENDAR.format(outside="", surplus=""))
    write_five(place)
    starter("batch", "entries", "--index", "entries/index.csv")

    board, others = ranked(starter, "--at", "2026-03-01T12:00:00")

    assert placed_names(board) == ["first"]
    assert (board["num_entries"], board["made_at"]) == (2, "2026-03-01T03:00:00Z")
    assert others.keys() == {"early"}
    starter("leaderboard", "--team", "red", "--at", "2026-03-01T00:00:00", expected=EXIT_USAGE)
    wrong = starter("leaderboard", "--at", "noon", expected=EXIT_USAGE)
    assert "--at" in wrong.stderr


@pytest.fixture
def final_dataset(tmp_path: Path) -> Dataset:
    """Other images of the same classes."""
    splits: tuple[Split, ...] = ("train", "Public", "Private", "train")
    items = (Item(f"{i:03d}.jpg", drawn_image(i % 3, 500 + i), i % 3, splits[i % 4]) for i in range(48))
    folder = tmp_path / "final data"
    return write_dataset(folder, items, Description(name="final", classes=CLASSES))


@pytest.fixture
def phased(place: Path, final_dataset: Dataset) -> Path:
    """A competition in two phases, with five entries."""
    (place / "baseline" / "plugin.py").write_text(crowd.honest(0), encoding="utf-8")
    shutil.copytree(place / "baseline", place / "phases" / "final")
    start = PHASES.index("[calendar]")
    add_rules(place, PHASES[start:].replace('"data/final"', json.dumps(str(final_dataset.root))))
    write(place, "red/old", "red/chosen", "red/new", "blue/old", "blue/late")
    shutil.copy(place / "entries" / "red" / "old.py", place / "entries" / "blue" / "new.py")
    write_index(
        place,
        "red/old.py,2026-03-02T00:00:00,",
        "red/chosen.py,2026-03-03T00:00:00,yes",
        "red/new.py,2026-05-03T00:00:00,",
        "blue/old.py,2026-03-02T00:00:00,",
        "blue/new.py,2026-05-04T00:00:00,",
        "blue/late.py,2026-05-01T12:00:00,yes",
    )
    return place


INDEX = ("--index", "entries/index.csv")


@pytest.mark.long
def test_a_phase_needs_a_reference_of_its_own(starter: Command, phased: Path) -> None:
    run = starter("batch", "entries", *INDEX, "--phase", "final", expected=EXIT_USAGE)
    assert "U302" in run.stderr
    assert str(phased / "phases" / "final" / "reference.json") in run.stderr
    (phased / "phases" / "final" / "reference.json").unlink()
    assert "U301" in starter("leaderboard", "--phase", "final", expected=EXIT_USAGE).stderr
    wrong = starter("leaderboard", "--phase", "finale", expected=EXIT_USAGE)
    assert "U140" in wrong.stderr
    assert "practice, final" in wrong.stderr


@pytest.mark.long
@pytest.mark.usefixtures("phased")
def test_each_phase_has_its_entries_its_data_and_its_board(starter: Command) -> None:
    starter("baseline", "measure", "--phase", "final", "--isolation", "none")

    practice = starter("batch", "entries", *INDEX, "--phase", "practice")

    assert sorted(told(practice.stderr)) == ["chosen", "old", "old"]
    assert "phase practice: data set " in practice.stderr
    assert "2 entries are of another phase: repeat with --phase, one of final" in practice.stderr
    final = starter("batch", "entries", *INDEX, "--phase", "final")
    assert sorted(told(final.stderr)) == ["chosen", "new", "new"]

    board, others = ranked(starter, "--phase", "practice", "--no-reveal")
    assert board["phase"] == "practice"
    assert {(row["team"], row["name"]) for row in rows_of(board)} <= {
        ("red", "old"),
        ("red", "chosen"),
        ("blue", "old"),
    }
    assert others.keys() == {"late"}
    assert others["late"].startswith(
        "E140 submitted at 2026-05-01 12:00:00+09:00, after phase practice closed"
    )
    board, others = ranked(starter, "--phase", "final", "--no-reveal")
    assert board["dataset"] == "final 1"
    # blue/new has the content of red/old, which was not selected and has no place here
    assert sorted((row["team"], row["name"]) for row in rows_of(board)) == [
        ("blue", "new"),
        best_of_red(board),
    ]
    assert (board["num_entries"], others) == (3, {})
    assert "place" in starter("leaderboard", "--phase", "final", "--team", "blue").stdout

    starter("leaderboard", "--phase", "final", "--reports", "reports")
    assert starter("verify", "reports", "--phase", "final").stdout.count("ok ") == 3


def rows_of(board: dict[str, object]) -> list[dict[str, str]]:
    rows = board["rows"]
    assert isinstance(rows, list)
    return [row for row in rows if row["place"]]


def best_of_red(board: dict[str, object]) -> tuple[str, str]:
    (row,) = [row for row in rows_of(board) if row["team"] == "red"]
    assert row["name"] in {"chosen", "new"}
    return row["team"], row["name"]


@pytest.mark.long
def test_a_batch_without_a_phase_is_of_the_last_that_has_opened_and_names_what_is_missing(
    starter: Command, phased: Path
) -> None:
    for path in (phased / "competition.toml", phased / "entries" / "index.csv"):
        path.write_text(path.read_text(encoding="utf-8").replace("2026-", "2020-"), encoding="utf-8")
    starter("baseline", "measure", "--phase", "final", "--isolation", "none")
    starter("batch", "entries", *INDEX, "--phase", "practice")
    shutil.move(phased / "entries" / "red" / "new.py", phased / "late.py")

    run = starter("batch", "late.py")

    assert "phase final: data set " in run.stderr
    assert "red/chosen counts in phase final and has no result in it: name its path as well" in run.stderr
    assert "1 entries: 1 refused" in run.stdout
    board, others = ranked(starter)
    assert (board["phase"], board["usage"]) == ("final", "Private")
    assert others["late"].startswith("E140")
    assert others["chosen"] == "evaluated under another data, baseline"


def test_a_word_is_no_time_of_a_board(competition: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "starter", "leaderboard", "--at", "tomorrow"],
        cwd=competition, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 2
    assert "must be a time such as 2026-03-31T18:00:00" in run.stderr
