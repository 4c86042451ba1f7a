"""Appeals by the command line: judged again, compared, disqualified, renamed, and all of it in the trail."""

import json
import re
import shlex
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import crowd
import pytest
from conftest import ROOT, Command

from starter.contract.competition import load_competition
from starter.contract.errors import Code, Status, UsageError
from starter.contract.isolation import Isolation, Level
from starter.contract.results import Reference
from starter.data.dataset import Dataset, open_dataset
from starter.evaluation.evaluate import Evaluator, read_reference
from starter.evaluation.records import Context, EvaluationRecord, Evidence
from starter.organizer.appeals.again import judged, planned_again
from starter.organizer.batch import Batch, LocalJobs
from starter.organizer.entries import find
from starter.organizer.leaderboard.standings import Standings
from starter.organizer.plan import plan
from starter.organizer.store.model import Entry
from starter.organizer.store.store import Store

pytestmark = pytest.mark.slow

DOCUMENT = (ROOT / "docs" / "appeals.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL) for line in block.splitlines()]


NAMES = ("red/first", "red/second", "blue/net")


@pytest.fixture(scope="module")
def evaluated(
    easy_dataset: Dataset, reference: Reference, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Entry], list[tuple[EvaluationRecord, Evidence | None]]]:
    """Two entries of team red and one of blue, evaluated once for all tests."""
    folder = tmp_path_factory.mktemp("evaluated")
    for number, name in enumerate(NAMES):
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(crowd.honest(number), encoding="utf-8")
    (folder / "competition.toml").write_text(f'name = "A crowd"\n{crowd.LIMITS}')
    rules = load_competition(folder / "competition.toml").counted_as(reference)
    holds_under = Context.of(rules, easy_dataset.fingerprint(), reference)
    evaluator = partial(Evaluator, rules, easy_dataset, reference=reference, isolation=Isolation(Level.NONE))
    with Store(f"sqlite:///{folder / 'results.sqlite'}") as store:
        context = store.context_id(holds_under)
        entries = plan(find([folder]), rules, store, context)
        Batch(entries, store, (context, holds_under), rules).run(LocalJobs(evaluator, 1))
        kept = [store.record(context, one.submission) for one in entries]
    assert [one and one[0].result.status for one in kept] == [Status.OK] * 3
    return [one.entry for one in entries], [one for one in kept if one]


@pytest.fixture
def board(
    place: Path,
    evaluated: tuple[list[Entry], list[tuple[EvaluationRecord, Evidence | None]]],
) -> Path:
    """A competition's folder with these entries and their results."""
    entries, kept = evaluated
    for number, name in enumerate(NAMES):
        path = place / "entries" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(crowd.honest(number), encoding="utf-8")
    with Store(url_of(place)) as store:
        context = store.context_id(kept[0][0].context)
        here = {path.stem: str(path) for path in (place / "entries").rglob("*.py")}
        store.add(context, [replace(entry, source=here[entry.name]) for entry in entries])
        for record, evidence in kept:
            store.put(context, record, evidence)
    return place


def url_of(place: Path) -> str:
    return f"sqlite:///{place / '.starter' / 'results.sqlite'}"


def database(place: Path) -> sqlite3.Connection:
    return sqlite3.connect(place / ".starter" / "results.sqlite")


def shown(place: Path) -> tuple[list[str], dict[str, str]]:
    """The ranked entries in order, and the others with their reasons."""
    rules = load_competition(place / "competition.toml")
    dataset = open_dataset(rules.path(rules.dataset))
    reference = read_reference(rules.path(rules.baseline))
    with Store(url_of(place)) as store:
        found = Standings(store, rules.counted_as(reference), dataset, reference).board()
    ranked = [f"{row.team}/{row.name}" for row in found.rows if not row.is_baseline]
    return ranked, {f"{row.team}/{row.name}": row.reason for row in found.others}


@pytest.mark.slow
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
    with Store(url_of(board)) as store:
        assert (
            judged(store, "red/first~1").record.evaluated_at < judged(store, "red/first").record.evaluated_at
        )
        with pytest.raises(UsageError) as caught:
            judged(store, "red/first~2")
    assert caught.value.problems[0].code is Code.NO_SUCH_RESULT


def test_a_changed_file_is_no_appeal(starter: Command, board: Path) -> None:
    rules = load_competition(board / "competition.toml")
    path = board / "entries" / "red" / "first.py"

    def refused(name: str) -> Code:
        with Store(url_of(board)) as store, pytest.raises(UsageError) as caught:
            planned_again(store, [name], rules)
        return caught.value.problems[0].code

    with Store(url_of(board)) as store:
        again = planned_again(store, ["red", "blue/net", "red/first"], rules)
    assert sorted(one.source.name for one in again) == ["first", "net", "second"]
    path.write_text(crowd.honest(9), encoding="utf-8")
    assert refused("red/first") is Code.ENTRY_CHANGED
    path.unlink()
    assert refused("red/first") is Code.ENTRY_CHANGED
    assert refused("red/none") is Code.NO_ENTRY
    run = starter("rejudge", "red/second", "--reason", " ", expected=2)
    assert "say why" in run.stderr
    assert "rejudge" not in starter("entry", "history", "red/second").stdout


def test_what_differs_between_two_results_is_told_by_its_cause(starter: Command, board: Path) -> None:
    with Store(url_of(board)) as store:
        net, first = (judged(store, name).record for name in ("blue/net", "red/first"))
        held = net.context.model_copy(update={"rules": "sha256:others"})
        later = net.model_copy(update={"context": held, "evaluated_at": datetime.now(UTC)})
        store.put(store.context_id(held), later, None)

    found = json.loads(starter("diff", "blue/net~1", "blue/net", "--json", "-").stdout)["differences"]
    assert found == [
        {"subject": "rules", "name": "context.rules", "before": net.context.rules, "after": "sha256:others"}
    ]

    for record in (net, first):
        (board / f"{record.result.name}.json").write_text(record.model_dump_json(), encoding="utf-8")
    lines = starter("diff", "first.json", "net.json").stdout.splitlines()
    heads = {line.split()[0]: line for line in lines if not line.startswith(" ")}
    assert list(heads) == ["data", "rules", "code", "environment", "figures"]
    assert heads["data"].endswith("the same")
    assert heads["rules"].endswith("the same")
    code = lines[lines.index("code") + 1 : lines.index("environment")]
    assert {line.split()[0] for line in code} == {"submission", "program", "result.name"}
    macs = next(line for line in lines if line.startswith("  result.macs "))
    assert first.result.macs is not None
    assert net.result.macs is not None
    more = net.result.macs - first.result.macs
    assert macs == f"  result.macs  {first.result.macs} -> {net.result.macs}  ({more:+})"
    assert "U404" in starter("diff", "none.json", "net.json", expected=2).stderr


@pytest.mark.long
def test_a_disqualified_entry_is_shown_with_the_reason(starter: Command, board: Path) -> None:
    before, _ = shown(board)
    assert {name.split("/")[0] for name in before} == {"red", "blue"}
    (best,) = [name for name in before if name.startswith("red/")]

    run = starter("entry", "disqualify", best, "--reason", "copied <b>from</b> blue")
    assert run.stdout == f"{best} is disqualified: copied <b>from</b> blue\n"

    ranked, others = shown(board)
    assert best not in ranked
    assert {name.split("/")[0] for name in ranked} == {"red", "blue"}  # with its next best
    assert others[best] == "disqualified: copied <b>from</b> blue"
    starter("batch", "entries", "--isolation", "none")  # what finds it again does not bring it back
    assert shown(board) == (ranked, others)
    starter("leaderboard", "--html", "site", "--csv", "board.csv")
    assert "disqualified: copied &lt;b&gt;from&lt;/b&gt; blue" in (board / "site" / "index.html").read_text()
    assert "disqualified: copied" in (board / "board.csv").read_text()

    starter("entry", "reinstate", best, "--reason", "it was not")
    assert shown(board)[0] == before


@pytest.mark.long
def test_a_renamed_team_keeps_its_place_and_its_folder(starter: Command, board: Path) -> None:
    before, _ = shown(board)
    starter("team", "rename", "red", "crimson", "--reason", "a trademark")
    assert shown(board)[0] == [name.replace("red/", "crimson/") for name in before]

    (board / "entries" / "red" / "third.py").write_text(crowd.honest(7), encoding="utf-8")
    run = starter("batch", "entries", "--isolation", "none")

    assert "4 entries: 1 evaluated now, 3 done" in run.stdout
    with Store(url_of(board)) as store:
        assert store.entry_counts() == {"crimson": 3, "blue": 1}
    assert starter("leaderboard", "--team", "red").stdout.startswith("crimson: place ")
    assert "was red/first" in starter("entry", "history", "red/first").stdout
    starter("team", "merge", "crimson", "blue", "--reason", "one person")
    assert {name.split("/")[0] for name in shown(board)[0]} == {"blue"}
    run = starter("batch", "entries", "--isolation", "none")
    assert "4 entries: 4 done" in run.stdout
    assert starter("verify").stdout.startswith("ok ")


def test_a_merge_refuses_no_entry_that_was_accepted(starter: Command, board: Path) -> None:
    """Together the two teams have submitted more than one may on a day."""
    rules = board / "competition.toml"
    rules.write_text(rules.read_text() + "\n[leaderboard]\nmax_per_day = 2\n")
    starter("team", "merge", "red", "blue", "--reason", "one person")

    starter("batch", "entries", "--isolation", "none")

    assert shown(board)[1] == {}


def test_verify_finds_what_was_changed_in_the_store(starter: Command, board: Path) -> None:
    run = starter("verify", "--json", "trail.json")
    rows, head = re.search(
        r"ok .* (\d+) rows of the trail, 3 entries, 3 results\nhead +(\S+)", run.stdout
    ).groups()
    found = json.loads((board / "trail.json").read_text())["trail"]
    assert (found["rows"], f"sha256:{found['head']}", found["breaks"]) == (int(rows), head, [])
    starter("entry", "disqualify", "red/first", "--reason", "copied")
    assert f"the published head is row {rows}" in starter("verify", "--head", head).stdout

    with database(board) as connection:
        connection.execute("UPDATE entries SET disqualified = ''")
    connection.close()

    run = starter("verify", expected=2)
    assert run.stdout.startswith("differs ")
    assert "entry red/first" in run.stderr
    assert "it is not as row 8 of the trail has it" in " ".join(run.stderr.split())


@pytest.mark.long
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

    assert {name.split("/")[0] for name in shown(board)[0]} == {"crimson", "blue"}
