"""What is different between two records: data, rules, code, environment and figures."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from starter.contract.errors import Code, usage_error
from starter.evaluation.records import EvaluationRecord
from starter.evaluation.verify import PREDICTIONS, RECORD


class Subject(StrEnum):
    """What a difference is about, in the order in which one explains the next."""

    DATA = "data"
    RULES = "rules"
    CODE = "code"
    ENVIRONMENT = "environment"
    FIGURES = "figures"


@dataclass(frozen=True)
class Difference:
    """One value that two records have otherwise."""

    subject: Subject
    """What it is about."""
    name: str
    """The field, its parts with dots between them."""
    before: Any
    """What the first says; None where it has no such field."""
    after: Any
    """What the second says."""


@dataclass(frozen=True)
class Judged:
    """A record, and what it answered where that is known."""

    record: EvaluationRecord
    """What came out."""
    answers: Sequence[str] | Sequence[int] | None = None
    """The label of each image, in order: its name in a report, its number in a store."""


_SUBJECTS = {
    "context.data": Subject.DATA,
    "context": Subject.RULES,
    "limits": Subject.RULES,
    "submission": Subject.CODE,
    "program": Subject.CODE,
    "left_out": Subject.CODE,
    "result.name": Subject.CODE,
    "result.title": Subject.CODE,
    "result.authors": Subject.CODE,
    "result.description": Subject.CODE,
    "result.seconds": Subject.ENVIRONMENT,
    "result.isolation": Subject.ENVIRONMENT,
    "result.official": Subject.ENVIRONMENT,
    "environment": Subject.ENVIRONMENT,
    "versions": Subject.ENVIRONMENT,
    "used": Subject.ENVIRONMENT,
}
"""By the beginning of a field's name, the longest that fits; all else are figures."""

_NO_DIFFERENCE = {"schema_version", "evaluated_at", "result.path"}
"""Fields that say which record it is."""


def differences(first: Judged, second: Judged) -> list[Difference]:
    """Return every field that two records have otherwise, by subject."""
    pairs = _pairs(first.record.model_dump(mode="json"), second.record.model_dump(mode="json"))
    found = [
        Difference(_subject(name), name, before, after)
        for name, before, after in pairs
        if before != after and name not in _NO_DIFFERENCE
    ]
    if (other := _other_answers(first.answers, second.answers)) is not None:
        found.append(Difference(Subject.FIGURES, "answers that differ", 0, other))
    order = list(Subject)
    return sorted(found, key=lambda one: order.index(one.subject))


def _other_answers(first: Sequence[object] | None, second: Sequence[object] | None) -> int | None:
    """Return how many answers differ; None where none does, or they cannot be compared."""
    if not first or not second or type(first[0]) is not type(second[0]):
        return None
    return sum(a != b for a, b in zip_longest(first, second)) or None


def _pairs(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the name of each single value with both records' values; None where one has none."""
    values = dict(_flat("", first)), dict(_flat("", second))
    for name in values[0] | values[1]:
        yield name, values[0].get(name), values[1].get(name)


def read_judged(path: Path) -> Judged:
    """Read a record: result.json, any file like it, or the folder of a report.

    Raises:
        UsageError: U404, it is none.
    """
    file = path / RECORD if path.is_dir() else path
    predictions = file.with_name(PREDICTIONS)
    answers = None
    try:
        record = EvaluationRecord.model_validate_json(file.read_bytes())
        if file.name == RECORD and predictions.is_file():
            with predictions.open(encoding="utf-8", newline="") as lines:
                answers = [row["label"] for row in csv.DictReader(lines)]
    except (OSError, ValidationError, ValueError, KeyError) as error:
        raise usage_error(Code.BAD_REPORT, where=str(path), got=str(error)[:300]) from error
    return Judged(record, answers)


def _subject(name: str) -> Subject:
    parts = name.split(".")
    starts = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((_SUBJECTS[start] for start in starts if start in _SUBJECTS), Subject.FIGURES)


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield single values; an empty list or object is one as well."""
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from _flat(f"{name}.{key}" if name else key, part)
    elif isinstance(value, list) and value:
        for number, part in enumerate(value):
            yield from _flat(f"{name}.{number}", part)
    else:
        yield name, value
