"""What `starter batch` prints: its plan, each result, and how it ended."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from starter.cli.common import err, out, write_json
from starter.cli.exits import EXIT_OK, EXIT_PARTICIPANT
from starter.contract.errors import Problem, Status
from starter.contract.text import inline, listed
from starter.report.problems import MOST_TOLD, print_found
from starter.report.terminal import print_line

if TYPE_CHECKING:
    from starter.evaluation.records import EvaluationRecord
    from starter.organizer.batch import Progress
    from starter.organizer.plan import PlannedEntry


class Results:
    """Collects records, and shows each as it comes.

    Args:
        tick: moves the bar.
    """

    def __init__(self, tick: Callable[[int, int, str], None]) -> None:
        self._tick = tick
        self.records: list[EvaluationRecord] = []

    def add(self, state: "Progress", record: "EvaluationRecord") -> None:
        """Take one result."""
        self._tick(state.done, state.total, record.result.name)
        if not err.is_terminal:
            print_line(err, f"{state.done}/{state.total}  {record_line(record)}")
        self.records.append(record)


def record_line(record: "EvaluationRecord") -> str:
    """Return a result on one line."""
    result = record.result
    if result.score is not None:
        return f"{inline(result.name)}  ok  score {result.score:.4f}"
    return f"{inline(result.name)}  {result.status}  {result.error.code if result.error else ''}".rstrip()


def entry_name(entry: "PlannedEntry") -> str:
    """Return TEAM/NAME."""
    return f"{inline(entry.source.team)}/{inline(entry.source.name)}"


def _left_out(entry: "PlannedEntry") -> str:
    return f"  ignored: {listed([*map(inline, entry.left_out)])}" if entry.left_out else ""


def _short(problem: Problem) -> str:
    """Return a problem of an entry's files on one line; of a zip with the member."""
    _, _, member = problem.where.partition(".zip: ")
    return inline(f"{problem.code} {member}{': ' if member else ''}{problem.got}")


def show_left_out(entries: "Iterable[PlannedEntry]") -> None:
    """Say which files of zips are left out."""
    partial = [entry for entry in entries if entry.left_out]
    for entry in partial[:MOST_TOLD]:
        print_line(err, f"{entry_name(entry)}{_left_out(entry)}")
    if partial[MOST_TOLD:]:
        print_line(
            err, f"... and {len(partial) - MOST_TOLD:,} more entries leave files out: --json names all"
        )


def as_json(entries: "Sequence[PlannedEntry]", records: "Sequence[EvaluationRecord]") -> dict[str, object]:
    """Return what --json writes."""
    return {
        "entries": [
            {
                "team": entry.source.team,
                "name": entry.source.name,
                "submission": entry.submission,
                "action": entry.action.value,
                "refused": entry.refused,
            }
            | ({"problems": [p.model_dump(mode="json") for p in entry.problems]} if entry.problems else {})
            | ({"left_out": list(entry.left_out)} if entry.left_out else {})
            for entry in entries
        ],
        "results": [record.for_participant().model_dump(mode="json") for record in records],
    }


def show_plan(entries: "Sequence[PlannedEntry]", json_to: str | None) -> int:
    """Show what would become of each entry, and what is wrong with its files; return the exit code."""
    from starter.organizer.plan import Action

    if json_to is not None:
        write_json(json_to, as_json(entries, []))
    for entry in entries if json_to != "-" else ():
        reason = "".join(f"  {text}" for text in (entry.refused, *map(_short, entry.problems[:1])) if text)
        print_line(out, f"{entry.outcome:9}  {entry_name(entry)}{reason}{_left_out(entry)}")
    counts = Counter(entry.outcome for entry in entries)
    if json_to != "-":
        print_line(out)
        print_line(out, f"{len(entries)} entries: {_counts(counts, counts)}")
    print_found(err, [(str(entry.source.path), problem) for entry in entries for problem in entry.problems])
    print_line(err, "nothing was evaluated: --dry-run")
    fails = any(entry.problems or entry.action is Action.REFUSED for entry in entries)
    return EXIT_PARTICIPANT if fails else EXIT_OK


def show_end(entries: "Sequence[PlannedEntry]", statuses: "Counter[Status]") -> None:
    """Say what was done with the entries, and how it went."""
    counts = Counter(entry.action.value for entry in entries)
    now = counts.pop("evaluate", 0)
    parts = ([f"{now} evaluated now"] if now else []) + [f"{n} {name}" for name, n in counts.items()]
    print_line(out, f"{len(entries)} entries: {', '.join(parts)}")
    if statuses:
        results = Counter({status.value: n for status, n in statuses.items()})
        print_line(out, f"{statuses.total()} results: {_counts(results, Status)}")
    if statuses[Status.HOST_ERROR]:
        print_line(err, "Some entries failed because of this machine; rerun with `--retry host`.")
    print_line(err, "next: starter leaderboard")


def _counts(counts: "Counter[str]", order: Iterable[str]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in order if counts[name])
