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
from starter.evaluation.scoring import Counts
from starter.organizer.leaderboard.model import Board, Details, LeaderboardRow, TrendPoint
from starter.organizer.store.model import Entry, Figures, RankedEntry, StaleEntry, UnrankedEntry
from starter.organizer.store.store import Labels, Store

MOST_OTHERS = 500
"""How many unranked and stale entries a board shows."""

_NO_CONTEXT = 0
"""Under which no result holds: the store counts from 1."""


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
        self.context = store.known_context(self._holds_under) or _NO_CONTEXT

    def board(self, *, reveal: bool = False) -> Board:
        """Return the public board, or the final one on the private images."""
        usage: Usage = "Private" if reveal else "Public"
        counts = self._store.entry_counts()
        copies = self._store.duplicates()
        ranked = self._store.ranked(self.context)
        trends = _trends(ranked)
        public = self._store.best(self.context)
        best = self._final(public, ranked) if reveal else public
        names = self._competition.leaderboard.baseline_teams
        rows = [
            _row(
                entry,
                entry.figures(usage),
                params=entry.params,
                place=place,
                entries=counts[entry.team],
                duplicates=_others(copies.get(entry.submission, ()), entry),
                trend=trends.get(entry.team, ()),
            )
            for place, entry in enumerate((e for e in best if e.team not in names), 1)
        ]
        rows = self._with_uncertainty(rows, usage)
        agreement = None
        if reveal:
            rows, agreement = _compared(rows, [entry for entry in public if entry.team not in names])
        baselines = [
            _row(entry, entry.figures(usage), params=entry.params, is_baseline=True)
            for entry in best
            if entry.team in names
        ]
        others, hidden = self._others({(entry.team, entry.name) for entry in ranked})
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
            grouped_by=self._dataset.grouped_by,
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
        withheld = self._competition.leaderboard.withhold_predictions
        usages = ("Public", "Private") if board.usage == "Private" else ("Public",)
        for row in (*board.rows, *board.others):
            kept = self._store.record(self.context, row.submission) if row.submission else None
            if kept is None:
                continue
            record, evidence = kept
            copy = record.for_participant(withhold_predictions=withheld)
            confusion = None
            if evidence is not None and not withheld:
                answers = evidence.labels[list(images.positions)]
                table = confusion_matrix(images.labels, answers, labels=range(len(board.classes)))
                confusion = tuple(map(tuple, table.tolist()))
            yield Details(
                row=row,
                result=copy.result,
                scores={
                    usage: score.model_copy(update={"f1_by_group": None} if withheld else {})
                    for usage, score in record.scores.items()
                    if usage in usages
                },
                confusion=confusion,
                evaluated_at=record.evaluated_at,
                versions=record.versions,
                limits={name: float(value) for name, value in record.limits.model_dump().items()},
                measured=record.used,
                hashes={
                    "submission": record.submission,
                    **record.context.model_dump(),
                    "predictions": copy.predictions,
                    "program": record.program,
                },
            )

    def reports(self) -> Iterator[tuple[str, tuple[EvaluationRecord, Evidence | None]]]:
        """Yield TEAM/NAME and the result of every entry that has one which holds."""
        for entry in self._store.entries():
            kept = self._store.record(self.context, entry.submission)
            if kept is not None:
                yield f"{_file_name(entry.team)}/{_file_name(entry.name)}", kept

    def _final(self, public: Sequence[RankedEntry], ranked: Sequence[RankedEntry]) -> list[RankedEntry]:
        """Return each team's best entry on the private images, of those that count, in order."""
        most = self._competition.leaderboard.selected
        teams: dict[str, list[RankedEntry]] = {entry.team: [] for entry in public}
        for entry in ranked:
            teams[entry.team].append(entry)
        best = []
        for own in teams.values():
            chosen = [entry for entry in own if entry.selected] or own
            counted = sorted(chosen, key=lambda entry: entry.rank_key("Public"))[:most]
            final = [entry for entry in counted if entry.private is not None and entry.private.ranked]
            if final:
                best.append(min(final, key=lambda entry: entry.rank_key("Private")))
        return sorted(best, key=lambda entry: entry.rank_key("Private"))

    def _with_uncertainty(self, rows: list[LeaderboardRow], usage: Usage) -> list[LeaderboardRow]:
        """Add the costs, the intervals, the tie groups and, on the public board, the chance to stay ahead."""
        answers = self._store.answers(self.context, [row.submission for row in rows])
        found = (self._store.record(self.context, row.submission) for row in rows)
        records = [kept[0] if kept else None for kept in found]
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
                    "costs": record.result.costs if record else None,
                    "worst_group_f1": record.scores[usage].worst_group_f1 if record else None,
                    "tie_group": groups[i],
                    "holds": holds[i] if futures else None,
                }
            )
            for i, (row, record) in enumerate(zip(rows, records, strict=True))
        ]

    def _drawn(
        self,
        rows: Sequence[LeaderboardRow],
        answers: dict[str, Labels],
        images: LabelledImages,
        unseen: int | None,
    ) -> Iterator[Floats]:
        """Yield the scores of each row's draws."""
        draws = Resampling(images.labels, len(images.classes), groups=images.groups, unseen=unseen)
        for row in rows:
            f1 = draws.macro_f1(images.own(answers[row.submission]))
            yield self._scorer.drawn(row.macs_ratio or 0, f1, images.usage)

    def _reference_row(self, usage: Usage) -> LeaderboardRow:
        """Return the row of the baseline that all scores are relative to."""
        reference = self._reference
        f1 = reference.f1_on(usage)
        score = self._scorer.score(Counts.of(reference), f1, usage)
        assert score is not None  # the reference has been checked
        return LeaderboardRow(
            id=_row_id("", reference.name, "reference"),
            place=None,
            is_baseline=True,
            team="",
            name=reference.name,
            submitted_at=None,
            macs=reference.macs,
            macro_f1=f1,
            params=reference.params,
            costs=reference.costs,
            **{k: v for k, v in score._asdict().items() if k in LeaderboardRow.model_fields},
        )

    def _others(self, ranked: set[tuple[str, str]]) -> tuple[list[LeaderboardRow], int]:
        """Return the unranked and the stale entries that are shown, and how many more there are."""
        rows = [
            _row(entry, entry.public, params=entry.params, reason=entry.reason)
            for entry in self._store.unranked(self.context)
        ]
        contexts = self._store.contexts()
        current = ranked | {(row.team, row.name) for row in rows}
        stale = {}
        for entry in self._store.stale(self.context):  # the latest result of each entry is the last
            if (entry.team, entry.name) in current:
                continue  # its team has handed in another content since
            changed = contexts[entry.context].changed(self._holds_under)
            reason = f"evaluated under another {', '.join(changed)}"
            stale[entry.team, entry.name] = _row(entry, None, score=entry.score, stale=changed, reason=reason)
        others = [*stale.values(), *rows]
        return others[:MOST_OTHERS], max(0, len(others) - MOST_OTHERS)


def _trends(ranked: Iterable[RankedEntry]) -> dict[str, tuple[TrendPoint, ...]]:
    """Return each team's best score over time: one point for each time that it got better."""
    points: dict[str, list[TrendPoint]] = {}
    for entry in ranked:
        own = points.setdefault(entry.team, [])
        if not own or entry.public.score < own[-1].score:
            own.append(TrendPoint(at=entry.submitted_at, score=entry.public.score))
    return {team: tuple(own) for team, own in points.items()}


def _row(
    entry: RankedEntry | UnrankedEntry | StaleEntry, figures: Figures | None, **fields: Any
) -> LeaderboardRow:
    own = vars(figures) if figures is not None else {}
    return LeaderboardRow(
        id=_row_id(entry.team, entry.name, entry.submission),
        submission=entry.submission,
        team=entry.team,
        name=entry.name,
        submitted_at=entry.submitted_at,
        macs=entry.macs,
        **{name: value for name, value in own.items() if name != "ranked"},
        **{"place": None, **fields},
    )


def _row_id(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _file_name(text: str) -> str:
    """Return a stranger's text as one part of a path; no two texts become the same."""
    name = "".join(c if c.isalnum() or c in " -_." else "_" for c in inline(text)).strip(" .")
    return name if name == text else f"{name}-{_row_id(text)}".lstrip("-")


def _others(copies: Iterable[tuple[str, str]], entry: Entry) -> tuple[str, ...]:
    return tuple(f"{team}/{name}" for team, name in copies if (team, name) != (entry.team, entry.name))


def _merged(rows: Sequence[LeaderboardRow], baselines: Sequence[LeaderboardRow]) -> list[LeaderboardRow]:
    """Return ranked rows with the baselines where their score puts them; a tie is the entry's."""
    return sorted([*rows, *baselines], key=lambda row: (row.score or 0, row.is_baseline, row.place or 0))


def _compared(
    rows: Sequence[LeaderboardRow], public: Sequence[Entry]
) -> tuple[list[LeaderboardRow], float | None]:
    """Add each row's place on the public board; return how far the two orders agree."""
    from scipy.stats import kendalltau  # noqa: PLC0415 - a second of import

    before = {entry.team: place for place, entry in enumerate(public, 1)}
    rows = [row.model_copy(update={"public_place": before[row.team]}) for row in rows]
    places = [row.public_place for row in rows]
    if len(rows) < 2:
        return rows, None
    return rows, float(kendalltau(places, range(len(rows))).statistic)
