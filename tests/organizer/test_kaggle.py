"""A Kaggle competition: the metric gives the kit's score, and what participants get holds no secret."""

import doctest
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import GOOD, ROOT, Command

from starter.contract.competition import CompetitionFile, load_competition
from starter.contract.errors import Code, UsageError
from starter.contract.results import Reference
from starter.data.dataset import Dataset, open_dataset
from starter.data.writer import Description, Item, Split, write_dataset
from starter.evaluation.evaluate import read_reference
from starter.evaluation.labelled import USAGES, LabelledImages
from starter.evaluation.scorer import Scorer
from starter.evaluation.scoring import Counts, macro_f1
from starter.organizer.bundles.kaggle import UNRANKED, claimed_costs, metric, write

pd = pytest.importorskip("pandas", reason="Kaggle's metric reads tables with pandas: pip install pandas")

HASH = "sha256:" + 64 * "a"
RULES = CompetitionFile(name="test")
COSTLY = CompetitionFile.model_validate(
    {
        "name": "test",
        "score": {"cost": {"macs": 0.5, "weight_bytes": 0.3, "params": 0.2}, "f1_floor": 0.3, "penalty": 2},
        "budget": {"depth": 20, "macs": 10_000},
    }
)
OLD = CompetitionFile.model_validate({"name": "test", "score": {"preset": "boostcamp-2021"}})
LIMITED = CompetitionFile.model_validate(
    {"name": "test", "score": {"preset": "budget", "f1_floor": 0.4}, "budget": {"macs": 10_000}}
)


def loaded(text: str, folder: Path) -> ModuleType:
    """Return a metric as Kaggle's notebook has it: a file of its own."""
    path = folder / "metric.py"
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("metric", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=[RULES, COSTLY, OLD, LIMITED], ids=["macs", "several costs", "ptflops", "budget"])
def rules(request: pytest.FixtureRequest) -> CompetitionFile:
    return request.param


@pytest.fixture
def kaggle(rules: CompetitionFile, easy_dataset: Dataset, reference: Reference, tmp_path: Path) -> ModuleType:
    return loaded(metric(rules, easy_dataset, reference), tmp_path)


def solution_of(dataset: Dataset, reference: Reference, usage: str) -> Any:
    """What Kaggle passes for one usage: all columns but Usage."""
    rows = [row for row in dataset.solution() if row.usage == usage]
    return pd.DataFrame(
        {
            "image_id": [row.image_id for row in rows],
            "label": [dataset.info.classes[row.label] for row in rows],
            "baseline_f1": reference.f1_on(usage),
        }
    )


def submission_of(dataset: Dataset, labels: list[int], counts: Counts, rules: CompetitionFile) -> Any:
    columns: dict[str, Any] = {"image_id": dataset.test_ids()}
    columns["label"] = [dataset.info.classes[i] for i in labels]
    columns |= {name: getattr(counts, name) for name in claimed_costs(rules)}
    return pd.DataFrame(columns | {"submission": HASH})


def good_submission(dataset: Dataset, rules: CompetitionFile) -> Any:
    right = [row.label for row in dataset.solution()]
    return submission_of(dataset, right, Counts(100, 100, 100, params=9, weight_bytes=40, depth=2), rules)


@pytest.mark.long
def test_the_metric_is_the_kits_score_on_random_tables(
    kaggle: ModuleType, rules: CompetitionFile, easy_dataset: Dataset, reference: Reference
) -> None:
    rng, scorer = np.random.default_rng(0), Scorer(reference, rules.score)
    seen = set()
    for _ in range(60):
        share = rng.random()
        counts = Counts(
            int(rng.integers(1, 1000)), 1, 1,
            params=int(rng.integers(1, 100)), weight_bytes=int(rng.integers(1, 500)), depth=3,
        )  # fmt: skip
        labels = [
            row.label if rng.random() < share else int(rng.integers(3)) for row in easy_dataset.solution()
        ]
        order = rng.permutation(len(labels))
        table = submission_of(easy_dataset, labels, counts, rules).iloc[order].reset_index(drop=True)
        for usage in USAGES:
            f1 = LabelledImages.of(easy_dataset, usage).f1(labels)
            expected = scorer.score(counts, f1.macro, usage)
            assert expected is not None
            seen.add(expected.branch)
            unranked = 0 if expected.ranked else UNRANKED
            found = kaggle.score(solution_of(easy_dataset, reference, usage), table.copy(), "image_id")
            assert found == pytest.approx(expected.score + unranked, abs=1e-12)
    assert seen == {"below_floor", "penalty", "reward"}


def test_the_metric_counts_a_class_without_an_image_as_the_kit_does(
    kaggle: ModuleType, rules: CompetitionFile, easy_dataset: Dataset, reference: Reference
) -> None:
    """Of two images the third class has none: its F1 is 0 and counts."""
    rows = easy_dataset.solution()[:2]
    ids = [row.image_id for row in rows]
    answers = [row.label for row in rows]
    f1 = macro_f1(answers, answers, easy_dataset.info.classes)
    assert f1.absent
    solution = solution_of(easy_dataset, reference, "Public")
    labels = [easy_dataset.info.classes[label] for label in answers]
    small = pd.DataFrame({"image_id": ids, "label": labels, "baseline_f1": solution["baseline_f1"].iloc[0]})
    table = good_submission(easy_dataset, rules)
    expected = Scorer(reference, rules.score).score(
        Counts(100, 100, 100, params=9, weight_bytes=40, depth=2), f1.macro, "Public"
    )
    assert expected is not None
    assert kaggle.score(small, table, "image_id") == pytest.approx(
        expected.score + (0 if expected.ranked else UNRANKED)
    )


def _set(column: str, row: int, value: object) -> Callable[[Any], Any]:
    def change(table: Any) -> Any:
        table[column] = table[column].astype(object)
        table.loc[row, column] = value
        return table

    return change


WRONG: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a missing row": (lambda t: t.iloc[2:], "rows are missing"),
    "no row": (lambda t: t.iloc[:0], "rows are missing"),
    "a row twice": (lambda t: pd.concat([t, t.iloc[:1]]), "stands twice"),
    "no id": (_set("image_id", 3, None), "rows have no image_id"),
    "no label": (_set("label", 3, np.nan), "1 rows have no label"),
    "an unknown class": (_set("label", 3, "Cardboard"), "unknown label 'Cardboard'"),
    "a number for a class": (_set("label", 3, 1), "unknown label '1'"),
    "no column of labels": (lambda t: t.drop(columns="label"), "no column label"),
    "no cost": (lambda t: t.drop(columns="macs"), "no column macs"),
    "no hash": (lambda t: t.drop(columns="submission"), "no column submission"),
    "a cost that is none": (_set("macs", 3, np.nan), "macs must be a number"),
    "a cost in words": (_set("macs", 3, "few"), "macs must be a number"),
    "a negative cost": (lambda t: t.assign(macs=-1), "macs must be a number"),
    "an infinite cost": (lambda t: t.assign(macs=np.inf), "macs must be a number"),
    "costs that differ": (_set("macs", 3, 7), "macs must be the same in every row"),
    "hashes that differ": (_set("submission", 3, "sha256:" + 64 * "b"), "one hash in every row"),
    "no hash but a text": (lambda t: t.assign(submission="mine"), "one hash in every row"),
}


@pytest.mark.parametrize("rules", [RULES, COSTLY], indirect=True, ids=["macs", "several costs"])
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_submission_is_told_to_its_participant(
    name: str, kaggle: ModuleType, rules: CompetitionFile, easy_dataset: Dataset, reference: Reference
) -> None:
    change, message = WRONG[name]
    table = change(good_submission(easy_dataset, rules))
    with pytest.raises(kaggle.ParticipantVisibleError, match=message) as caught:
        kaggle.score(solution_of(easy_dataset, reference, "Public"), table, "image_id")
    assert "Private" not in str(caught.value)


def test_over_the_budget_is_told_and_at_the_budget_is_not(
    easy_dataset: Dataset, reference: Reference, tmp_path: Path
) -> None:
    kaggle = loaded(metric(COSTLY, easy_dataset, reference), tmp_path)
    solution, table = solution_of(easy_dataset, reference, "Public"), good_submission(easy_dataset, COSTLY)
    assert kaggle.score(solution, table.assign(macs=10_000, depth=20), "image_id") > 0
    with pytest.raises(kaggle.ParticipantVisibleError, match=r"macs 10,001, at most 10,000; depth 21"):
        kaggle.score(solution, table.assign(macs=10_001, depth=21), "image_id")


def test_rows_of_the_other_usage_are_no_fault(
    kaggle: ModuleType, rules: CompetitionFile, easy_dataset: Dataset, reference: Reference
) -> None:
    solution, table = solution_of(easy_dataset, reference, "Public"), good_submission(easy_dataset, rules)
    own = table[table["image_id"].isin(solution["image_id"])]
    assert len(own) < len(table)
    assert kaggle.score(solution, own, "image_id") == kaggle.score(solution, table, "image_id")


def test_the_metric_needs_nothing_but_what_kaggle_has(easy_dataset: Dataset, reference: Reference) -> None:
    text = metric(RULES, easy_dataset, reference)
    imported = {
        line.split()[1].partition(".")[0] for line in text.splitlines() if line.startswith(("import", "from"))
    }
    assert imported == {"re", "numpy", "pandas", "sklearn"}
    assert "starter.organizer" not in text


def test_the_metrics_own_example_holds_with_the_competitions_constants(kaggle: ModuleType) -> None:
    assert doctest.testmod(kaggle).attempted == 3
    assert doctest.testmod(kaggle).failed == 0


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"score": {"cost": {"macs": 0.5, "speed": 0.5}}}, "competition.toml, for Kaggle"),
        ({"budget": {"latency_ratio": 2.0}}, "competition.toml, for Kaggle"),
        ({"score": {"preset": "rank-average"}}, "competition.toml: score.preset, for Kaggle"),
        ({"score": {"preset": "ntire", "cost": {"macs": 1}}}, "competition.toml: score.preset, for Kaggle"),
    ],
)
def test_a_rule_that_a_table_cannot_hold_is_refused(
    changes: dict[str, Any], place: str, easy_dataset: Dataset, reference: Reference, tmp_path: Path
) -> None:
    rules = CompetitionFile.model_validate({"name": "test", **changes})
    with pytest.raises(UsageError) as caught:
        write(tmp_path / "out", rules, easy_dataset, reference)
    assert (caught.value.problems[0].code, caught.value.problems[0].where) == (Code.NOT_EXPRESSIBLE, place)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["None", "1", "NaN", "true"])
def test_a_class_that_pandas_does_not_read_as_text_is_refused(
    name: str, easy_dataset: Dataset, reference: Reference, tmp_path: Path
) -> None:
    splits: tuple[Split, ...] = ("train", "Public", "Private")
    data = easy_dataset.images.read(easy_dataset.test_ids()[0])
    items = (Item(f"{i}.jpg", data, i % 2, splits[i % 3]) for i in range(6))
    dataset = write_dataset(tmp_path / "data", items, Description(name="odd", classes=("Metal", name)))
    with pytest.raises(UsageError, match="U450"):
        write(tmp_path / "out", RULES, dataset, reference)


@pytest.fixture
def own(place: Path) -> Path:
    """A competition's folder with its baseline's plugin, and a seed in the data set's history."""
    (place / "baseline" / "plugin.py").write_text(GOOD, encoding="utf-8")
    return place


@pytest.mark.slow
def test_participants_get_no_label_of_the_evaluation_and_no_private_figure(
    own: Path, starter: Command, easy_dataset: Dataset
) -> None:
    run = starter("bundle", "kaggle", "--out", "kaggle")
    assert "kaggle/organizer/solution.csv  upload it as the solution" in run.stdout
    public = own / "kaggle" / "participants"
    assert not list(public.rglob("reference.json"))
    assert "made_by = []" in (public / "data" / "dataset.toml").read_text(encoding="utf-8")
    local = open_dataset(public / "data")
    trained = {row.image_id for row in easy_dataset.train()}
    assert {row.image_id for row in local.solution()} | {row.image_id for row in local.train()} == trained
    assert local.info.mean == easy_dataset.info.mean
    assert not (public / "test" / "solution.csv").exists()
    tables = [path for path in public.rglob("*.csv") if path.parent.name != "data"]
    assert sorted(path.name for path in tables) == ["sample_submission.csv", "test.csv"]
    sample = pd.read_csv(public / "sample_submission.csv")
    assert set(sample["label"]) == {"Metal"}
    assert list(sample["image_id"]) == easy_dataset.test_ids()
    starter("bundle", "kaggle", "--out", "kaggle", expected=2)


def test_rules_are_written_as_they_were_read(own: Path, starter: Command) -> None:
    (own / "costs.py").write_text("COST_RULES = ()\n", encoding="utf-8")
    text = (own / "competition.toml").read_text(encoding="utf-8")
    score = "[score]\ncost = {macs = 0.5, depth = 0.5}\nf1_floor = 0.25\n[budget]\nmacs = 5000\n"
    score += '[[phases]]\nname = "first"\nopens = 2027-03-01T09:00:00\ncloses = 2027-04-01T18:00:00\n'
    (own / "competition.toml").write_text(f'operator_costs = ["costs.py"]\n{text}{score}', encoding="utf-8")
    rules = load_competition(own / "competition.toml").counted_as(read_reference(own / "baseline"))
    starter("bundle", "kaggle", "--out", "kaggle")
    written = load_competition(own / "kaggle" / "participants" / "competition.toml")
    assert (written.score, written.budget, written.limits) == (rules.score, rules.budget, rules.limits)
    assert (written.phases, written.calendar.opens) == ((), rules.phases[0].opens)
    assert written.path(written.operator_costs[0]).read_text(encoding="utf-8") == "COST_RULES = ()\n"


def predicted(own: Path, starter: Command) -> Any:
    """Return what a participant submits: the table that `starter predict` writes."""
    starter("bundle", "kaggle", "--out", "kaggle")
    public = own / "kaggle" / "participants"
    (own / "net.py").write_text(GOOD, encoding="utf-8")
    rules = public / "competition.toml"
    run = starter(
        "predict", "net.py", "--data", public / "test", "--out", "answers.csv", "--competition", rules
    )
    assert "30 answers, 201 MACs each" in run.stdout
    return pd.read_csv(own / "answers.csv")


def scores_of(table: Any, own: Path, tmp_path: Path) -> dict[str, float]:
    """Return the metric's scores, as Kaggle computes them from the files that were uploaded."""
    organizer = own / "kaggle" / "organizer"
    kaggle = loaded((organizer / "metric.py").read_text(encoding="utf-8"), tmp_path)
    solution = pd.read_csv(organizer / "solution.csv")
    parts = {usage: solution[solution["Usage"] == usage].drop(columns="Usage") for usage in USAGES}
    return {usage: kaggle.score(part.copy(), table.copy(), "image_id") for usage, part in parts.items()}


@pytest.mark.long
def test_predict_answers_as_the_baseline_where_the_plugin_is_the_baseline(
    own: Path, starter: Command, tmp_path: Path
) -> None:
    table = predicted(own, starter)
    assert list(table.columns) == ["image_id", "label", "macs", "submission"]
    assert scores_of(table, own, tmp_path) == pytest.approx({"Public": 1, "Private": 1})


@pytest.mark.long
def test_the_table_names_the_hash_and_the_score_of_what_organizers_evaluate_again(
    own: Path, starter: Command, tmp_path: Path
) -> None:
    table = predicted(own, starter)
    starter("pack", "net.py", "--out", "net.zip")
    starter("batch", "net.zip", "--json", "kept.json")
    (entry,) = json.loads((own / "kept.json").read_text(encoding="utf-8"))["entries"]
    assert set(table["submission"]) == {entry["submission"]}
    scores = scores_of(table, own, tmp_path)
    for usage, options in (("Public", ()), ("Private", ("--reveal",))):
        starter("leaderboard", *options, "--json", "board.json")
        board = json.loads((own / "board.json").read_text(encoding="utf-8"))
        (row,) = [row for row in board["rows"] if not row["is_baseline"]]
        assert scores[usage] == pytest.approx(row["score"])


@pytest.mark.long
def test_predict_says_what_is_wrong_with_a_plugin_and_with_a_folder(
    own: Path, starter: Command, tmp_path: Path
) -> None:
    starter("bundle", "kaggle", "--out", "kaggle")
    test = own / "kaggle" / "participants" / "test"
    (own / "bad.py").write_text("import nothing_of_that_name\n", encoding="utf-8")
    assert "E103" in starter("predict", "bad.py", "--data", test, expected=1).stderr
    (tmp_path / "empty").mkdir()
    (own / "net.py").write_text(GOOD, encoding="utf-8")
    assert "U201" in starter("predict", "net.py", "--data", tmp_path / "empty", expected=2).stderr
    (test / "test.csv").write_text("image_id\na.jpg\na.jpg\n", encoding="utf-8")
    assert "U202" in starter("predict", "net.py", "--data", test, expected=2).stderr
    assert not (own / "submission.csv").exists()


@pytest.mark.long
def test_the_notebook_runs_from_top_to_bottom(
    competition: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat = pytest.importorskip(
        "nbformat", reason="the notebook's test needs Jupyter: pip install -e '.[test]'"
    )
    nbclient = pytest.importorskip(
        "nbclient", reason="the notebook's test needs Jupyter: pip install -e '.[test]'"
    )
    rules = load_competition(competition / "competition.toml")
    reference = read_reference(ROOT / "baseline")
    write(tmp_path / "input" / "waste", rules, open_dataset(ROOT / "data" / "waste"), reference)
    for folder in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(folder, str(tmp_path / folder))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setenv("KAGGLE_INPUT", str(tmp_path / "input" / "waste" / "participants"))
    working = tmp_path / "working"
    working.mkdir()
    public = tmp_path / "input" / "waste" / "participants"
    notebook = nbformat.read(public / "notebook.ipynb", as_version=4)

    where = {"metadata": {"path": str(working)}}
    nbclient.NotebookClient(notebook, timeout=900, resources=where).execute()

    table = pd.read_csv(working / "submission.csv")
    sample = pd.read_csv(public / "sample_submission.csv")
    assert list(table.columns) == list(sample.columns)
    assert list(table["image_id"]) == list(sample["image_id"])
    assert (working / "my_model.zip").is_file()
