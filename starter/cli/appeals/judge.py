"""`starter rejudge` and `starter diff`: evaluate entries again, and say what makes two results differ."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from starter.cli.appeals.decisions import ReasonOption
from starter.cli.common import (
    DataOption,
    IsolationOption,
    JsonOption,
    RulesOption,
    StoreOption,
    err,
    out,
    progress,
    store_url,
    write_json,
)
from starter.cli.exits import EXIT_HOST, EXIT_OK
from starter.cli.organize.batch_options import Engine
from starter.cli.organize.batch_output import Results
from starter.cli.organize.env import AnyEnvironmentOption, in_environment
from starter.cli.organize.phases import PhaseOption
from starter.cli.organize.workers import Contest, Engines
from starter.contract.competition import load_competition
from starter.contract.errors import Code, Status, usage_error
from starter.contract.text import inline
from starter.report.terminal import print_line

if TYPE_CHECKING:
    from starter.evaluation.records import EvaluationRecord
    from starter.organizer.appeals.differences import Difference, Judged

_CACHE_MB = 4096
"""The room for decoded images, as `starter batch` has it by default."""

_MOST_SHOWN = 12
"""How many differences of one subject are printed."""

_LONGEST = 60
"""How many characters of a value are printed."""


def rejudge(  # noqa: PLR0913, PLR0917 - the command's options, one to one
    entries: Annotated[
        list[str], typer.Argument(metavar="TEAM/NAME...", help="The entries; TEAM alone is all of a team's.")
    ],
    reason: ReasonOption,
    store: StoreOption = None,
    jobs: Annotated[int, typer.Option(min=1, help="Submissions to evaluate in parallel.")] = 1,
    phase: PhaseOption = None,
    data: DataOption = None,
    competition: RulesOption = None,
    isolation: IsolationOption = None,
    any_environment: AnyEnvironmentOption = False,
    json_to: JsonOption = None,
) -> int:
    """Evaluate chosen entries again, with a reason; the old results are kept."""
    from starter.organizer.appeals.again import planned_again
    from starter.organizer.batch import Batch
    from starter.organizer.store.holding import held
    from starter.organizer.store.store import Store

    rules = load_competition(competition).in_phase(phase)
    contest = Contest.of(in_environment(rules, any_environment=any_environment), data)
    engines = Engines(Engine.LOCAL, jobs, isolation, _CACHE_MB, "auto", 1, 0)
    with Store(store_url(store, contest.rules)) as kept, held(kept.url, "starter rejudge"):
        context = kept.context_id(contest.holds_under), contest.holds_under
        plan = planned_again(kept, entries, contest.rules)
        before = {item.submission: kept.history(item.submission)[:1] for item in plan}
        with progress("judging again", estimate=True) as tick:
            results = Results(tick)
            batch = Batch(plan, kept, context, contest.rules, reason=reason, on_result=results.add)
            end = batch.run(engines.workers(contest, len(plan)))
        number, head = kept.head()
    records = results.records
    if json_to is not None:
        write_json(
            json_to, {"results": [record.for_participant().model_dump(mode="json") for record in records]}
        )
    if json_to != "-":
        _show_verdicts(records, before)
    if failed := end.statuses[Status.HOST_ERROR]:
        print_line(err, f"{failed} failed because of this machine: their old results stay; type it again")
    print_line(err, f"trail: row {number:,}, head sha256:{head}")
    print_line(err, "next: starter diff TEAM/NAME~1 TEAM/NAME")
    return EXIT_HOST if failed else EXIT_OK


def diff(
    first: Annotated[
        str,
        typer.Argument(
            metavar="A", help="result.json, a report, or TEAM/NAME; TEAM/NAME~1: one result before."
        ),
    ],
    second: Annotated[str, typer.Argument(metavar="B", help="What it is compared with.")],
    store: StoreOption = None,
    competition: RulesOption = None,
    json_to: JsonOption = None,
) -> None:
    """Show what differs between two results: data, rules, code, machine, figures."""
    from starter.organizer.appeals.differences import Subject, differences

    one, other = (_judged(name, store, competition) for name in (first, second))
    found = differences(one, other)
    if json_to is not None:
        write_json(json_to, {"differences": [vars(difference) for difference in found]})
    if json_to == "-":
        return
    by_subject = {key: list(own) for key, own in groupby(found, key=lambda difference: difference.subject)}
    for subject in Subject:
        own = by_subject.get(subject, [])
        print_line(out, f"{subject:12} {'' if own else 'the same'}".rstrip())
        for difference in own[:_MOST_SHOWN]:
            print_line(out, f"  {_change(difference)}")
        if own[_MOST_SHOWN:]:
            print_line(out, f"  and {len(own) - _MOST_SHOWN:,} more: --json names all")


def _judged(name: str, url: str | None, competition: Path | None) -> "Judged":
    """Read a record from a file, or else from the store."""
    from starter.evaluation.verify import RECORD
    from starter.organizer.appeals.again import judged
    from starter.organizer.appeals.differences import read_judged
    from starter.organizer.store.store import Store

    if Path(name).is_file() or (Path(name) / RECORD).is_file():
        return read_judged(Path(name))
    if "/" not in name or name.endswith(".json"):
        raise usage_error(Code.BAD_REPORT, where=name, got="no such file, and not TEAM/NAME")
    with Store(store_url(url, load_competition(competition))) as kept:
        return judged(kept, name)


def _change(difference: "Difference") -> str:
    before, after = (_shortened(value) for value in (difference.before, difference.after))
    more = ""
    numbers = difference.before, difference.after
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in numbers):
        more = f"  ({difference.after - difference.before:+,.6g})"
    return inline(f"{difference.name}  {before} -> {after}{more}")


def _shortened(value: Any) -> str:
    text = "none" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _show_verdicts(
    records: "Sequence[EvaluationRecord]", before: "Mapping[str, Sequence[tuple[EvaluationRecord, object]]]"
) -> None:
    """Print what each entry's result was and is, in the order in which they came."""
    for record in records:
        old = before[record.submission]
        earlier = _verdict(old[0][0]) if old else "no result"
        print_line(out, f"{inline(record.result.name)}  {earlier} -> {_verdict(record)}")


def _verdict(record: "EvaluationRecord") -> str:
    result = record.result
    if result.score is not None:
        return f"score {result.score:.6f}"
    return f"{result.status} {result.error.code if result.error else ''}".rstrip()
