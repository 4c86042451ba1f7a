"""`starter baseline ...`: measure the baseline and check it."""

from pathlib import Path
from typing import Annotated

import typer

from starter.cli.common import (
    DataOption,
    OwnIsolationOption,
    RulesOption,
    isolation_for,
    open_data,
    out,
    progress,
)
from starter.contract.competition import CompetitionFile, load_competition
from starter.contract.errors import StarterError
from starter.contract.results import Reference
from starter.contract.submissions import discover_one
from starter.report.terminal import print_line

baseline_app = typer.Typer(
    help="Measure the baseline that all scores are relative to.", no_args_is_help=True, rich_markup_mode=None
)

BaselinePath = Annotated[
    Path | None, typer.Argument(help="Folder of the baseline; default: the competition's.")
]
PhaseOption = Annotated[
    str | None, typer.Option("--phase", help="Use the baseline and the data set of this phase.")
]


@baseline_app.command("measure")
def measure(
    path: BaselinePath = None,
    phase: PhaseOption = None,
    data: DataOption = None,
    competition: RulesOption = None,
    isolation: OwnIsolationOption = None,
) -> None:
    """Measure the baseline on all images and write its reference.json."""
    from starter.evaluation.baseline import changes, write_reference

    rules = _rules(competition, phase)
    folder = path or rules.path(rules.baseline)
    old = _old_reference(folder)
    reference = _measured("baseline measure", folder, data, rules, isolation)
    written = write_reference(reference, folder)
    print_line(out, f"{written}  MACs {reference.macs:,}  macro-F1 {reference.macro_f1:.4f}")
    if old is None:
        return
    changed = changes(old, reference)
    for name, before, now in changed:
        print_line(out, f"  {name}: {before} -> {now}")
    if not changed:
        print_line(out, "  no figure has changed")


@baseline_app.command("check")
def check(
    path: BaselinePath = None,
    phase: PhaseOption = None,
    data: DataOption = None,
    competition: RulesOption = None,
    isolation: OwnIsolationOption = None,
) -> None:
    """Measure the baseline again and fail if it differs from its reference.json."""
    from starter.evaluation.baseline import F1_TOLERANCE, figures
    from starter.evaluation.baseline import check as check_again
    from starter.evaluation.evaluate import REFERENCE_FILE, read_reference

    rules = _rules(competition, phase)
    folder = path or rules.path(rules.baseline)
    reference = read_reference(folder)
    measured = _measured("baseline check", folder, data, rules.counted_as(reference), isolation)
    check_again(reference, measured, folder / REFERENCE_FILE)
    for name, figure in figures(measured).items():
        print_line(out, f"ok  {name}  {f'{figure:,}' if isinstance(figure, int) else figure}")
    print_line(
        out, f"ok  macro_f1  {measured.macro_f1:.4f}, reference {reference.macro_f1:.4f} +- {F1_TOLERANCE}"
    )
    print_line(out, f"{folder}: matches {REFERENCE_FILE}")


def _rules(competition: Path | None, phase: str | None) -> CompetitionFile:
    """Return the rules of a phase; without a name the competition's own, whatever has opened."""
    rules = load_competition(competition)
    return rules if phase is None else rules.in_phase(phase)


def _measured(
    command: str, folder: Path, data: Path | None, rules: CompetitionFile, requested: str | None
) -> Reference:
    from starter.evaluation.baseline import measure as measure_one

    source, dataset = discover_one(folder), open_data(data, rules)
    isolation = isolation_for(command, rules, requested)
    with progress("measuring the baseline"):
        return measure_one(source, rules, dataset, made_by=f"starter {command}", isolation=isolation)


def _old_reference(folder: Path) -> Reference | None:
    """Return the old reference if it can be read; measuring again replaces an unreadable one."""
    from starter.evaluation.evaluate import read_reference

    try:
        return read_reference(folder)
    except StarterError:
        return None
