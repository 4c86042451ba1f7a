"""F1 of groups of images: the arithmetic, the floor, what a board shows, and who sees which group."""

import csv
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import crowd
import pytest
from PIL import Image

from starter.contract.competition import ScoreRules, load_competition
from starter.contract.errors import Code, UsageError
from starter.contract.results import Reference
from starter.data.dataset import Dataset, open_dataset
from starter.evaluation.labelled import LabelledImages, group_f1
from starter.evaluation.scorer import Scorer, require_groups
from starter.evaluation.scoring import Counts
from starter.organizer.cluster.node import work_of

BLIND = crowd.GOOD.replace(
    "        return self.head(images.mean((2, 3)))",
    """        right = self.head(images.mean((2, 3)))
        bright = (images.mean((1, 2, 3)) > 0.25).float()[:, None]
        return right * bright + (1 - bright) * torch.eye(3)[0]""",
)
"""A network that answers Metal at night."""


def write_groups(dataset: Dataset, target: Path, groups: dict[str, str], header: str = "camera") -> Path:
    """Copy a data set with a column of groups in its solution; an image that is not named is of `day`."""
    shutil.copytree(dataset.root, target)
    path = target / "solution.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], header], lineterminator="\n")
        writer.writeheader()
        writer.writerows(row | {header: groups.get(row["image_id"], "day")} for row in rows)
    return target


@pytest.fixture(scope="session")
def dark(easy_dataset: Dataset) -> list[str]:
    """A third of the evaluation images, of both halves."""
    return [row.image_id for row in easy_dataset.solution()][:10]


def darken(data: Path, names: Iterable[str]) -> None:
    """Leave a quarter of the light of some images."""
    for name in names:
        with Image.open(data / "images" / name) as image:
            image.point(lambda value: value // 4).save(data / "images" / name, quality=95)


def groups_of(easy: Dataset, dark: list[str]) -> dict[str, str]:
    """Night for the dark images; one of the Private ones is a group that nobody may hear of."""
    private = [row.image_id for row in easy.solution() if row.usage == "Private" and row.image_id in dark]
    return dict.fromkeys(dark, "night") | {private[0]: "secret"}


def call(place: Path, *arguments: str) -> str:
    """Return what the command line prints in a folder."""
    command = [sys.executable, "-m", "starter", *arguments]
    run = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def evaluated(easy_dataset: Dataset, dark: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A competition on grouped data, with a fair entry and one that fails at night."""
    place = tmp_path_factory.mktemp("groups")
    data = write_groups(easy_dataset, place / "data", groups_of(easy_dataset, dark))
    darken(data, dark)
    (place / "competition.toml").write_text(f'name = "Groups"\ndataset = "{data}"\nisolation = "none"\n')
    for name, text in (
        ("baseline/plugin.py", crowd.honest(0)),
        ("entries/blind.py", BLIND),
        ("entries/fair.py", crowd.honest(1)),
    ):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text(text)
    call(place, "baseline", "measure")
    call(place, "batch", "entries")
    return place


@pytest.fixture
def grouped(evaluated: Path, tmp_path: Path) -> Path:
    """A copy of it, with its results."""
    return shutil.copytree(evaluated, tmp_path / "groups")


def add_rules(place: Path, text: str) -> None:
    rules = place / "competition.toml"
    rules.write_text(f"{rules.read_text()}\n{text}\n")


def test_a_group_is_judged_on_the_classes_that_it_has() -> None:
    """At night Metal is right and Paper is answered Metal: F1 of Metal 2/3, of Paper 0, mean 1/3.

    Neither day nor night is blamed for having no Plastic.
    """
    labels, answers = [0, 0, 1, 0, 1, 2], [0, 0, 1, 0, 0, 2]
    groups = ["day", "day", "day", "night", "night", "dusk"]
    assert group_f1(labels, answers, groups) == pytest.approx({"day": 1.0, "dusk": 1.0, "night": 1 / 3})


def test_an_answer_of_a_class_that_the_group_has_not_is_still_wrong() -> None:
    assert group_f1([0, 0], [0, 2], ["a", "a"]) == pytest.approx({"a": 2 / 3})


def test_without_groups_there_is_no_figure_of_one(easy_dataset: Dataset) -> None:
    images = LabelledImages.of(easy_dataset)
    f1 = images.f1(images.labels)
    assert (f1.macro, f1.by_group, f1.worst_group) == (1.0, None, None)


def test_an_entry_below_the_floor_of_groups_keeps_its_score_and_loses_its_place(
    easy_dataset: Dataset, reference: Reference, dark: list[str], tmp_path: Path
) -> None:
    data = open_dataset(write_groups(easy_dataset, tmp_path / "d", dict.fromkeys(dark, "night")))
    images = LabelledImages.of(data)
    answers = [0 if row.f1_group == "night" else row.label for row in data.solution()]
    counts = Counts.of(reference)
    expected = images.f1(answers)
    assert expected.worst_group is not None
    for floor, ranked in ((None, True), (expected.worst_group, True), (expected.worst_group + 0.01, False)):
        score = Scorer(reference, ScoreRules(group_floor=floor)).on(images, answers, counts)
        assert score is not None
        assert (score.ranked, score.worst_group_f1) == (ranked, expected.worst_group)
        assert score.f1_by_group == expected.by_group
        assert (score.branch, score.macs_ratio) == ("penalty", 1.0)


def test_a_floor_for_groups_needs_groups(easy_dataset: Dataset, reference: Reference) -> None:
    with pytest.raises(UsageError) as caught:
        require_groups(ScoreRules(group_floor=0.4), easy_dataset)
    (found,) = caught.value.problems
    assert (found.code, found.where) == (Code.BAD_COMPETITION, "competition.toml: score.group_floor")
    require_groups(ScoreRules(), easy_dataset)
    images = LabelledImages.of(easy_dataset)  # a participant's own: nothing to apply it to
    score = Scorer(reference, ScoreRules(group_floor=0.4)).on(
        images, list(images.labels), Counts.of(reference)
    )
    assert score is not None
    assert score.ranked


def test_nothing_about_groups_is_sent_to_who_measures(
    place: Path, easy_dataset: Dataset, dark: list[str], tmp_path: Path
) -> None:
    """Two data sets of the same images and other groups: the same bytes."""
    rules = load_competition(place / "competition.toml")
    sent = []
    for name in ("night", "fog"):
        data = open_dataset(write_groups(easy_dataset, tmp_path / name, dict.fromkeys(dark, name)))
        sent.append(pickle.dumps(work_of(rules, data, isolation=None, cache_mb=1, device="cpu")))
    assert sent[0] == sent[1]


@pytest.mark.long
def test_the_board_shows_the_worst_group_and_only_public_ones(grouped: Path) -> None:
    written = ("--json", "board.json", "--csv", "board.csv", "--html", "site", "--reports", "reports")
    shown = call(grouped, "leaderboard", *written)
    assert "  worst group 1.0000" in shown
    board = json.loads((grouped / "board.json").read_text())
    assert board["grouped_by"] == "camera"
    rows = {row["name"]: row for row in board["rows"]}
    assert rows["fair"]["worst_group_f1"] == 1.0
    with (grouped / "board.csv").open(encoding="utf-8", newline="") as file:
        table = {row["name"]: row["worst_group_f1"] for row in csv.DictReader(file)}
    assert float(table["blind"]) == rows["blind"]["worst_group_f1"] < 0.5

    record = json.loads((grouped / "reports" / "blind" / "blind" / "result.json").read_text())
    assert record["scores"]["Public"]["f1_by_group"].keys() == {"day", "night"}
    assert record["result"]["f1_by_group"] == record["scores"]["Public"]["f1_by_group"]
    assert record["result"]["worst_group_f1"] == rows["blind"]["worst_group_f1"]
    texts = [p.read_text() for p in (*grouped.glob("site/**/*.html"), *grouped.glob("reports/**/*.json"))]
    assert len(texts) == 5
    assert not [text for text in texts if "secret" in text]
    assert sum("F1 by camera, public images" in text for text in texts) == 2
    assert call(grouped, "verify", "reports").count("ok ") == 2

    call(grouped, "leaderboard", "--reveal", "--html", "final")
    pages = [path.read_text() for path in grouped.glob("final/entries/*.html")]
    assert pages
    assert all("secret" in page for page in pages)


@pytest.mark.long
def test_an_entry_below_the_floor_is_unranked_with_that_reason(grouped: Path) -> None:
    add_rules(grouped, "[score]\ngroup_floor = 0.6")
    lines = call(grouped, "score", "entries", "--json", "own.json")
    own = {r["name"]: r for r in json.loads((grouped / "own.json").read_text())["results"]}
    assert own["fair"]["f1_by_group"] == {"day": 1.0, "night": 1.0, "secret": 1.0}
    assert own["blind"]["f1_by_group"]["day"] == 1.0
    assert own["blind"]["worst_group_f1"] == min(own["blind"]["f1_by_group"].values()) < 0.6
    assert (own["fair"]["ranked"], own["blind"]["ranked"]) == (True, False)
    text = " ".join(lines.split())
    assert "the F1 of a group is below the floor for groups of 0.6: unranked" in text
    assert "F1 of 3 groups: worst" in text
    assert "2 submissions: 1 ranked, 1 unranked" in text

    call(grouped, "batch", "entries")
    call(grouped, "leaderboard", "--json", "board.json", "--html", "site")
    board = json.loads((grouped / "board.json").read_text())
    assert [row["name"] for row in board["rows"] if row["place"]] == ["fair"]
    (other,) = board["others"]
    assert other["name"] == "blind"
    assert other["reason"].startswith("the worst group's F1 0.")
    assert other["reason"].endswith("is below the group floor")
    assert "below 0.6 an entry has no place" in (grouped / "site" / "index.html").read_text()


@pytest.mark.long
def test_where_predictions_are_withheld_no_single_group_is_shown(grouped: Path) -> None:
    """The F1 of a group of one image says whether that image is right."""
    add_rules(grouped, "[leaderboard]\nwithhold_predictions = true")
    call(grouped, "leaderboard", "--html", "site", "--reports", "reports")
    paths = [*grouped.glob("site/**/*.html"), *grouped.glob("reports/**/*.json")]
    assert len(paths) == 5
    assert not [path for path in paths if "night" in path.read_text()]
    record = json.loads((grouped / "reports" / "blind" / "blind" / "result.json").read_text())
    assert "f1_by_group" not in record["scores"]["Public"]
    assert record["scores"]["Public"]["worst_group_f1"] < 0.5
