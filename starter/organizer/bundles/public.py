"""What a bundle shows to participants: rules, the baseline's plugin, and data without a secret label.

No file here holds a label of the evaluation images, a figure of the Private ones, or a seed that would draw
either again.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from starter.contract.competition import FILE_NAME, CompetitionFile
from starter.contract.errors import Code, usage_error
from starter.contract.results import Reference
from starter.contract.rules.calendar import Calendar
from starter.contract.submissions import SubmissionSource, discover_one
from starter.contract.system.files import write_table
from starter.data.dataset import INFO_NAME, SOLUTION_NAME, TEST_NAME, TRAIN_NAME, Dataset, DatasetInfo
from starter.data.options import Shares
from starter.data.writer import TRAINED, assign_splits, toml_of
from starter.evaluation.evaluate import REFERENCE_FILE
from starter.evaluation.scoring import check_reference
from starter.submission.content import own_files

DATA, BASELINE = "data", "baseline"
"""Folders beside a bundle's competition.toml."""

_LOCAL = Shares(test=0.2, public=0.5)


def check(rules: CompetitionFile, dataset: Dataset, reference: Reference, platform: str) -> None:
    """Refuse rules that score or limit an entry's time, and a reference that scores may not stand on.

    Raises:
        UsageError: U450 for the time; else as `check_reference` does.
    """
    if rules.asks_for_speed:
        raise usage_error(
            Code.NOT_EXPRESSIBLE,
            where=f"{FILE_NAME}, for {platform}",
            expected="costs that are read off the graph",
            got="speed, or the budget latency_ratio",
            hint="Time is taken beside the baseline on one quiet machine: starter batch",
        )
    check_reference(
        reference,
        rules=rules.score,
        dataset_fingerprint=dataset.fingerprint(),
        cost_version=reference.cost_version,
        where=str(rules.path(rules.baseline) / REFERENCE_FILE),
    )


def refuse_ranks(rules: CompetitionFile, platform: str) -> None:
    """Refuse a score that is the mean of ranks: a platform scores one entry without the others.

    Raises:
        UsageError: U450.
    """
    if rules.score.averages_ranks:
        raise usage_error(
            Code.NOT_EXPRESSIBLE,
            where=f"{FILE_NAME}: score.preset, for {platform}",
            expected="a score of one entry alone",
            got="rank-average, the mean of ranks among all teams",
            hint="Publish the board yourself: starter leaderboard --html SITE",
        )


def write_rules(folder: Path, rules: CompetitionFile) -> None:
    """Write competition.toml, with data and baseline beside it, and the cost rules that it names.

    A bundle is of one phase: its calendar is the competition's.
    """
    names = [f"cost_rules/{number}.py" for number in range(len(rules.operator_costs))]
    for name, own in zip(names, rules.operator_costs, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(rules.path(own), folder / name)
    moved = {"dataset": DATA, "baseline": BASELINE, "operator_costs": names}
    values = rules.model_dump(mode="json", exclude_none=True, exclude={"submissions", "phases"}) | moved
    values["calendar"] = {
        name: at for name, at in values["calendar"].items() if name in Calendar.model_fields
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE_NAME).write_text(_toml(values), encoding="utf-8", newline="\n")


def _toml(values: Mapping[str, Any]) -> str:
    """Return a file of values and of tables of values; JSON's strings, numbers and lists are TOML's too."""
    plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
    lines = [f"{key} = {_inline(value)}" for key, value in plain.items()]
    for name, table in values.items():
        if name not in plain and table:
            lines += ["", f"[{name}]", *(f"{key} = {_inline(value)}" for key, value in table.items())]
    return "\n".join([*lines, ""])


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_inline(own)}" for key, own in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


def copy_baseline(rules: CompetitionFile, folder: Path) -> SubmissionSource:
    """Copy the baseline's plugin, without its figures: they say how hard the Private images are."""
    source = discover_one(rules.path(rules.baseline))
    for name, path in own_files(source).items():
        if name != REFERENCE_FILE:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)
    return discover_one(folder)


def write_local_data(folder: Path, dataset: Dataset) -> None:
    """Write a data set of the training images, a part of which is its evaluation, with labels.

    Participants train and score with it as they are used to. Groups are kept whole.
    """
    rows = dataset.train()
    splits = assign_splits([row.label for row in rows], [row.group or row.image_id for row in rows], _LOCAL)
    classes = dataset.info.classes
    train, solution = [], []
    for row, split in zip(rows, splits, strict=True):
        if split in TRAINED:
            own = "validation" if row.is_validation else "train"
            train.append((row.image_id, classes[row.label], row.group, own))
        else:
            solution.append((row.image_id, classes[row.label], split, row.group))
    if not train or not solution:
        raise usage_error(
            Code.BAD_DATASET,
            where=str(dataset.root / TRAIN_NAME),
            expected="images of several groups, a fifth of which becomes the participants' evaluation",
            got=f"{len({row.group or row.image_id for row in rows})} groups",
        )
    _write(folder, dataset, [row.image_id for row in rows])
    write_table(folder / TRAIN_NAME, ("image_id", "label", "group", "split"), train)
    write_table(folder / TEST_NAME, ("image_id",), [row[:1] for row in solution])
    write_table(folder / SOLUTION_NAME, ("image_id", "label", "Usage", "group"), solution)


def write_questions(folder: Path, dataset: Dataset) -> None:
    """Write the evaluation images without their labels: what `starter predict` answers."""
    _write(folder, dataset, dataset.test_ids())
    write_table(folder / TEST_NAME, ("image_id",), [(image_id,) for image_id in dataset.test_ids()])


def write_public_data(folder: Path, dataset: Dataset) -> None:
    """Write a data set without its Private images: the training images, and the Public ones with labels."""
    classes = dataset.info.classes
    public = [row for row in dataset.solution() if row.usage == "Public"]
    _write(folder, dataset, [*(row.image_id for row in dataset.train()), *(row.image_id for row in public)])
    shutil.copyfile(dataset.root / TRAIN_NAME, folder / TRAIN_NAME)
    write_table(folder / TEST_NAME, ("image_id",), [(row.image_id,) for row in public])
    by = (dataset.grouped_by,) if dataset.grouped_by else ()
    solution = [
        (row.image_id, classes[row.label], row.usage, row.group, *([row.f1_group] if by else []))
        for row in public
    ]
    write_table(folder / SOLUTION_NAME, ("image_id", "label", "Usage", "group", *by), solution)


def write_whole_data(folder: Path, dataset: Dataset) -> None:
    """Write a copy of a data set with all labels, for organizers only."""
    _write(folder, dataset, [*(row.image_id for row in dataset.train()), *dataset.test_ids()])
    for name in (TRAIN_NAME, TEST_NAME, SOLUTION_NAME):
        shutil.copyfile(dataset.root / name, folder / name)


def write_info(folder: Path, info: DatasetInfo) -> None:
    """Write dataset.toml without the commands that made it: their seeds draw the labels again."""
    folder.mkdir(parents=True, exist_ok=True)
    text = toml_of(info.model_copy(update={"made_by": ()}))
    (folder / INFO_NAME).write_text(text, encoding="utf-8", newline="\n")


def _write(folder: Path, dataset: Dataset, ids: Iterable[str]) -> None:
    write_info(folder, dataset.info)
    with ZipFile(folder / "images.zip", "w", ZIP_STORED) as archive:
        for image_id in sorted(ids):
            archive.writestr(ZipInfo(image_id), dataset.images.read(image_id))
