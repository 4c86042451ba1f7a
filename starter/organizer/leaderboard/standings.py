"""Make the leaderboard from the store: places, ties, luck, and what became of everything else."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise, starmap
from typing import Any

from starter.contract.competition import CompetitionFile
from starter.contract.results import Reference
from starter.contract.text import inline
from starter.data.dataset import Dataset
from starter.evaluation.bootstrap import Floats, Resampling, chance_ahead, interval, tie_groups
from starter.evaluation.labelled import LabelledImages, Usage
from starter.evaluation.records import Context, EvaluationRecord, Evidence
from starter.evaluation.scorer import Scorer
from starter.organizer.leaderboard.model import Board, Details, Row, TrendPoint
from starter.organizer.store.store import Store

MOST_OTHERS = 500
"""How many unranked and stale entries a board shows."""


class Standings:
    """Reads the leaderboard of one competition out of a store.

    Args:
        store: the results.
        competition: the rules.
        dataset: the images' labels.
        reference: the baseline's figures.
        now: when the board is made; None: now.
    """

    def __init__(
        self,
        store: Store,
        competition: CompetitionFile,
        dataset: Dataset,
        reference: Reference,
        *,
        now: datetime | None = None,
    ) -> None:
        self._store = store
        self._competition = competition
        self._dataset = dataset
        self._reference = reference
        self._scorer = Scorer(reference, competition.score)
        self._now = now or datetime.now(UTC)
        self._holds_under = Context.of(competition, dataset.fingerprint(), reference)
        self.context = store.context_id(self._holds_under)

    def board(self, *, reveal: bool = False) -> Board:
        """Return the public board, or the final one on the private images."""
        usage: Usage = "Private" if reveal else "Public"
        counts = self._store.entry_counts()
        copies = self._store.duplicates()
        every = list(self._store.lines(self.context, "ranked"))
        trends = _trends(every)
        public = list(self._store.lines(self.context, "best"))
        lines = self._final(public, every) if reveal else public
        names = self._competition.leaderboard.baseline_teams
        ranked = [line for line in lines if line.team not in names]
        rows = [
            _row(
                line,
                usage.lower(),
                place=place,
                entries=counts[line.team],
                duplicates=_others(copies.get(line.submission, ()), line),
                trend=trends.get(line.team, ()),
            )
            for place, line in enumerate(ranked, 1)
        ]
        rows = self._with_uncertainty(rows, usage)
        agreement = None
        if reveal:
            rows, agreement = _compared(rows, [line for line in public if line.team not in names])
        baselines = [_row(line, usage.lower(), is_baseline=True) for line in lines if line.team in names]
        others, hidden = self._others({(line.team, line.name) for line in every})
        return Board(
            competition=self._competition.name,
            usage=usage,
            made_at=self._now,
            dataset=f"{self._dataset.info.name} {self._dataset.info.version}",
            num_images=len(LabelledImages.of(self._dataset, usage)),
            classes=self._dataset.info.classes,
            reference=self._reference.shown_on(usage),
            baseline_f1=self._reference.f1_on(usage),
            rules=self._competition.score,
            cost_version=self._reference.cost_version,
            rows=tuple(_merged(rows, [self._reference_row(usage), *baselines])),
            others=tuple(others),
            more_others=hidden,
            num_teams=len(counts),
            num_entries=sum(counts.values()),
            agreement=agreement,
        )

    def details(self, board: Board) -> Iterator[Details]:
        """Yield all about each entry of a board that has a result which holds."""
        from sklearn.metrics import confusion_matrix  # noqa: PLC0415 - a second of import

        images = LabelledImages.of(self._dataset, board.usage)
        usages = ("Public", "Private") if board.usage == "Private" else ("Public",)
        for row in (*board.rows, *board.others):
            kept = self._store.record(self.context, row.submission) if row.submission else None
            if kept is None:
                continue
            record, evidence = kept
            confusion = None
            if evidence is not None:
                answers = evidence.labels[list(images.positions)]
                table = confusion_matrix(images.labels, answers, labels=range(len(board.classes)))
                confusion = tuple(map(tuple, table.tolist()))
            yield Details(
                row=row,
                result=record.for_participant().result,
                scores={usage: score for usage, score in record.scores.items() if usage in usages},
                confusion=confusion,
                evaluated_at=record.evaluated_at,
                versions=record.versions,
                limits={name: float(value) for name, value in record.limits.model_dump().items()},
                measured=record.used,
                hashes={
                    "submission": record.submission,
                    **record.context.model_dump(),
                    "predictions": record.predictions,
                    "program": record.program,
                },
            )

    def reports(self) -> Iterator[tuple[str, tuple[EvaluationRecord, Evidence | None]]]:
        """Yield TEAM/NAME and the result of every entry that has one which holds."""
        for entry in self._store.entries():
            kept = self._store.record(self.context, entry.submission)
            if kept is not None:
                yield f"{_file_name(entry.team)}/{_file_name(entry.name)}", kept

    def _final(self, public: Sequence[Any], every: Sequence[Any]) -> list[Any]:
        """Return each team's best entry on the private images, of those that count, in order."""
        most = self._competition.leaderboard.selected
        teams: dict[str, list[Any]] = {line.team: [] for line in public}
        for line in every:
            teams[line.team].append(line)
        best = []
        for own in teams.values():
            chosen = [line for line in own if line.selected] or own
            counted = sorted(chosen, key=lambda line: _order(line, "public"))[:most]
            final = [line for line in counted if line.private_ranked]
            if final:
                best.append(min(final, key=lambda line: _order(line, "private")))
        return sorted(best, key=lambda line: _order(line, "private"))

    def _with_uncertainty(self, rows: list[Row], usage: Usage) -> list[Row]:
        """Add the intervals, the tie groups and, on the public board, the chance to stay ahead."""
        answers = self._store.answers(self.context, [row.submission for row in rows])
        images = LabelledImages.of(self._dataset, usage)
        unseen = len(LabelledImages.of(self._dataset, "Private")) if usage == "Public" else 0
        scores = list(self._drawn(rows, answers, images, None))
        futures = list(self._drawn(rows, answers, images, unseen)) if unseen else []
        groups = tie_groups(scores)
        holds = [*starmap(chance_ahead, pairwise(futures)), None]
        return [
            row.model_copy(
                update={
                    "interval": interval(scores[i]),
                    "tie_group": groups[i],
                    "holds": holds[i] if futures else None,
                }
            )
            for i, row in enumerate(rows)
        ]

    def _drawn(
        self, rows: Sequence[Row], answers: dict[str, Any], images: LabelledImages, unseen: int | None
    ) -> Iterator[Floats]:
        """Yield the scores of each row's draws."""
        draws = Resampling(images.labels, len(images.classes), groups=images.groups, unseen=unseen)
        for row in rows:
            f1 = draws.macro_f1(images.own(answers[row.submission]))
            yield self._scorer.drawn(row.macs_ratio or 0, f1, images.usage)

    def _reference_row(self, usage: Usage) -> Row:
        """Return the row of the baseline that all scores are relative to."""
        reference = self._reference
        f1 = reference.f1_on(usage)
        score = self._scorer.score(reference.macs, reference.thop_macs, f1, usage)
        assert score is not None  # the reference has been checked
        return Row(
            id=_row_id("", reference.name, "reference"),
            place=None,
            is_baseline=True,
            team="",
            name=reference.name,
            submitted_at=None,
            macs=reference.macs,
            macro_f1=f1,
            params=reference.params,
            **{k: v for k, v in score._asdict().items() if k in Row.model_fields},
        )

    def _others(self, ranked: set[tuple[str, str]]) -> tuple[list[Row], int]:
        """Return the unranked and the stale entries that are shown, and how many more there are."""
        rows = [
            _row(line, "public", reason=line.refused or line.reason or "")
            for line in self._store.lines(self.context, "unranked")
        ]
        contexts = self._store.contexts()
        current = ranked | {(row.team, row.name) for row in rows}
        stale = {}
        for line in self._store.stale(self.context):  # the latest result of each entry is the last
            if (line.team, line.name) in current:
                continue  # its team has handed in another content since
            changed = contexts[line.context].changed(self._holds_under)
            stale[line.team, line.name] = Row(
                id=_row_id(line.team, line.name, line.submission),
                submission=line.submission,
                place=None,
                team=line.team,
                name=line.name,
                submitted_at=_time(line.submitted_at),
                score=line.public_score,
                macs=line.macs,
                stale=changed,
                reason=f"evaluated under another {', '.join(changed)}",
            )
        found = [*stale.values(), *rows]
        return found[:MOST_OTHERS], max(0, len(found) - MOST_OTHERS)


def _trends(every: Iterable[Any]) -> dict[str, tuple[TrendPoint, ...]]:
    """Return each team's best score over time: one point for each time that it got better."""
    points: dict[str, list[TrendPoint]] = {}
    for line in every:
        own = points.setdefault(line.team, [])
        if not own or line.public_score < own[-1].score:
            own.append(TrendPoint(at=_time(line.submitted_at), score=line.public_score))
    return {team: tuple(own) for team, own in points.items()}


def _order(line: Any, usage: str) -> tuple[float, int, float, float, str]:
    """Return the place of an entry in the total order, as scoring.rank_key and the store have it."""
    score, f1 = getattr(line, f"{usage}_score"), getattr(line, f"{usage}_macro_f1")
    return (score, line.macs, -f1, line.submitted_at, line.name)


def _row(line: Any, usage: str, **fields: Any) -> Row:
    figures = ("score", "macs_ratio", "macro_f1", "f1_term", "branch")
    return Row(
        id=_row_id(line.team, line.name, line.submission),
        submission=line.submission,
        team=line.team,
        name=line.name,
        submitted_at=_time(line.submitted_at),
        macs=line.macs,
        params=line.params,
        **{name: getattr(line, f"{usage}_{name}") for name in figures},
        **{"place": None, **fields},
    )


def _row_id(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _file_name(text: str) -> str:
    """Return a stranger's text as one part of a path."""
    name = "".join(c if c.isalnum() or c in " -_." else "_" for c in inline(text)).strip(" .")
    return name or _row_id(text)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _others(copies: Iterable[tuple[str, str]], line: Any) -> tuple[str, ...]:
    return tuple(f"{team}/{name}" for team, name in copies if (team, name) != (line.team, line.name))


def _merged(rows: Sequence[Row], baselines: Sequence[Row]) -> list[Row]:
    """Return ranked rows with the baselines where their score puts them; a tie is the entry's."""
    return sorted([*rows, *baselines], key=lambda row: (row.score or 0, row.is_baseline, row.place or 0))


def _compared(rows: Sequence[Row], public: Sequence[Any]) -> tuple[list[Row], float | None]:
    """Add each row's place on the public board; return how far the two orders agree."""
    from scipy.stats import kendalltau  # noqa: PLC0415 - a second of import

    before = {line.team: place for place, line in enumerate(public, 1)}
    rows = [row.model_copy(update={"public_place": before[row.team]}) for row in rows]
    places = [row.public_place for row in rows]
    if len(rows) < 2:
        return rows, None
    return rows, float(kendalltau(places, range(len(rows))).statistic)
