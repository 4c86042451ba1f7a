"""What version 0.1.0 wrote with its command line is read as before.

old_files/0.1.0.tar.xz is a competition's folder: rules, data, a baseline, entries and their store, reports,
the JSON of each command, a packed zip and compressed plugins.
"""

import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from starter.contract.competition import Limits, load_competition
from starter.contract.errors import Status
from starter.contract.names import MANIFEST
from starter.contract.results import EvaluationResult
from starter.evaluation.evaluate import read_reference
from starter.evaluation.records import EvaluationRecord
from starter.organizer.leaderboard.model import Board
from starter.submission.archive import Manifest, unpack
from starter.submission.content import submission_digest

OLD = Path(__file__).parent / "old_files" / "0.1.0.tar.xz"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The competition's folder, as 0.1.0 has left it."""
    with tarfile.open(OLD) as archive:
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.4
        archive.extractall(tmp_path, **safe)  # noqa: S202 - our own archive
    return tmp_path


@pytest.fixture
def run(folder: Path) -> Run:
    """Today's command line, in the old folder."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "starter", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return call


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_rules_and_the_reference_are_read(folder: Path) -> None:
    rules = load_competition(folder / "competition.toml")
    reference = read_reference(rules.path(rules.baseline))

    assert rules.name == "Made by 0.1.0"
    assert (reference.name, reference.macs, reference.macro_f1) == ("baseline", 201, 1.0)


@pytest.mark.slow
def test_the_board_of_an_old_store_is_the_old_board(folder: Path, run: Run) -> None:
    run("leaderboard", "--json", "new.json")

    old, new = read(folder / "board.json"), read(folder / "new.json")
    assert [(row["place"], row["name"]) for row in old["rows"]] == [(1, "second"), (None, "baseline")]
    assert [row["name"] for row in old["others"]] == ["broken"]
    assert new | {"made_at": ""} == old | {"made_at": ""}
    assert Board.model_validate(old).model_dump(mode="json") == old


@pytest.mark.slow
def test_a_batch_evaluates_nothing_of_an_old_store_anew(folder: Path, run: Run) -> None:
    done = run("batch", "entries", "--isolation", "none", "--json", "new.json")

    assert done.stdout == "3 entries: 3 done\n"
    old, new = read(folder / "batch.json"), read(folder / "new.json")
    assert new["results"] == []
    by_name = sorted(new["entries"], key=lambda entry: entry["name"])  # the archive rounds times
    assert by_name == sorted(
        (entry | {"action": "done"} for entry in old["entries"]), key=lambda entry: entry["name"]
    )


@pytest.mark.long
def test_an_old_competition_scores_by_its_own_cost_rule_and_is_told_so(folder: Path, run: Run) -> None:
    """Its rules name no version; its reference does."""
    done = run("score", "entries/red/second.py", "--isolation", "none", "--json", "new.json")
    text = " ".join(done.stderr.split())
    assert "cost version 1: packed products count once; for version 2 set cost_version = 2" in text

    (new,) = read(folder / "new.json")["results"]
    old = next(r["result"] for r in read(folder / "batch.json")["results"] if r["result"]["name"] == "second")
    assert (new["score"], new["macs"], new["macro_f1"]) == (old["score"], old["macs"], old["macro_f1"])

    rules = load_competition(folder / "competition.toml")
    reference = read_reference(rules.path(rules.baseline))
    assert rules.counted_as(reference).score.cost_version == 1
    assert rules.counted_as(None).score.cost_version == 2


@pytest.mark.long
def test_old_reports_are_proved_again(run: Run) -> None:
    lines = run("verify", "reports").stdout.splitlines()

    assert [line.split()[:2] for line in lines] == [
        ["ok", str(Path("reports", *name.split("/"), "result.json"))]
        for name in ("blue/broken", "red/first", "red/second")
    ]


@pytest.mark.parametrize("name", ["score.json", "scores.json", "profile.json"])
def test_old_results_are_read_whole(folder: Path, name: str) -> None:
    for text in read(folder / name)["results"]:
        result = EvaluationResult.model_validate(text)
        assert result.status is Status.OK
        assert (result.profile is not None) == (name == "profile.json")
        assert result.model_dump(mode="json") == text


def test_old_records_are_read_whole(folder: Path) -> None:
    texts = read(folder / "batch.json")["results"]
    records = [EvaluationRecord.model_validate(text) for text in texts]

    assert [record.result.status for record in records] == [Status.OK, Status.OK, Status.INVALID]
    assert [record.model_dump(mode="json") for record in records] == texts


def test_an_old_zip_is_unpacked_and_its_manifest_is_believed(folder: Path) -> None:
    (folder / "unpacked").mkdir()
    unpacked = unpack(folder / "net.zip", folder / "unpacked", Limits())

    assert unpacked.problems == ()
    assert unpacked.source is not None
    manifest = Manifest.model_validate(read(unpacked.source.path / MANIFEST))
    assert manifest.name == "net"
    assert manifest.submission == submission_digest(unpacked.source)
    assert (unpacked.source.path / "plugin.py").read_bytes() == (
        folder / "submissions" / "net" / "plugin.py"
    ).read_bytes()


@pytest.mark.long
def test_old_compressed_plugins_cost_and_answer_as_before(folder: Path, run: Run) -> None:
    names = ["merged", "pruned", "tucker"]
    paths = [f"submissions/{name}" for name in names]
    run("score", *paths, "--isolation", "none", "--json", "new.json")

    old, new = (
        {result["name"]: (result["macs"], result["macro_f1"]) for result in read(folder / file)["results"]}
        for file in ("scores.json", "new.json")
    )
    assert sorted(new) == names
    assert new == {name: old[name] for name in names}
    assert old["pruned"][0] < old["merged"][0]
