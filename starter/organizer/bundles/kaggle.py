"""Write what a Kaggle competition is made of: the metric, the secret solution, and what participants get.

Kaggle sees predictions, never a network: a cost in `submission.csv` is a claim, bound to a submission by its
hash. docs/kaggle.md says what follows from that.
"""

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from starter.contract.competition import FILE_NAME, CompetitionFile, CostName, ScoreRules
from starter.contract.errors import Code, usage_error
from starter.contract.results import Reference
from starter.contract.system.files import atomic_write, write_table, write_whole
from starter.data.dataset import Dataset
from starter.data.writer import refuse_existing
from starter.evaluation.scoring import Counts
from starter.organizer.bundles.public import (
    BASELINE,
    DATA,
    check,
    copy_baseline,
    refuse_ranks,
    write_local_data,
    write_questions,
    write_rules,
)

UNRANKED = 1000.0
"""What is added to the score of an entry below the floor: a platform's board has no unranked rows."""

KAGGLE, PARTICIPANTS, QUESTIONS = "organizer", "participants", "test"
METRIC, SOLUTION, SAMPLE, NOTEBOOK = "metric.py", "solution.csv", "sample_submission.csv", "notebook.ipynb"

_CONSTANTS = re.compile(r"(?<=# <constants of the competition>\n).*(?=# </constants)", re.DOTALL)
_EXPRESSED = {"cost_version", "counter", "cost", "speed_takings", "f1_floor", "penalty", "reward"}
_PRESETS = {None, "boostcamp-2021", "budget"}
_NOT_TEXT = {
    "", "#n/a", "#n/a n/a", "#na", "-1.#ind", "-1.#qnan", "-nan", "1.#ind", "1.#qnan", "<na>", "n/a", "na",
    "null", "nan", "none", "true", "false",
}  # fmt: skip
"""What pandas reads as a missing value or as a truth value, in lower case."""

NO_HASH = f"sha256:{64 * '0'}"
"""What stands in the sample submission."""


def claimed_costs(rules: CompetitionFile) -> tuple[CostName, ...]:
    """Return the costs that a submission.csv names: those that are scored, then those with a budget."""
    limited = rules.budget.model_dump(exclude_none=True, exclude={"latency_ratio"})
    names = (name for name in dict.fromkeys([*rules.score.weights, *limited]) if name != "speed")
    return tuple(names)  # type: ignore[arg-type]  # a budget's fields are costs


def columns(rules: CompetitionFile) -> tuple[str, ...]:
    """Return the columns of a submission.csv."""
    return ("image_id", "label", *claimed_costs(rules), "submission")


def write(target: Path, rules: CompetitionFile, dataset: Dataset, reference: Reference) -> dict[str, str]:
    """Write the new folder `target`, whole or not at all.

    Returns:
        dict: what was written, by its name in the folder, with what it is.

    Raises:
        UsageError: U450, the metric cannot express the rules; U106, `target` exists.
    """
    refuse_existing(target)
    rules = rules.counted_as(reference)
    _check(rules, dataset)
    check(rules, dataset, reference, "Kaggle")
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as folder:
        for part in (KAGGLE, PARTICIPANTS):
            (folder / part).mkdir(parents=True)
        write_whole(folder / KAGGLE / METRIC, metric(rules, dataset, reference))
        write_table(
            folder / KAGGLE / SOLUTION, ("image_id", "label", "Usage", "baseline_f1"),
            _solution(dataset, reference),
        )  # fmt: skip
        public = folder / PARTICIPANTS
        write_table(public / SAMPLE, columns(rules), _sample(rules, dataset, reference))
        write_whole(public / NOTEBOOK, _template(NOTEBOOK))
        write_rules(public, rules)
        copy_baseline(rules, public / BASELINE)
        write_local_data(public / DATA, dataset)
        write_questions(public / QUESTIONS, dataset)
    return {
        f"{KAGGLE}/{METRIC}": "paste it into the metric's notebook; lower is better",
        f"{KAGGLE}/{SOLUTION}": "upload it as the solution; it holds the labels",
        f"{PARTICIPANTS}/{SAMPLE}": "upload it as the sample submission",
        f"{PARTICIPANTS}/": "upload it as the data: rules, images, baseline, notebook",
    }


def metric(rules: CompetitionFile, dataset: Dataset, reference: Reference) -> str:
    """Return metric.py with the competition's constants."""
    counts, score = Counts.of(reference), rules.score
    constants = {
        "CLASSES": dataset.info.classes,
        "WEIGHTS": score.weights,
        "BASELINE": {name: getattr(counts, name) for name in score.weights},
        "BUDGET": rules.budget.model_dump(exclude_none=True),
        "F1_FLOOR": score.f1_floor,
        "PENALTY": score.penalty,
        "REWARD": score.reward,
        "UNRANKED": UNRANKED,
    }
    lines = "".join(f"{name} = {value!r}\n" for name, value in constants.items())
    return _CONSTANTS.sub(lambda _: lines, _template(METRIC))


def _template(name: str) -> str:
    return (
        files("starter.organizer.bundles").joinpath("platforms", "kaggle", name).read_text(encoding="utf-8")
    )


def _check(rules: CompetitionFile, dataset: Dataset) -> None:
    """Refuse what the metric would get wrong, also by a constant that is newer than the metric."""
    refuse_ranks(rules, "Kaggle")
    default = ScoreRules()
    others = [
        name
        for name in ScoreRules.model_fields
        if name not in _EXPRESSED and getattr(rules.score, name) != getattr(default, name)
    ]
    if rules.score.preset in _PRESETS:
        others = [name for name in others if name != "preset"]
    if others:
        raise usage_error(
            Code.NOT_EXPRESSIBLE,
            where=f"{FILE_NAME}: score.{others[0]}, for Kaggle",
            expected="weighted costs plus an F1 term, of one entry alone",
            got=f"{others[0]} = {getattr(rules.score, others[0])!r}",
        )
    if changed := [name for name in dataset.info.classes if _is_changed(name)]:
        raise usage_error(
            Code.NOT_EXPRESSIBLE,
            where=f"{dataset.root}: classes, for Kaggle",
            expected="names that pandas reads as text from a CSV file",
            got=", ".join(changed),
            hint="Rename the class in the data set, for instance to class_1 or nothing.",
        )


def _is_changed(name: str) -> bool:
    """Say whether pandas reads a class name as something else than its text."""
    try:
        float(name)
    except ValueError:
        return name.strip().lower() in _NOT_TEXT
    return True


def _solution(dataset: Dataset, reference: Reference) -> Iterator[tuple[object, ...]]:
    for row in dataset.solution():
        yield row.image_id, dataset.info.classes[row.label], row.usage, reference.f1_on(row.usage)


def _sample(rules: CompetitionFile, dataset: Dataset, reference: Reference) -> Iterator[tuple[object, ...]]:
    """Yield the answers of whoever always says the first class, at the baseline's cost."""
    counts = Counts.of(reference)
    costs = [getattr(counts, name) for name in claimed_costs(rules)]
    for image_id in dataset.test_ids():
        yield image_id, dataset.info.classes[0], *costs, NO_HASH
