"""The command `starter doctor`: what this machine has, what it lacks, and how to get it."""

import importlib.metadata
import os
import platform
from collections.abc import Callable, Iterator

import typer

from starter.cli.common import DataOption, RulesOption, open_data, out
from starter.cli.exits import EXIT_HOST
from starter.contract.competition import CompetitionFile, load_competition
from starter.contract.errors import StarterError
from starter.contract.isolation import NEVER_ISOLATED, TRUST, Isolation, Level, Trust
from starter.contract.system.processors import PASSIVE, available, waiting
from starter.report.terminal import print_line
from starter.sandbox.choice import least_for, try_level

_REMEDIES = {
    Level.BOX: (
        "install bubblewrap 0.8 or newer (apt install bubblewrap, dnf install bubblewrap) and allow user "
        "namespaces: sysctl user.max_user_namespaces; on Ubuntu 24.04 also "
        "kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for bwrap"
    ),
    Level.LOCKDOWN: "use Linux 6.2 or newer with Landlock (lsm=landlock), on x86-64 or arm64",
}


def doctor(data: DataOption = None, competition: RulesOption = None) -> None:
    """Show what this machine has, what it lacks and how to get it."""
    rules = load_competition(competition)
    print_line(out, f"ok    python {platform.python_version()}, {platform.system()} {platform.release()}")
    for package in ("torch", "torchvision", "thop", "scikit-learn"):
        print_line(out, f"ok    {package} {importlib.metadata.version(package)}")
    _threads()
    works = _environment(rules) & _isolation(rules)
    for what, check in (("data set", lambda: _data(data, rules)), ("baseline", lambda: _baseline(rules))):
        works &= _try(what, check)
    if not works:
        raise typer.Exit(EXIT_HOST)


def _threads() -> None:
    """Print how many threads compute, the reason for that number, and how they wait."""
    processors, chosen = available(), waiting(os.environ)
    print_line(
        out, f"ok    {processors.threads} thread{'s' if processors.threads != 1 else ''}: {processors}"
    )
    how = "passively" if chosen == PASSIVE else "as your environment sets it"
    print_line(
        out, f"ok    threads wait {how}: {' '.join(f'{name}={value}' for name, value in chosen.items())}"
    )


def _environment(rules: CompetitionFile) -> bool:
    """Say which packages the rules name, and what is installed of them; say whether the rules can be read."""
    from starter.organizer.environment import differing, install_command, overview

    try:
        wrong = {found.name: found for found in differing(rules)}
        named = [row for row in overview(rules) if row[2] is not None]
    except StarterError as error:
        for line in _lines(error):
            print_line(out, f"FAIL  environment: {line}")
        return False
    for package, version, asked in named:
        print_line(out, f"{'no  ' if package in wrong else 'ok  '}  {package} {version} ({asked or 'any'})")
    if wrong:
        print_line(out, f"      to get what the rules name: {install_command([*wrong.values()], rules)}")
    return True


def _isolation(rules: CompetitionFile) -> bool:
    """Try each level with a worker that attacks its own sandbox; print what each kind of command gets."""
    best = Isolation(Level.NONE)
    for level in (Level.BOX, Level.LOCKDOWN):
        found = try_level(level, rules)
        if isinstance(found, str):
            print_line(out, f"no    isolation {level}: {found.splitlines()[-1]}")
            print_line(out, f"      to get it: {_REMEDIES[level]}")
            continue
        best = max(best, found, key=lambda isolation: isolation.level.rank)
        print_line(out, f"ok    isolation {level}{_inside(level)}, as {_who(found)}")
    works = True
    for trust in Trust:
        isolating = (name for name, whose in TRUST.items() if whose is trust and name not in NEVER_ISOLATED)
        commands = ", ".join(isolating)
        least = least_for(rules, trust)
        if best.level.rank >= least.rank:
            print_line(out, f"ok    {trust} runs at isolation {best.level} ({commands})")
            continue
        refused_by = "the competition" if rules.isolation else "this command"
        print_line(
            out, f"{'FAIL' if trust is Trust.OWN else 'no  '}  {trust} needs isolation {least} ({commands})"
        )
        print_line(out, f"      {refused_by} requires it; if you trust the code, add --isolation none")
        works &= trust is not Trust.OWN
    return works


def _inside(level: Level) -> str:
    """Say if the box runs without Landlock, and why."""
    from starter.sandbox import lockdown

    lacks = lockdown.missing() if level is Level.BOX else ""
    return f", without Landlock in it: {lacks}" if lacks else ""


def _who(isolation: Isolation) -> str:
    """Return which user runs a plugin; if it is root, also why."""
    if isolation.why_root:
        return f"root without capabilities, because the worker's own user fails: {isolation.why_root}"
    is_root = hasattr(os, "getuid") and os.getuid() == 0
    return f"user {isolation.user}" if is_root else "you"


def _try(what: str, check: Callable[[], str]) -> bool:
    try:
        print_line(out, f"ok    {what} {check()}")
    except StarterError as error:
        for line in _lines(error):
            print_line(out, f"FAIL  {what}: {line}")
        return False
    return True


def _lines(error: StarterError) -> Iterator[str]:
    for found in error.problems:
        yield f"{found.code} {found.where}: {found.got}. {found.hint}"


def _data(data: DataOption, rules: CompetitionFile) -> str:
    dataset = open_data(data, rules)
    return f"{dataset.info.name}: {len(dataset.solution())} evaluation images at {dataset.root}"


def _baseline(rules: CompetitionFile) -> str:
    from starter.evaluation.evaluate import read_reference

    folder = rules.path(rules.baseline)
    reference = read_reference(folder)
    return f"{folder}: {reference.macs:,} MACs, macro F1 {reference.macro_f1:.4f}"
