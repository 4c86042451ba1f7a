"""The batch: every entry is accounted for, a kill loses nothing, nothing is done twice."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import crowd
import pytest
from conftest import Command
from crowd import stored, told

from starter.cli.exits import EXIT_PARTICIPANT
from starter.contract.competition import load_competition
from starter.contract.errors import Code, Status, UsageError
from starter.contract.results import EvaluationResult, Reference
from starter.contract.submissions import discover_one
from starter.data.dataset import Dataset
from starter.evaluation.records import Context
from starter.organizer.store.store import Store
from starter.submission.layout import WANTED

KILLS = int(os.environ.get("STARTER_BATCH_KILLS", "2"))
CROWD = int(os.environ.get("STARTER_BATCH_CROWD", "20"))
"""How often a batch of how many entries is killed; a release kills one of 200 twenty times."""


def unexpected(found: Mapping[str, tuple[Status, float]], kinds: Mapping[str, str]) -> dict[str, Status]:
    """Return what ended otherwise than its kind does; a busy machine may fill memory too late."""
    late = {"memory": {Status.TIMEOUT}}
    return {
        name: status
        for name, (status, _) in found.items()
        if status not in crowd.EXPECTED[kinds[name]] | late.get(kinds[name], set())
    }


@pytest.mark.slow
def test_every_entry_of_a_crowd_is_accounted_for(
    starter: Command, place: Path, easy_dataset: Dataset
) -> None:
    kinds = crowd.write_crowd(place / "entries", 60, every=5)  # each poison once

    run = starter("batch", "entries", "--jobs", 2, "--isolation", "auto", "--json", "results.json")

    found = stored(place, easy_dataset)
    assert found.keys() == kinds.keys()
    assert unexpected(found, kinds) == {}
    assert sorted(told(run.stderr)) == sorted(kinds)
    assert "60 entries: 60 evaluated now" in run.stdout
    written = json.loads((place / "results.json").read_text())
    assert len(written["results"]) == len(written["entries"]) == 60
    assert not re.search("Private|private", json.dumps(written["results"]))
    again = starter("batch", "entries", "--jobs", 2)
    assert told(again.stderr) == []
    assert "60 entries: 60 done" in again.stdout
    assert stored(place, easy_dataset) == found


@pytest.mark.long
def test_an_entry_is_timed_where_the_competition_scores_time(starter: Command, place: Path) -> None:
    """Three takings of two batch sizes, with every block; a machine that cannot tell has no verdict."""
    (place / "entries").mkdir()
    for folder, number in (("baseline/plugin.py", 0), ("entries/wider.py", 4)):
        (place / folder).write_text(crowd.honest(number))
    rules = place / "competition.toml"
    text = rules.read_text()
    rules.write_text(f"{text}\n[score]\ncost = {{speed = 1.0}}\n[budget]\nlatency_ratio = 100\n")
    call = [sys.executable, "-m", "starter", "batch", "entries", "--json", "results.json"]
    run = subprocess.run(call, cwd=place, capture_output=True, text=True, check=False)

    (record,) = json.loads((place / "results.json").read_text())["results"]
    result = EvaluationResult.model_validate(record["result"])
    assert result.speed is not None
    takings = [[r.taking for r in found.rounds] for found in result.speed.batches]
    assert all(set(each) == {0, 1, 2} for each in takings)
    if result.speed.ratio is None:
        assert (run.returncode, result.status, result.score) == (3, Status.HOST_ERROR, None)
        assert result.error is not None
        assert result.error.code is Code.CANNOT_TELL
    else:
        assert (run.returncode, result.status) == (0, Status.OK)
        assert result.macs_ratio == result.speed.ratio
        starter("leaderboard", "--reports", "reports")
        checks = json.loads(starter("verify", "reports", "--json", "-").stdout)["checks"]
        assert result.speed.ratio in [c["found"] for c in checks if c["name"] == "speed"]
    assert "no score: the organizer measures the speed" in starter("score", "entries").stdout


@pytest.mark.slow
def test_a_batch_that_is_killed_goes_on_and_does_nothing_twice(
    starter: Command, place: Path, easy_dataset: Dataset
) -> None:
    kinds = crowd.write_crowd(place / "entries", CROWD)
    chance = random.Random(1)
    said: Counter[str] = Counter()
    before: dict[str, tuple[Status, float]] = {}
    command = [sys.executable, "-m", "starter", "batch", "entries", "--jobs", "2", "--isolation", "auto"]
    for _ in range(KILLS):
        process = subprocess.Popen(
            command, cwd=place, stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL
        )
        assert process.stderr is not None
        first = process.stderr.readline()  # it has begun
        time.sleep(chance.uniform(0, 3))
        os.kill(process.pid, signal.SIGKILL)
        said.update(told(first + process.stderr.read()))
        process.wait()
        process.stderr.close()
        now = stored(place, easy_dataset)
        assert before.items() <= now.items()
        assert said.keys() <= now.keys()
        before = now
    last = starter("batch", "entries", "--jobs", 2, "--isolation", "auto")
    said.update(told(last.stderr))

    found = stored(place, easy_dataset)
    assert before.items() <= found.items()  # the same results, of the same time
    assert found.keys() == kinds.keys()
    assert said.most_common(1)[0][1] == 1
    assert unexpected(found, kinds) == {}


def write_entries(place: Path, *names: str) -> None:
    (place / "entries").mkdir(exist_ok=True)
    for number, name in enumerate(names):
        path = place / "entries" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(crowd.honest(number))
        os.utime(path, (1_700_020_000 + number * 3600,) * 2)


@pytest.mark.slow
def test_a_plan_says_what_would_be_done_and_does_nothing(
    starter: Command, place: Path, easy_dataset: Dataset
) -> None:
    write_entries(place, "a", "b", "c")
    shutil.copy(place / "entries" / "a.py", place / "entries" / "copy.py")

    run = starter("batch", "entries", "--dry-run", "--limit", 2)

    assert run.stdout.split("\n")[:4] == [
        "evaluate   a/a",
        "evaluate   b/b",
        "later      c/c",
        "duplicate  copy/copy",
    ]
    assert stored(place, easy_dataset) == {}


def write_zip(path: Path, members: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)


@pytest.fixture
def strangers(place: Path) -> Path:
    """Zips as strangers make them: one clean, one with more in it than its plugin, and some that are none."""
    folder = place / "entries"
    members = {
        "a/net": {"plugin.py": crowd.honest(1)},
        "b/more": {"x/plugin.py": crowd.honest(2), "README.md": "", ".git/HEAD": "", ".git/config": ""},
        "c/two": {"one.py": crowd.honest(3), "two.py": crowd.honest(4)},
        "d/out": {"plugin.py": crowd.honest(5), "../plugin.py": ""},
    }
    for name, content in members.items():
        write_zip(folder / f"{name}.zip", content)
    (folder / "e").mkdir()
    (folder / "e" / "none.zip").write_text("no zip")
    for path in folder.rglob("*.zip"):
        os.utime(path, (1_700_020_000,) * 2)
    return folder


def test_a_plan_opens_zips_and_says_what_is_refused_and_left_out(
    starter: Command, strangers: Path, place: Path, easy_dataset: Dataset
) -> None:
    run = starter("batch", "entries", "--dry-run", "--json", "plan.json", expected=EXIT_PARTICIPANT)

    assert run.stdout.splitlines() == [
        "evaluate   a/net",
        "evaluate   b/more  ignored: .git/ (2 files), README.md",
        "invalid    c/two  E113 no plugin.py, but 2 Python files: one.py, two.py",
        "invalid    d/out  E112 '../plugin.py': a path that leads outside the folder",
        "invalid    e/none  E111 not a zip file, or truncated",
        "",
        "5 entries: 2 evaluate, 3 invalid",
    ]
    assert f"{strangers / 'c' / 'two.zip'}: the zip does not hold one submission" in run.stderr
    assert f"wanted {WANTED}" in run.stderr
    assert "where  out.zip: '../plugin.py'" in run.stderr
    said = {entry["name"]: entry for entry in json.loads((place / "plan.json").read_text())["entries"]}
    assert said["more"]["left_out"] == [".git/ (2 files)", "README.md"]
    assert [problem["code"] for problem in said["two"]["problems"]] == ["E113"]
    assert said["net"].keys() & {"left_out", "problems"} == set()
    assert stored(place, easy_dataset) == {}


@pytest.mark.long
@pytest.mark.usefixtures("strangers")
def test_what_is_left_out_of_a_zip_is_told_to_the_organizer_and_to_its_team(
    starter: Command, place: Path
) -> None:
    run = starter("batch", "entries")
    starter("leaderboard", "--reports", "reports")

    assert "b/more  ignored: .git/ (2 files), README.md" in run.stderr.splitlines()
    assert "5 results: 2 ok, 3 invalid" in run.stdout
    texts = {
        name: json.loads((place / "reports" / name / "result.json").read_text())
        for name in ("a/net", "b/more")
    }
    assert texts["b/more"]["left_out"] == [".git/ (2 files)", "README.md"]
    assert "left_out" not in texts["a/net"]
    assert starter("verify", "reports").stdout.count("ok ") == 5

    again = starter("batch", "entries", "--dry-run", expected=EXIT_PARTICIPANT)
    assert again.stdout.splitlines()[2] == (
        "done       c/two  E113 no plugin.py, but 2 Python files: one.py, two.py"
    )


@pytest.mark.long
def test_what_changes_makes_results_stale_and_new_ones_are_made(starter: Command, place: Path) -> None:
    write_entries(place, "a", "b")
    starter("batch", "entries")
    (place / "entries" / "a.py").write_text(crowd.honest(77))

    assert told(starter("batch", "entries").stderr) == ["a"]

    rules = place / "competition.toml"
    old = shutil.copy(rules, place / "old.toml")
    rules.write_text(rules.read_text().replace("wall_seconds = 6", "wall_seconds = 7"))
    board = json.loads(starter("leaderboard", "--json", "-").stdout)
    assert [row["name"] for row in board["rows"]] == ["good"]
    assert {(row["name"], tuple(row["stale"])) for row in board["others"]} == {
        ("a", ("rules",)),
        ("b", ("rules",)),
    }
    assert sorted(told(starter("batch", "entries").stderr)) == ["a", "b"]
    board = json.loads(starter("leaderboard", "--json", "-").stdout)
    assert {row["name"] for row in board["rows"] if row["place"]} == {"a", "b"}
    assert board["others"] == []

    assert told(starter("batch", "entries", "--competition", old).stderr) == []  # kept under the old rules
    board = json.loads(starter("leaderboard", "--competition", old, "--json", "-").stdout)
    assert {row["name"] for row in board["rows"] if row["place"]} == {"a", "b"}


@pytest.mark.long
def test_only_what_failed_is_tried_again(starter: Command, place: Path) -> None:
    write_entries(place, "good", "bad")
    (place / "entries" / "bad.py").write_text("import nothing")
    starter("batch", "entries")

    assert told(starter("batch", "entries", "--retry", "host").stderr) == []
    assert told(starter("batch", "entries", "--retry", "failed").stderr) == ["bad"]


@pytest.mark.long
def test_teams_times_and_choices_come_from_folders_or_from_an_index(starter: Command, place: Path) -> None:
    write_entries(place, "red/one", "red/two", "blue/one", "alone")
    (place / "entries" / "index.csv").write_text(
        "path,team,submitted,selected\n"
        "alone.py,purple,2026-01-02T03:04:05,\n"
        "red/two.py,,2026-01-02T03:04:05+09:00,yes\n"
    )
    run = starter("batch", "entries", "--index", "entries/index.csv", "--json", "-")
    entries = {(e["team"], e["name"]) for e in json.loads(run.stdout)["entries"]}
    assert entries == {("red", "one"), ("red", "two"), ("blue", "one"), ("purple", "alone")}
    board = json.loads(starter("leaderboard", "--json", "-").stdout)
    at = {row["team"]: row["submitted_at"] for row in board["rows"]}
    assert at["purple"] == "2026-01-02T03:04:05Z"


@pytest.mark.parametrize(
    ("text", "line", "got"),
    [
        ("team\nred\n", 2, "path: Field required"),
        ("path,colour\na.py,red\n", 2, "colour: Extra inputs"),
        ("path\nnone.py\n", 2, "no entry none.py"),
        ("path,submitted\na.py,yesterday\n", 2, "submitted: "),
        ("path,selected\na.py,perhaps\n", 2, "selected: "),
    ],
)
def test_a_wrong_index_is_told_by_its_line(place: Path, text: str, line: int, got: str) -> None:
    from starter.organizer.entries import find

    write_entries(place, "a")
    index = place / "entries" / "index.csv"
    index.write_text(text)
    with pytest.raises(UsageError) as caught:
        find([place / "entries"], index)
    assert caught.value.problems[0].code is Code.BAD_INDEX
    assert caught.value.problems[0].where == f"{index}:{line}"
    assert got in caught.value.problems[0].got


@pytest.mark.long
def test_too_many_of_one_day_and_a_bad_name_are_refused_and_the_rest_goes_on(
    starter: Command, place: Path
) -> None:
    rules = place / "competition.toml"
    rules.write_text(rules.read_text() + "\n[leaderboard]\nmax_per_day = 2\n")
    write_entries(place, "red/one", "red/two", "red/three", "blue/a bad name!")

    run = starter("batch", "entries")

    assert "4 entries: 3 evaluated now, 1 refused" in run.stdout
    assert "3 results: 2 ok, 1 invalid" in run.stdout
    board = json.loads(starter("leaderboard", "--json", "-").stdout)
    reasons = {(row["team"], row["name"]): row["reason"] for row in board["others"]}
    assert reasons["red", "three"] == "E141 more than 2 entries on 2023-11-15 (UTC)"
    assert reasons["blue", "a bad name!"].startswith("E108")


@pytest.mark.long
def test_an_entry_that_changes_after_the_plan_is_stored_under_what_was_run(
    place: Path, easy_dataset: Dataset, reference: Reference
) -> None:
    from starter.contract.isolation import Isolation, Level
    from starter.evaluation.evaluate import Evaluator
    from starter.organizer.batch import Batch, LocalJobs
    from starter.organizer.entries import find
    from starter.organizer.plan import plan
    from starter.submission.content import submission_digest

    write_entries(place, "a")
    rules = load_competition(place / "competition.toml")
    holds_under = Context.of(rules, easy_dataset.fingerprint(), reference)
    with Store(f"sqlite:///{place / 'x.sqlite'}") as store:
        context = store.context_id(holds_under)
        planned = plan(find([place / "entries"]), rules, store, context)
        (place / "entries" / "a.py").write_text(crowd.honest(5))
        jobs = LocalJobs(
            lambda: Evaluator(rules, easy_dataset, reference=reference, isolation=Isolation(Level.NONE)), 1
        )
        Batch(planned, store, (context, holds_under), rules).run(jobs)
        now = submission_digest(discover_one(place / "entries" / "a.py"))
        assert now != planned[0].submission
        assert store.statuses(context) == {now: Status.OK}


@pytest.mark.long
def test_a_stopped_store_ends_the_batch_with_our_fault_and_it_goes_on_later(
    starter: Command, place: Path, easy_dataset: Dataset
) -> None:
    write_entries(place, "a", "b")
    starter("batch", "entries/a.py")
    store = place / ".starter" / "results.sqlite"
    store.chmod(0o444)
    run = starter("batch", "entries", "--store", f"sqlite:///file:{store}?mode=ro&uri=true", expected=3)
    assert "H203" in run.stderr
    store.chmod(0o644)
    assert told(starter("batch", "entries").stderr) == ["b"]
    assert len(stored(place, easy_dataset)) == 2


@pytest.mark.long
def test_a_result_is_proved_again_from_its_answers_and_its_program(
    starter: Command, place: Path, easy_dataset: Dataset
) -> None:
    """And a changed figure, answer or program is found, whichever it is."""
    write_entries(place, "red/a", "bad")
    (place / "entries" / "bad.py").write_text("import nothing")
    starter("batch", "entries")
    starter("leaderboard", "--reports", "reports")
    report = place / "reports" / "red" / "a"
    assert {path.name for path in report.iterdir()} == {"result.json", "predictions.csv", "program.zip"}
    text = (report / "result.json").read_text()
    assert "Private" not in text
    assert str(place) not in text
    assert len((report / "predictions.csv").read_text().splitlines()) == 1 + len(easy_dataset.solution())

    run = starter("verify", "reports", "--json", "checks.json")
    assert run.stdout.count("ok ") == 2
    checks = {c["name"] for c in json.loads((place / "checks.json").read_text())["checks"]}
    assert {
        "Public score",
        "Public score_interval[0]",
        "macs",
        "params",
        "predictions",
        "program",
        "data",
    } <= checks

    first = (report / "predictions.csv").read_text().splitlines()[1]
    label = first.split(",")[1]
    other = next(name for name in easy_dataset.info.classes if name != label)
    score = json.loads(text)["scores"]["Public"]["score"]
    interval = re.search(r'"score_interval": \[\s*[^,]*', text)
    assert interval is not None
    changes = {
        "score": ("result.json", f'"score": {score}', '"score": 0.125'),
        "Public score_interval[0]": ("result.json", interval[0], '"score_interval": [0.125'),
        "macs": ("result.json", '"macs": 201', '"macs": 200'),
        "predictions": ("predictions.csv", first, first.replace(label, other)),
    }
    for number, (name, old, new) in enumerate(changes.values()):
        copy = shutil.copytree(report, place / "changed" / str(number))
        original = (copy / name).read_text()
        assert old in original
        (copy / name).write_text(original.replace(old, new, 1))
    copy = shutil.copytree(report, place / "changed" / "program")
    (copy / "program.zip").write_bytes((copy / "program.zip").read_bytes() + b"x")
    found = starter("verify", "changed", expected=2).stderr
    assert "U405" in found
    for number, check in enumerate(changes):
        assert f"changed/{number}/result.json: {check}:" in found
    assert "changed/program/result.json: program:" in found

    rules = place / "competition.toml"
    rules.write_text(rules.read_text().replace("wall_seconds = 6", "wall_seconds = 9"))
    assert ": rules" in starter("verify", report, expected=2).stderr
    (report / "predictions.csv").unlink()
    assert "U404" in starter("verify", report, expected=2).stderr
