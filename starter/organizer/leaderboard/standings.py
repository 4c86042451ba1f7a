"""Make the leaderboard from the store: places, ties, luck, and what became of everything else."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise, starmap

from starter.contract.competition import CompetitionFile
from starter.contract.errors import Code, usage_error
from starter.contract.results import Reference
from starter.data.dataset import SOLUTION_NAME, Dataset
from starter.evaluation.bootstrap import Floats, Resampling, chance_ahead, interval, tie_groups
from starter.evaluation.labelled import LabelledImages, Usage
from starter.evaluation.records import Context, EvaluationRecord, Evidence
from starter.evaluation.scorer import Scorer
from starter.evaluation.scoring import Counts
from starter.organizer.leaderboard.model import Board, Details, LeaderboardRow
from starter.organizer.leaderboard.ranking import Ranking
from starter.organizer.leaderboard.ranks import RankAverage, by_score, scored
from starter.organizer.leaderboard.rows import (
    compared,
    copies_of,
    file_name,
    merged,
    row_id,
    row_of,
    trends_of,
)
from starter.organizer.store.model import Standing
from starter.organizer.store.rows import Labels
from starter.organizer.store.store import Store

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
        now: when the board is made; later entries are left out. None: now, and all entries.
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
        self._rules = competition.score
        self._scorer = Scorer(reference, self._rules)
        self._now = now or datetime.now(UTC)
        self._holds_under = Context.of(competition, dataset.fingerprint(), reference)
        self.context = store.known_context(self._holds_under) or _NO_CONTEXT
        self._ranking = Ranking(store, self.context, competition, now)

    def board(self, *, reveal: bool = False) -> Board:
        """Return the public board, or the final one on the private images."""
        usage = self._usage(reveal=reveal)
        counts = self._ranking.counts()
        copies = self._store.duplicates()
        ranked = self._ranking.ranked()
        trends = {} if self._rules.averages_ranks else trends_of(ranked)
        names = self._competition.leaderboard.baseline_teams
        public = self._ranking.public(ranked)
        best = self._ranking.final(ranked) if reveal else public
        competing = [entry for entry in best if entry.team not in names]
        rows = [
            row_of(
                entry,
                entry.figures(usage),
                params=entry.params,
                place=place,
                entries=counts[entry.team],
                duplicates=copies_of(copies.get(entry.submission, ()), entry),
                trend=trends.get(entry.team, ()),
            )
            for place, entry in enumerate(competing, 1)
        ]
        shown = (
            row_of(entry, entry.figures(usage), params=entry.params, is_baseline=True)
            for entry in best
            if entry.team in names
        )
        baselines = [self._reference_row(usage), *shown]
        before = (
            [row_of(entry, entry.public) for entry in public if entry.team not in names] if reveal else []
        )
        if self._rules.averages_ranks:
            baselines = [scored([*rows, row], self._ranks([*rows, row]))[-1] for row in baselines]
            rows, before = (by_score(scored(some, self._ranks(some))) for some in (rows, before))
        rows = self._with_uncertainty(rows, usage)
        rows, agreement = compared(rows, before) if reveal else (rows, None)
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
            rows=tuple(merged(rows, baselines)),
            others=tuple(others),
            more_others=hidden,
            num_teams=len(counts),
            num_entries=sum(counts.values()),
            agreement=agreement,
            phase=phase.name if (phase := self._competition.phase) else "",
            reveal_at=None if reveal else self._reveal_at(),
        )

    def _usage(self, *, reveal: bool) -> Usage:
        """Return whose images a board is of.

        Raises:
            UsageError: U202, the data set has none of them.
        """
        usage: Usage = "Private" if reveal else "Public"
        if usage not in self._reference.macro_f1_by_usage:
            raise usage_error(
                Code.BAD_DATASET,
                where=f"{self._dataset.root / SOLUTION_NAME}, for the {usage} board",
                expected=f"{usage} images",
                got="a data set without one",
                hint="A bundle holds the Public images only: reveal in the organizer's own folder.",
            )
        return usage

    def _reveal_at(self) -> datetime | None:
        """Return when the private figures will be shown, if that is to come."""
        calendar = self._competition.calendar
        return None if calendar.is_revealed(self._now) else calendar.reveal

    def standing(self, team: str, *, reveal: bool = False) -> Standing | None:
        """Return a team's place on the public board, or on the final one; None where it has none."""
        if not self._rules.averages_ranks:
            return self._ranking.standing(team, reveal=reveal)
        rows = [row for row in self.board(reveal=reveal).rows if row.place is not None]
        own = (row for row in rows if row.team == team)
        return next((Standing(row.place or 0, len(rows), row.score or 0) for row in own), None)

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
        for entry in self._ranking.own(self._store.entries()):
            kept = self._store.record(self.context, entry.submission)
            if kept is not None:
                yield f"{file_name(entry.team)}/{file_name(entry.name)}", kept

    def _with_uncertainty(self, rows: list[LeaderboardRow], usage: Usage) -> list[LeaderboardRow]:
        """Add the costs, the intervals, the tie groups and, on the public board, the chance to stay ahead."""
        answers = self._store.answers(self.context, [row.submission for row in rows])
        kept = [self._store.record(self.context, row.submission) for row in rows]
        records = [found[0] if found else None for found in kept]
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
        f1s = (draws.macro_f1(images.own(answers[row.submission])) for row in rows)
        if self._rules.averages_ranks:
            yield from self._ranks(rows).mean([*f1s]) if rows else ()
            return
        for row, f1 in zip(rows, f1s, strict=True):
            yield self._scorer.drawn(row.macs_ratio or 0, f1, images.usage)

    def _ranks(self, rows: Sequence[LeaderboardRow]) -> RankAverage:
        """Return what ranks rows by their costs; the baseline's own row by the reference's."""
        counts = []
        for row in rows:
            kept = self._store.record(self.context, row.submission) if row.submission else None
            counts.append(Counts.of(kept[0].result if kept else self._reference))
        return RankAverage(counts, self._rules)

    def _reference_row(self, usage: Usage) -> LeaderboardRow:
        """Return the row of the baseline that all scores are relative to."""
        reference = self._reference
        f1 = reference.f1_on(usage)
        score = self._scorer.score(Counts.of(reference), f1, usage)
        assert score is not None  # the reference has been checked
        return LeaderboardRow(
            id=row_id("", reference.name, "reference"),
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
            row_of(entry, entry.public, params=entry.params, reason=entry.reason)
            for entry in self._ranking.own(self._store.unranked(self.context))
        ]
        contexts = self._store.contexts()
        current = ranked | {(row.team, row.name) for row in rows}
        stale = {}
        # Of each entry the latest result is the last.
        for entry in self._ranking.own(self._store.stale(self.context)):
            if (entry.team, entry.name) in current:
                continue  # its team has submitted another content since
            changed = contexts[entry.context].changed(self._holds_under)
            reason = f"evaluated under another {', '.join(changed)}"
            stale[entry.team, entry.name] = row_of(
                entry, None, score=entry.score, stale=changed, reason=reason
            )
        others = [*stale.values(), *rows]
        return others[:MOST_OTHERS], max(0, len(others) - MOST_OTHERS)
