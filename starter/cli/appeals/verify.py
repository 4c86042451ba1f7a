"""The command `starter verify`: prove reports by computing them again, and a store by its audit trail."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from starter.cli.common import (
    DataOption,
    JsonOption,
    RulesOption,
    StoreOption,
    open_data,
    out,
    progress,
    store_url,
    write_json,
)
from starter.cli.organize.phases import PhaseOption
from starter.contract.competition import load_competition
from starter.contract.errors import Code, Problem, UsageError, problem, usage_error
from starter.contract.text import inline
from starter.report.terminal import print_line

if TYPE_CHECKING:
    from starter.contract.competition import CompetitionFile
    from starter.organizer.audit.proof import Proof


def verify(
    result: Annotated[
        Path | None,
        typer.Argument(
            help="A report (result.json or its folder) or a folder of reports; default: the store's trail."
        ),
    ] = None,
    store: StoreOption = None,
    head: Annotated[
        str | None, typer.Option(help="A hash that was published as the head: the trail must hold it.")
    ] = None,
    phase: PhaseOption = None,
    data: DataOption = None,
    competition: RulesOption = None,
    json_to: JsonOption = None,
) -> None:
    """Check reports by recomputing them, and a store by its audit trail."""
    rules = load_competition(competition).in_phase(phase)
    found: dict[str, Any] = {}
    problems: list[Problem] = []
    if result is not None:
        found["checks"], wrong = _reports(result, rules, data, quiet=json_to == "-")
        problems += wrong
    if result is None or store is not None or head is not None:
        found["trail"], wrong = _trail(store_url(store, rules), head or "", quiet=json_to == "-")
        problems += wrong
    if json_to is not None:
        write_json(json_to, found)
    if problems:
        raise UsageError(problems)


def _trail(url: str, published: str, *, quiet: bool) -> tuple[dict[str, Any], list[Problem]]:
    """Prove a store; return what was found and what is wrong."""
    from starter.organizer.store.store import Store

    with Store(url) as kept:
        proof = kept.prove(published.removeprefix("sha256:"))
        if not quiet:
            _show(proof, kept.name)
    wrong = [problem(Code.TRAIL_BROKEN, where=one.where, got=one.got) for one in proof.breaks]
    return vars(proof) | {"breaks": [vars(one) for one in proof.breaks]}, wrong


def _show(proof: "Proof", name: str) -> None:
    state = "differs" if proof.breaks else "ok"
    print_line(
        out,
        f"{state:7}  {inline(name)}  {proof.rows:,} rows of the trail, {proof.entries:,} entries, "
        f"{proof.results:,} results",
    )
    if proof.published is not None:
        print_line(out, f"the published head is row {proof.published:,}")
    print_line(out, f"head     sha256:{proof.head}")


def _reports(
    result: Path, rules: "CompetitionFile", data: Path | None, *, quiet: bool
) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Compute the figures of reports again; return all of them, and those that differ."""
    from starter.evaluation.evaluate import read_reference
    from starter.evaluation.runner.process import Runner
    from starter.evaluation.verify import RECORD, read_report
    from starter.evaluation.verify import verify as checks

    reference = read_reference(rules.path(rules.baseline))
    dataset = open_data(data, rules)
    paths: Sequence[Path] = sorted(result.rglob(RECORD)) if result.is_dir() else [result]
    if not paths:
        raise usage_error(Code.BAD_REPORT, where=str(result), got=f"no {RECORD}")
    problems: list[Problem] = []
    rows: list[dict[str, Any]] = []
    with Runner.of(rules.counted_as(reference), dataset.root) as runner, progress("verifying") as tick:
        for count, path in enumerate(paths, 1):
            record, evidence = read_report(path, dataset)
            found = list(
                checks(
                    record,
                    evidence,
                    dataset=dataset,
                    competition=rules,
                    reference=reference,
                    runner=runner,
                )
            )
            wrong = [check for check in found if not check.holds]
            rows += [vars(check) | {"result": str(path), "holds": check.holds} for check in found]
            if not quiet:
                word = "differs" if wrong else "ok"
                print_line(out, f"{word:7}  {path}  {len(found) - len(wrong)} of {len(found)}")
            problems += [
                problem(
                    Code.NOT_VERIFIED,
                    where=f"{path}: {check.name}",
                    expected=str(check.said),
                    got=str(check.found),
                )
                for check in wrong
            ]
            tick(count, len(paths))
    return rows, problems
