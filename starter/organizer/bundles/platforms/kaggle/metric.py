"""The metric of this competition: a cost over the baseline's, plus what the macro F1 adds. Lower is better.

    score   = sum of weight * cost / cost of the baseline + f1_term
    f1_term = 1                                  F1 < floor; such a row stands UNRANKED behind all others
            = penalty * (1 - F1 / F1_baseline)   floor <= F1 < F1_baseline
            = reward * (1 - F1 / F1_baseline)    F1 >= F1_baseline

The cost and the hash of a submission are what its team claims: this file sees no network. They are the same
in every row. The organizers evaluate the submission of that hash again before a place is final.

Paste this file into Kaggle's metric notebook. It needs what is there: numpy, pandas, scikit-learn.
`starter bundle kaggle` has written the constants and `solution.csv`, whose column `baseline_f1` holds the
baseline's F1 on the images of the row's usage: Kaggle calls `score` for either, and does not say for which.
"""

import re

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

# <constants of the competition>
CLASSES = ("Metal", "Paper")
WEIGHTS = {"macs": 1.0}
BASELINE = {"macs": 1_000_000}
BUDGET = {"params": 1_000_000}
F1_FLOOR = 0.5
PENALTY = 1.0
REWARD = 0.5
UNRANKED = 1000.0
# </constants of the competition>

COSTS = tuple(dict.fromkeys([*WEIGHTS, *BUDGET]))
HASH = re.compile(r"sha256:[0-9a-f]{64}")
SHOWN = 3


class ParticipantVisibleError(Exception):
    """What the participant did wrong: Kaggle shows the text to them, and no other error."""


def score(solution: pd.DataFrame, submission: pd.DataFrame, row_id_column_name: str) -> float:
    """Return the score of a submission on the rows of the solution.

    >>> right = pd.DataFrame({"image_id": range(len(CLASSES)), "label": CLASSES})
    >>> answers = right.assign(**dict.fromkeys(COSTS, 0), submission="sha256:" + 64 * "0")
    >>> score(right.assign(baseline_f1=1.0), answers, "image_id")
    0.0
    """
    rows = _rows(solution, submission, row_id_column_name)
    costs = {name: _cost(submission, name) for name in COSTS}
    over = [
        f"{name} {costs[name]:,.10g}, at most {most:,}" for name, most in BUDGET.items() if costs[name] > most
    ]
    if over:
        raise ParticipantVisibleError(f"over the budget: {'; '.join(over)}")
    f1 = f1_score(solution["label"], rows, labels=list(CLASSES), average=None, zero_division=0.0)
    return _score(costs, float(sum(f1)) / len(CLASSES), float(solution["baseline_f1"].iloc[0]))


def _score(costs: dict[str, float], f1: float, baseline_f1: float) -> float:
    ratio = sum(weight * (costs[name] / BASELINE[name]) for name, weight in WEIGHTS.items())
    if f1 < F1_FLOOR:
        return ratio + 1.0 + UNRANKED
    missing = 1 - f1 / baseline_f1
    return ratio + (PENALTY if missing > 0 else REWARD) * missing


def _rows(solution: pd.DataFrame, submission: pd.DataFrame, row_id: str) -> list[str]:
    """Return the submission's answers in the solution's order."""
    needed = [row_id, "label", *COSTS, "submission"]
    if missing := [name for name in needed if name not in submission.columns]:
        raise ParticipantVisibleError(f"no column {', '.join(missing)}; the columns are {', '.join(needed)}")
    if submission[row_id].isna().any():
        raise ParticipantVisibleError(f"{submission[row_id].isna().sum()} rows have no {row_id}")
    twice = submission[row_id][submission[row_id].duplicated()]
    if len(twice):
        raise ParticipantVisibleError(f"{row_id} stands twice: {_named(twice)}")
    # More rows than the solution's are no fault, and which are missing is not said: a call may be for one
    # usage only, and whose image is whose stays secret.
    if not solution[row_id].isin(submission[row_id]).all():
        raise ParticipantVisibleError("rows are missing: every image of the sample submission needs one")
    labels = submission["label"]
    if labels.isna().any():
        raise ParticipantVisibleError(f"{labels.isna().sum()} rows have no label")
    unknown = labels[~labels.isin(CLASSES)]
    if len(unknown):
        raise ParticipantVisibleError(
            f"unknown label {_named(unknown)}; the classes are {', '.join(CLASSES)}"
        )
    hashes = submission["submission"].unique()
    if len(hashes) != 1 or not HASH.fullmatch(str(hashes[0])):
        raise ParticipantVisibleError(
            "submission must be one hash in every row: sha256: and 64 hex digits, as starter predict writes"
        )
    answers = submission.set_index(row_id)["label"]
    return list(answers.loc[list(solution[row_id])])


def _cost(submission: pd.DataFrame, name: str) -> float:
    """Return a cost that is the same finite number, 0 or more, in every row."""
    numbers = pd.to_numeric(submission[name], errors="coerce")
    if numbers.isna().any() or not np.isfinite(numbers).all() or (numbers < 0).any():
        raise ParticipantVisibleError(f"{name} must be a number, 0 or more, in every row")
    if (numbers != numbers.iloc[0]).any():
        raise ParticipantVisibleError(
            f"{name} must be the same in every row: {_named(numbers.drop_duplicates())}"
        )
    return float(numbers.iloc[0])


def _named(values: pd.Series) -> str:
    """Return the first few of the participant's own values."""
    more = f" and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
    return ", ".join(repr(str(value)[:80]) for value in values.drop_duplicates().head(SHOWN)) + more
