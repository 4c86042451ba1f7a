"""The command `starter env`, and how `starter batch` holds to the environment that the rules name."""

from pathlib import Path
from typing import Annotated

import typer

from starter.cli.common import RulesOption, can_be_made, err, out
from starter.contract.competition import CompetitionFile, load_competition
from starter.contract.text import typed
from starter.report.terminal import print_line

AnyEnvironmentOption = Annotated[
    bool,
    typer.Option(
        "--any-environment", help="Evaluate even if other versions are installed than the rules name."
    ),
]


def env(
    target: Annotated[
        Path | None,
        typer.Option(
            "--out", callback=can_be_made, dir_okay=False, help="Write the installed versions as a lock file."
        ),
    ] = None,
    competition: RulesOption = None,
) -> None:
    """Show what a plugin may import, or lock the versions that are installed."""
    from starter.organizer.environment import overview, write_lock

    rules = load_competition(competition)
    if target is not None:
        count = write_lock(rules, target)
        print_line(out, f"{target}  {count} packages")
        installs = typed("pip", "install", "--require-hashes", "-r", target)
        print_line(err, f'next: lock = "{target.name}" under [environment] in competition.toml; {installs}')
        return
    rows = list(overview(rules))
    width = max(len(name) for name, _, _ in rows)
    for name, version, asked in rows:
        print_line(out, f"{name:{width}}  {version}{f'  ({asked})' if asked else ''}")
    if rules.environment.packages is None:
        print_line(err, "competition.toml names no packages: a plugin may import whatever is installed.")


def in_environment(rules: CompetitionFile, *, any_environment: bool) -> CompetitionFile:
    """Return the rules if this is the environment that they name; where any will do, say how it differs.

    Raises:
        UsageError: U180.
    """
    from starter.organizer.environment import differing, require_environment

    if not any_environment:
        require_environment(rules)
        return rules
    for found in differing(rules):
        print_line(err, f"another environment: {found.name} {found.found}, not {found.expected}")
    return rules
