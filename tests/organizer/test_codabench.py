"""A Codabench competition: its bundle, and a submission's two steps as a compute worker calls them."""

import json
import shutil
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import compute_worker
import pytest
from compute_worker import Competition, Worker
from conftest import GOOD, ROOT, Command
from usual import long

from starter.contract.competition import CompetitionFile, load_competition
from starter.contract.errors import Code, ParticipantError, UsageError
from starter.contract.isolation import Level
from starter.contract.protocol import PARTS
from starter.contract.results import Reference
from starter.data.dataset import Dataset, open_dataset
from starter.evaluation.evaluate import read_reference
from starter.evaluation.labelled import USAGES, Usage
from starter.organizer.bundles.codabench import write
from starter.organizer.bundles.kaggle import UNRANKED
from starter.organizer.bundles.steps import CLAIMS, PROGRAM, ingest, score

BUNDLE = ("bundle", "codabench", "--out", "bundle.zip", "--image", "team/starter:1")
IMITATED = pytest.mark.skipif(bool(compute_worker.lacks()), reason=compute_worker.lacks() or "it can")


@pytest.fixture
def own(place: Path) -> Path:
    """A competition's folder with its baseline's plugin."""
    (place / "baseline" / "plugin.py").write_text(GOOD, encoding="utf-8")
    return place


@pytest.fixture
def unpacked(own: Path, starter: Command, tmp_path: Path) -> Competition:
    """The bundle of that competition, as the platform unpacks it."""
    rules = (own / "competition.toml").read_text(encoding="utf-8").replace('isolation = "none"\n', "")
    (own / "competition.toml").write_text(rules, encoding="utf-8")
    starter(*BUNDLE, "--start", "2027-03-01", "--end", "2027-04-01T18:30:00")
    return Competition.unpacked(own / "bundle.zip", tmp_path / "platform")


def packed(starter: Command, place: Path, text: str = GOOD, name: str = "net") -> Path:
    """Return the zip of a plugin, as `starter pack` makes it."""
    (place / f"{name}.py").write_text(text, encoding="utf-8")
    starter("pack", f"{name}.py", "--out", f"{name}.zip")
    return place / f"{name}.zip"


def unzipped(path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    return folder


def test_a_bundle_holds_what_the_platform_asks_for(unpacked: Competition) -> None:
    values = unpacked.yaml
    assert values["title"] == "A crowd"
    assert values["docker_image"] == "team/starter:1"
    assert [(p["start"], p.get("end")) for p in values["phases"]] == [
        ("2027-03-01 00:00:00", "2027-04-01 18:30:00"),
        ("2027-04-01 18:30:00", None),
    ]
    assert "auto_migrate_to_this_phase" not in values["phases"][0]
    (board,) = values["leaderboards"]
    assert (board["columns"][0]["key"], board["columns"][0]["sorting"]) == ("score", "asc")
    first, last = (
        (unpacked.folder / t["scoring_program"] / "metadata.yaml").read_text() for t in values["tasks"]
    )
    assert first.split()[-1] == "Public"
    assert last.split()[-1] == "Private"
    assert "{{" not in "".join(p.read_text() for p in (unpacked.folder / "pages").iterdir())


def test_what_the_prediction_step_and_participants_get_has_no_label_and_no_evaluation_image(
    unpacked: Competition, easy_dataset: Dataset, reference: Reference
) -> None:
    facts = unpacked.task(0)["input_data"]
    assert sorted(path.name for path in facts.iterdir()) == ["competition.toml", "dataset.toml"]
    tested = set(easy_dataset.test_ids())
    local = open_dataset(unpacked.folder / "public_data")
    assert not tested & {*local.images.ids(), *local.test_ids(), *(row.image_id for row in local.train())}
    for folder in ("starting_kit", "public_data", "input_data", "solutions", "pages"):
        for path in (unpacked.folder / folder).rglob("*"):
            assert path.name != "reference.json"
            assert 'made_by = ["' not in (path.read_text("utf-8", "replace") if path.is_file() else "")
    for kit in ("starting_kit/baseline.zip", "solutions/baseline.zip"):
        with zipfile.ZipFile(unpacked.folder / kit) as archive:
            assert "baseline/reference.json" not in archive.namelist()
    assert (
        f"{reference.macro_f1_by_usage['Public']:.4f}"
        in (unpacked.folder / "pages/evaluation.md").read_text()
    )


@pytest.mark.slow
def test_a_wrong_order_of_dates_a_speed_and_a_file_that_is_there_are_refused(
    own: Path, starter: Command
) -> None:
    run = starter(*BUNDLE, "--start", "2027-03-01", "--end", "2027-02-01", expected=2)
    assert "--end must be later than --start" in run.stderr
    (own / "bundle.zip").write_bytes(b"")
    assert "U106" in starter(*BUNDLE, expected=2).stderr
    (own / "bundle.zip").unlink()
    with (own / "competition.toml").open("a") as file:
        file.write("[budget]\nlatency_ratio = 2\n")
    assert "U450" in starter(*BUNDLE, expected=2).stderr
    assert not (own / "bundle.zip").exists()


def test_a_score_of_ranks_is_refused_and_other_formulas_stand_on_the_page(
    easy_dataset: Dataset, reference: Reference, tmp_path: Path
) -> None:
    """One entry has no rank; NTIRE's formula and a budget alone are of one entry."""
    when: dict[str, Any] = {
        "image": "a",
        "start": datetime(2027, 3, 1, tzinfo=UTC),
        "end": datetime(2027, 4, 1, tzinfo=UTC),
    }
    ranks = CompetitionFile.model_validate({"name": "test", "score": {"preset": "rank-average"}})
    with pytest.raises(UsageError, match="U450"):
        write(tmp_path / "ranks.zip", ranks, easy_dataset, reference, **when)
    (tmp_path / "plugin.py").write_text(GOOD, encoding="utf-8")
    formulas: dict[str, dict[str, Any]] = {
        "exp(2 x macs / 201) + f1_term\nf1_term = 0 ": {"score": {"preset": "ntire", "cost": {"macs": 1}}},
        "score   = f1_term\nf1_term = 1 ": {"score": {"preset": "budget"}, "budget": {"macs": 300}},
    }
    for number, (formula, values) in enumerate(formulas.items()):
        rules = CompetitionFile.model_validate({"name": "test", "baseline": str(tmp_path), **values})
        write(tmp_path / f"{number}.zip", rules, easy_dataset, reference, **when)
        with zipfile.ZipFile(tmp_path / f"{number}.zip") as archive:
            assert formula in archive.read("pages/evaluation.md").decode()


@pytest.mark.long
def test_the_steps_give_the_kits_own_score_and_a_report_that_is_verified(
    unpacked: Competition, own: Path, starter: Command, tmp_path: Path
) -> None:
    submission = unzipped(packed(starter, own), tmp_path / "ingested")
    task, middle = unpacked.task(0), tmp_path / "res"
    shutil.copytree(submission, middle)  # as a worker of today does before the step runs
    ingested = ingest(submission, task["input_data"], middle)
    assert sorted(path.name for path in middle.iterdir()) == [CLAIMS, PROGRAM]
    assert sorted(path.name for path in (middle / PROGRAM).iterdir()) == sorted(PARTS)

    starter("batch", "net.zip", "--isolation", "auto", "--json", "kept.json")
    (result,) = json.loads((own / "kept.json").read_text())["results"]
    assert ingested.claims.submission == result["submission"]
    starter("leaderboard", "--reveal", "--json", "board.json")
    rows = json.loads((own / "board.json").read_text())["rows"]
    private = next(row for row in rows if row["submission"] == result["submission"])
    for usage, figures in (("Public", result["scores"]["Public"]), ("Private", private)):
        output = tmp_path / usage
        output.mkdir()
        scored = score(middle, task["reference_data"], output, usage)
        scores = json.loads((output / "scores.json").read_text())
        assert scores == scored.scores
        assert set(scores) == {column["key"] for column in unpacked.yaml["leaderboards"][0]["columns"]}
        for name in ("score", "macro_f1", "macs_ratio", "f1_term"):
            assert scores[name] == pytest.approx(figures[name], abs=1e-12)
        assert scores["macs"] == result["result"]["macs"] == 201
        record = json.loads((output / "result.json").read_text())
        assert record["result"]["isolation"] == ingested.isolation.level
        assert record["result"]["official"] is (ingested.isolation.level is not Level.NONE)
        assert list(record["scores"]) == ["Public"]
        assert record["context"] == result["context"]
        assert record["program"] == result["program"]
        assert record["predictions"] == result["predictions"]
    starter("verify", tmp_path / "Public")


def handed_over(tmp_path: Path, unpacked: Competition, starter: Command, own: Path, text: str = GOOD) -> Path:
    """Return what the prediction step leaves of a plugin."""
    submission = unzipped(packed(starter, own, text), tmp_path / "ingested")
    middle = tmp_path / "res"
    middle.mkdir()
    ingest(submission, unpacked.task(0)["input_data"], middle)
    return middle


def refusal(middle: Path, unpacked: Competition, tmp_path: Path, usage: Usage = "Public") -> Code:
    """Return why there is no score."""
    output = tmp_path / "refused"
    output.mkdir(exist_ok=True)
    with pytest.raises(ParticipantError) as caught:
        score(middle, unpacked.task(0)["reference_data"], output, usage)
    assert not list(output.iterdir())
    return Code(caught.value.problems[0].code)


@pytest.mark.long
def test_nothing_that_is_said_beside_the_graph_counts(
    unpacked: Competition, own: Path, starter: Command, tmp_path: Path
) -> None:
    """Codabench runs a submission's own `metadata` command, which can write all of this."""
    middle = handed_over(tmp_path, unpacked, starter, own)
    (middle / "scores.json").write_text('{"score": -9}')
    (middle / "result.json").write_text("{}")
    report = json.loads((middle / PROGRAM / "report").read_text())
    (middle / PROGRAM / "report").write_text(json.dumps(report | {"thop_macs": 1, "title": "<b>first</b>"}))
    (middle / CLAIMS).write_text('{"isolation": "box", "score": 0}')
    output = tmp_path / "output"
    output.mkdir()
    scored = score(middle, unpacked.task(0)["reference_data"], output, "Public")
    assert (scored.scores["macs"], scored.scores["macro_f1"]) == (201, 1)
    assert scored.result.isolation is Level.NONE  # claims that are not valid say nothing
    assert json.loads((output / "scores.json").read_text()) == scored.scores


@pytest.mark.long
def test_a_forged_hand_over_is_refused_with_its_reason(
    unpacked: Competition, own: Path, starter: Command, tmp_path: Path
) -> None:
    middle = handed_over(tmp_path, unpacked, starter, own)
    labels = unpacked.task(0)["reference_data"] / "data" / "solution.csv"
    graph = (middle / PROGRAM / "graph").read_bytes()
    (middle / PROGRAM / "graph").unlink()
    assert refusal(middle, unpacked, tmp_path) is Code.MALFORMED_GRAPH
    (middle / PROGRAM / "graph").symlink_to(labels)
    assert refusal(middle, unpacked, tmp_path) is Code.MALFORMED_GRAPH
    (middle / PROGRAM / "graph").unlink()
    (middle / PROGRAM / "graph").write_bytes(graph[: len(graph) // 2])
    assert refusal(middle, unpacked, tmp_path) is Code.MALFORMED_GRAPH
    with (middle / PROGRAM / "weights").open("ab") as file:
        file.truncate(2 * 2**30)
    assert refusal(middle, unpacked, tmp_path) is Code.OUTPUT
    shutil.rmtree(middle)
    assert refusal(middle, unpacked, tmp_path) is Code.MALFORMED_GRAPH


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("import nothing_of_that_name\n", Code.IMPORT_FAILED),
        long(
            GOOD.replace("self.head(images.mean((2, 3)))", "torch.fft.rfft2(images).abs().mean((2, 3))"), None
        ),
    ],
)
def test_a_plugin_that_fails_hands_nothing_over(
    text: str, code: Code | None, unpacked: Competition, own: Path, starter: Command, tmp_path: Path
) -> None:
    """What the graph's reader refuses is refused where it is read: in the scoring step."""
    submission = unzipped(packed(starter, own, text), tmp_path / "ingested")
    middle = tmp_path / "res"
    middle.mkdir()
    if code is None:
        ingest(submission, unpacked.task(0)["input_data"], middle)
        assert refusal(middle, unpacked, tmp_path) is Code.NO_COST_RULE
        return
    with pytest.raises(ParticipantError) as caught:
        ingest(submission, unpacked.task(0)["input_data"], middle)
    assert caught.value.problems[0].code == code
    assert not list(middle.iterdir())


@pytest.mark.slow
def test_a_zip_of_something_else_is_refused(unpacked: Competition, tmp_path: Path) -> None:
    (tmp_path / "ingested").mkdir()
    (tmp_path / "ingested" / "README").write_text("no plugin")
    (tmp_path / "res").mkdir()
    with pytest.raises(ParticipantError) as caught:
        ingest(tmp_path / "ingested", unpacked.task(0)["input_data"], tmp_path / "res")
    assert caught.value.problems[0].code == Code.ARCHIVE_LAYOUT


@pytest.mark.long
def test_below_the_floor_stands_behind_all_and_over_the_budget_has_no_score(
    unpacked: Competition, own: Path, starter: Command, tmp_path: Path
) -> None:
    worst = GOOD.replace("self.head(images.mean((2, 3)))", "self.head(-images.mean((2, 3)))")
    middle = handed_over(tmp_path, unpacked, starter, own, worst)
    output = tmp_path / "output"
    output.mkdir()
    scored = score(middle, unpacked.task(0)["reference_data"], output, "Public")
    assert not scored.result.ranked
    assert scored.scores["score"] == pytest.approx(scored.scores["macs_ratio"] + 1 + UNRANKED)
    with (unpacked.task(0)["reference_data"] / "competition.toml").open("a") as file:
        file.write("[budget]\nmacs = 200\n")
    assert refusal(middle, unpacked, tmp_path) is Code.OVER_BUDGET


@pytest.mark.long
def test_predictions_are_withheld_where_the_rules_say_so(own: Path, starter: Command, tmp_path: Path) -> None:
    with (own / "competition.toml").open("a") as file:
        file.write("[leaderboard]\nwithhold_predictions = true\nmax_per_day = 3\nmax_total = 40\n")
        file.write('[calendar]\ntimezone = "Asia/Seoul"\nopens = 2027-03-01T09:00:00\n')
        file.write("closes = 2027-04-01T18:00:00\n")
    starter(*BUNDLE)
    unpacked = Competition.unpacked(own / "bundle.zip", tmp_path / "platform")
    first, final = unpacked.yaml["phases"]
    assert (first["max_submissions_per_day"], first["max_submissions"]) == (3, 40)
    assert (first["start"], final["start"]) == ("2027-03-01 00:00:00", "2027-04-01 09:00:00")
    middle = handed_over(tmp_path, unpacked, starter, own)
    output = tmp_path / "output"
    output.mkdir()
    score(middle, unpacked.task(0)["reference_data"], output, "Private")
    assert sorted(path.name for path in output.iterdir()) == ["program.zip", "result.json", "scores.json"]
    assert json.loads((output / "result.json").read_text())["predictions"] == ""


@IMITATED
@pytest.mark.slow
@pytest.mark.parametrize("copies", [True, False], ids=["a worker of today", "an older worker"])
def test_a_compute_worker_scores_a_submission_in_bare_containers(
    copies: bool, unpacked: Competition, own: Path, starter: Command, tmp_path: Path
) -> None:
    worker = Worker(tmp_path / "worker", copies=copies)
    predicted = worker.predict(packed(starter, own), unpacked.task(0))
    assert predicted.codes == {"ingestion": 0}, predicted.logs
    assert "isolation   lockdown" in predicted.logs["ingestion"]
    assert "as root without capabilities" in predicted.logs["ingestion"]
    for index, usage in enumerate(USAGES):
        scored = worker.score(predicted, unpacked.task(index))
        assert scored.codes == {"program": 0}, scored.logs
        scores = json.loads((scored.output / "scores.json").read_text())
        assert (scores["macs"], scores["macro_f1"]) == (201, 1)
        assert scores["score"] == pytest.approx(1)
        page = (scored.output / "detailed_results.html").read_text(encoding="utf-8")
        assert "Content-Security-Policy" in page
        assert "score" in scored.logs["program"], usage


SPY = """
import os
import pathlib
found = [str(p) for place in ("/app", "/tmp", "/root", "/opt") for p in pathlib.Path(place).rglob("*")
         if p.name in {"solution.csv", "test.csv", "images.zip", "images", "reference.json"}
         and "site-packages" not in p.parts]
print("secrets", found, "folders", sorted(os.listdir("/app")))
pathlib.Path("/app/output/scores.json").write_text('{"score": -9}')
"""


@IMITATED
@pytest.mark.long
def test_a_submissions_own_command_finds_no_label_and_no_image_and_decides_nothing(
    unpacked: Competition, own: Path, tmp_path: Path
) -> None:
    """Codabench runs the command of a submission's `metadata` beside the prediction step."""
    (own / "entry").mkdir()
    (own / "entry" / "plugin.py").write_text(GOOD, encoding="utf-8")
    (own / "entry" / "spy.py").write_text(SPY, encoding="utf-8")
    (own / "entry" / "metadata.yaml").write_text("command: python3 $program/spy.py\n", encoding="utf-8")
    submission = tmp_path / "entry.zip"
    with zipfile.ZipFile(submission, "w") as archive:
        for path in (own / "entry").iterdir():
            archive.write(path, path.name)
    worker = Worker(tmp_path / "worker")
    predicted = worker.predict(submission, unpacked.task(0))
    assert predicted.codes == {"program": 0, "ingestion": 0}, predicted.logs
    folders = ["input_data", "output", "program"]
    assert f"secrets [] folders {folders}" in predicted.logs["program"]
    (predicted.output / "scores.json").write_text('{"score": -9}')  # written once more, after the step
    scored = worker.score(predicted, unpacked.task(0))
    assert json.loads((scored.output / "scores.json").read_text())["score"] == pytest.approx(1)


@IMITATED
@pytest.mark.long
def test_the_packaged_baseline_scores_one_on_a_compute_worker(tmp_path: Path) -> None:
    rules: CompetitionFile = load_competition(ROOT / "competition.toml")
    write(
        tmp_path / "bundle.zip",
        rules,
        open_dataset(ROOT / "data" / "waste"),
        read_reference(ROOT / "baseline"),
        image="team/starter:1",
        start=datetime(2027, 3, 1, tzinfo=UTC),
        end=datetime(2027, 4, 1, tzinfo=UTC),
    )
    unpacked = Competition.unpacked(tmp_path / "bundle.zip", tmp_path / "platform")
    worker = Worker(tmp_path / "worker")
    predicted = worker.predict(unpacked.folder / "solutions" / "baseline.zip", unpacked.task(0))
    assert predicted.codes == {"ingestion": 0}, predicted.logs
    for index in (0, 1):
        scored = worker.score(predicted, unpacked.task(index))
        assert scored.codes == {"program": 0}, scored.logs
        scores = json.loads((scored.output / "scores.json").read_text())
        assert scores["macs_ratio"] == 1
        assert scores["score"] == pytest.approx(1, abs=0.02)  # another processor rounds differently


@pytest.mark.long
def test_usage_error_of_organizers_is_no_fault_of_participants(
    unpacked: Competition, own: Path, starter: Command, tmp_path: Path
) -> None:
    middle = handed_over(tmp_path, unpacked, starter, own)
    (unpacked.task(0)["reference_data"] / "baseline" / "reference.json").unlink()
    with pytest.raises(UsageError, match="U301"):
        score(middle, unpacked.task(0)["reference_data"], tmp_path, "Public")
