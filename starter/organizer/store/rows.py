"""Rows of the tables and what they stand for: records and evidence, entries and figures."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import numpy as np

from starter.contract.results import UsageScore
from starter.evaluation.records import EvaluationRecord, Evidence
from starter.organizer.store.model import Entry, Figures, RankedEntry
from starter.organizer.store.tables import FIGURES, USAGES, Row, entries, results

Labels = np.ndarray[tuple[int], np.dtype[np.uint16]]

ENTRY = tuple(entries.c[field.name] for field in fields(Entry))
"""The columns of an `Entry`."""

FIGURE_COLUMNS = tuple(results.c[f"{usage}_{name}"] for usage in USAGES for name in FIGURES)

_CHUNK = 500
"""How many values one query names."""


def result_row(context: int, record: EvaluationRecord, evidence: Evidence | None) -> dict[str, Any]:
    """Return a row of `results`."""
    return {
        "context": context,
        "submission": record.submission,
        "status": record.result.status.value,
        "evaluated_at": record.evaluated_at.timestamp(),
        "macs": record.result.macs,
        "params": record.result.params,
        **_columns("public", record.scores.get("Public")),
        **_columns("private", record.scores.get("Private")),
        "reason": _reason(record),
        "predictions": evidence and zlib.compress(evidence.to_bytes()),
        "graph": evidence and evidence.program,
        "record": zlib.compress(record.model_dump_json().encode()),
    }


def kept_result(row: Row) -> tuple[EvaluationRecord, Evidence | None]:
    """Return the record and the evidence in a row of `results`."""
    evidence = None
    if row["predictions"]:
        evidence = Evidence(*Evidence.answers(zlib.decompress(row["predictions"])), program=row["graph"])
    return EvaluationRecord.model_validate_json(zlib.decompress(row["record"])), evidence


def answers(block: bytes) -> Labels:
    """Return the labels in a column `predictions`."""
    return Evidence.answers(zlib.decompress(block))[0]


def entry_fields(row: Sequence[Any]) -> tuple[Any, ...]:
    """Return the fields of an `Entry`, of a row that begins with `ENTRY`."""
    team, name, submission, seconds, *others = row[: len(ENTRY)]
    return (team, name, submission, datetime.fromtimestamp(seconds, UTC), *others)


def ranked_entry(row: Sequence[Any]) -> RankedEntry:
    """Return an entry of the columns `ENTRY`, macs, params and `FIGURE_COLUMNS`."""
    macs, params, *values = row[len(ENTRY) :]
    public = figures(values[: len(FIGURES)])
    assert public is not None  # it is ranked
    private = figures(values[len(FIGURES) :])
    return RankedEntry(*entry_fields(row), macs=macs, params=params, public=public, private=private)


def figures(values: Sequence[Any]) -> Figures | None:
    """Return the figures of one usage, in the order of the columns; None where there is no score."""
    return None if values[0] is None else Figures(*values)


def chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield parts that one query may name."""
    yield from (values[i : i + _CHUNK] for i in range(0, len(values), _CHUNK))


def _columns(usage: str, score: UsageScore | None) -> dict[str, Any]:
    return {f"{usage}_{name}": score and getattr(score, name) for name in FIGURES}


def _reason(record: EvaluationRecord) -> str:
    """Return why a result has no place; nothing where it has one."""
    error, public = record.result.error, record.scores.get("Public")
    if error is not None:
        return f"{error.code} {error.got}"[:300]
    if public is None:
        return "no score"
    if public.ranked:
        return ""
    if public.branch != "below_floor" and public.worst_group_f1 is not None:
        return f"the worst group's F1 {public.worst_group_f1:.4f} is below the group floor"
    return f"F1 {public.macro_f1:.4f} is below the floor"
