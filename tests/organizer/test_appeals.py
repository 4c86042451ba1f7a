"""Appeals by the command line: judged again, compared, disqualified, renamed, and all of it in the trail."""

import json
import re
import shlex
import sqlite3
from pathlib import Path

import crowd
import pytest
from conftest import ROOT, Command

from starter.contract.competition import load_competition
from starter.organizer.store.store import Store

DOCUMENT = (ROOT / "docs" / "appeals.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL) for line in block.splitlines()]


@pytest.fixture
def board(starter: Command, place: Path) -> Path:
    """A competition's folder with two entries of team red and one of blue, evaluated."""
    for number, name in enumerate(("red/first", "red/second", "blue/net")):
        path = place / "entries" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(crowd.honest(number), encoding="utf-8")
    starter("batch", "entries", "--isolation", "none")
    return place


def database(place: Path) -> sqlite3.Connection:
    return sqlite3.connect(place / ".starter" / "results.sqlite")


def shown(starter: Command) -> tuple[list[str], dict[str, str]]:
    """The ranked entries in order, and the others with their reasons."""
    found = json.loads(starter("leaderboard", "--json", "-").stdout)
    ranked = [f"{row['team']}/{row['name']}" for row in found["rows"] if not row["is_baseline"]]
    return ranked, {f"{row['team']}/{row['name']}": row["reason"] for row in found["others"]}


def test_an_entry_is_judged_again_and_its_old_result_is_kept(starter: Command, board: Path) -> None:
    run = starter("rejudge", "red/first", "--reason", "red has appealed", "--isolation", "none")
    assert re.fullmatch(r"first  score (\S+) -> score \1\n", run.stdout)
    assert "trail: row 8, head sha256:" in run.stderr

    lines = starter("entry", "history", "red/first").stdout.splitlines()
    assert [line.split()[4] for line in lines] == ["entry", "result", "rejudge"]
    assert "red has appealed (" in lines[-1]

    run = starter("diff", "red/first~1", "red/first")
    subjects = [line.split()[0] for line in run.stdout.splitlines() if not line.startswith(" ")]
    assert subjects == ["data", "rules", "code", "environment", "figures"]
    assert "code         the same" in run.stdout
    assert "figures      the same" in run.stdout
    assert starter("verify").stdout.startswith("ok ")
    starter("diff", "red/first~2", "red/first", expected=2)
    starter("diff", "red/none", "red/first", expected=2)
    starter("diff", "none.json", "red/first", expected=2)
    with Store(f"sqlite:///{board / '.starter' / 'results.sqlite'}") as store:
        first = next(e for e in store.entries() if e.name == "first")
        assert len(store.history(first.submission)) == 2


def test_a_changed_file_is_no_appeal(starter: Command, board: Path) -> None:
    path = board / "entries" / "red" / "first.py"
    path.write_text(crowd.honest(9), encoding="utf-8")
    assert "U471" in starter("rejudge", "red/first", "--reason", "why not", expected=2).stderr
    path.unlink()
    assert "U471" in starter("rejudge", "red/first", "--reason", "why not", expected=2).stderr
    assert "U470" in starter("rejudge", "red/none", "--reason", "why not", expected=2).stderr
    starter("rejudge", "red/second", expected=2)  # without a reason
    starter("rejudge", "red/second", "--reason", " ", expected=2)
    assert "1 of" not in starter("entry", "history", "red/second").stdout


def test_what_differs_between_two_entries_is_told_by_its_cause(starter: Command, board: Path) -> None:
    rules = board / "competition.toml"
    rules.write_text(rules.read_text() + "\n[score]\nreward = 3.0\n")
    starter("batch", "entries", "--isolation", "none")
    starter("leaderboard", "--reports", "reports")

    found = json.loads(starter("diff", "blue/net~1", "blue/net", "--json", "-").stdout)["differences"]
    names = {one["name"]: one["subject"] for one in found}
    assert names["context.rules"] == "rules"
    assert "submission" not in names
    assert {subject for name, subject in names.items() if name.startswith("context.")} == {"rules"}

    reports = [f"reports/{name}/result.json" for name in ("red/first", "blue/net")]
    found = json.loads(starter("diff", *reports, "--json", "-").stdout)["differences"]
    names = {one["name"]: one["subject"] for one in found}
    assert (names["submission"], names["program"], names["result.name"]) == ("code",) * 3
    assert names["result.macs"] == "figures"
    assert not {"context.rules", "result.path", "evaluated_at"} & names.keys()
    run = starter("diff", *reports)
    assert re.search(r"\n  result\.macs  \d+ -> \d+  \(\+\d+\)\n", run.stdout)


def test_a_disqualified_entry_is_shown_with_the_reason(starter: Command, board: Path) -> None:
    before, _ = shown(starter)
    assert {name.split("/")[0] for name in before} == {"red", "blue"}
    (best,) = [name for name in before if name.startswith("red/")]

    run = starter("entry", "disqualify", best, "--reason", "copied <b>from</b> blue")
    assert run.stdout == f"{best} is disqualified: copied <b>from</b> blue\n"

    ranked, others = shown(starter)
    assert best not in ranked
    assert {name.split("/")[0] for name in ranked} == {"red", "blue"}  # with its next best
    assert others[best] == "disqualified: copied <b>from</b> blue"
    starter("batch", "entries", "--isolation", "none")  # what finds it again does not bring it back
    assert shown(starter) == (ranked, others)
    starter("leaderboard", "--html", "site", "--csv", "board.csv")
    assert "disqualified: copied &lt;b&gt;from&lt;/b&gt; blue" in (board / "site" / "index.html").read_text()
    assert "disqualified: copied" in (board / "board.csv").read_text()

    starter("entry", "reinstate", best, "--reason", "it was not")
    assert shown(starter)[0] == before
    assert "U470" in starter("entry", "reinstate", best, "--reason", "again", expected=2).stderr
    assert starter("verify").stdout.startswith("ok ")


def test_a_renamed_team_keeps_its_place_and_its_folder(starter: Command, board: Path) -> None:
    before, _ = shown(starter)
    starter("team", "rename", "red", "crimson", "--reason", "a trademark")
    assert shown(starter)[0] == [name.replace("red/", "crimson/") for name in before]

    (board / "entries" / "red" / "third.py").write_text(crowd.honest(7), encoding="utf-8")
    run = starter("batch", "entries", "--isolation", "none")

    assert "4 entries: 1 evaluated now, 3 done" in run.stdout
    with Store(f"sqlite:///{board / '.starter' / 'results.sqlite'}") as store:
        assert store.entry_counts() == {"crimson": 3, "blue": 1}
    assert starter("leaderboard", "--team", "red").stdout.startswith("crimson: place ")
    assert "was red/first" in starter("entry", "history", "red/first").stdout
    assert "U473" in starter("team", "rename", "crimson", "blue", "--reason", "x", expected=2).stderr
    starter("team", "merge", "crimson", "blue", "--reason", "one person")
    assert {name.split("/")[0] for name in shown(starter)[0]} == {"blue"}
    run = starter("batch", "entries", "--isolation", "none")
    assert "4 entries: 4 done" in run.stdout
    assert starter("verify").stdout.startswith("ok ")


def test_a_merge_refuses_no_entry_that_was_accepted(starter: Command, board: Path) -> None:
    """Together the two teams have handed in more than one may on a day."""
    rules = board / "competition.toml"
    rules.write_text(rules.read_text() + "\n[leaderboard]\nmax_per_day = 2\n")
    starter("team", "merge", "red", "blue", "--reason", "one person")

    starter("batch", "entries", "--isolation", "none")

    assert shown(starter)[1] == {}


def test_verify_finds_what_was_changed_in_the_store(starter: Command, board: Path) -> None:
    run = starter("verify", "--json", "trail.json")
    rows, head = re.search(
        r"ok .* (\d+) rows of the trail, 3 entries, 3 results\nhead +(\S+)", run.stdout
    ).groups()
    found = json.loads((board / "trail.json").read_text())["trail"]
    assert (found["rows"], f"sha256:{found['head']}", found["breaks"]) == (int(rows), head, [])
    starter("entry", "disqualify", "red/first", "--reason", "copied")
    assert f"the published head is row {rows}" in starter("verify", "--head", head).stdout
    assert "U472" in starter("verify", "--head", "sha256:0", expected=2).stderr

    with database(board) as connection:
        connection.execute("UPDATE entries SET disqualified = ''")
    connection.close()

    run = starter("verify", expected=2)
    assert run.stdout.startswith("differs ")
    assert "entry red/first" in run.stderr
    assert "it is not as row 8 of the trail has it" in " ".join(run.stderr.split())


@pytest.mark.slow
def test_every_example_of_the_document_runs(starter: Command, board: Path) -> None:
    (board / "entries" / "azure").mkdir()
    (board / "entries" / "azure" / "leaf.py").write_text(crowd.honest(8), encoding="utf-8")
    for store in ((), ("--store", "sqlite:///evening.sqlite")):
        starter("batch", "entries", "--isolation", "none", *store)
    starter("leaderboard", "--reports", "reports")
    (board / "board").mkdir()
    (board / "board" / "result.json").write_bytes((board / "reports/blue/net/result.json").read_bytes())
    assert load_competition(board / "competition.toml").name == "A crowd"

    for line in LINES:
        words = shlex.split(line)
        starter(*words[1:], *(("--isolation", "none") if words[1] == "rejudge" else ()))

    assert {name.split("/")[0] for name in shown(starter)[0]} == {"crimson", "blue"}
