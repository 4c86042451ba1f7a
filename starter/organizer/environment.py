"""The environment of a competition: whether this is the one that its rules name, and its lock file."""

import contextlib
import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from starter import __version__
from starter.contract.competition import CompetitionFile
from starter.contract.errors import Code, Problem, UsageError, problem, usage_error
from starter.contract.system.extras import require_extra
from starter.contract.system.files import write_whole
from starter.contract.system.packages import (
    KIT,
    Difference,
    allowed_packages,
    differences,
    installed_version,
    locked,
    pinned,
    requirement,
)
from starter.contract.text import read_text, typed

_LOCKS = (
    "--generate-hashes", "--universal", "--no-header", "--no-annotate", "--quiet", "--color=never",
    "--no-emit-index-url", "--no-emit-find-links", "--no-emit-index-annotation", "--no-emit-build-options",
)  # fmt: skip
"""What uv is asked for: every file's hash, for every system, without naming where it found them."""


def asked_for(rules: CompetitionFile) -> list[Requirement]:
    """Return the versions that the rules name: the packages that they allow, and the lock's.

    Raises:
        UsageError: the lock is missing or not valid.
    """
    packages = [requirement(text) for text in rules.environment.packages or ()]
    return packages + _lock(rules)


def _lock(rules: CompetitionFile) -> list[Requirement]:
    name = rules.environment.lock
    if name is None:
        return []
    try:
        return locked(read_text(rules.path(name)))
    except (OSError, ValueError) as error:  # a text that cannot be decoded is a ValueError too
        hint = f"Write it again: {typed('starter', 'env', '--out', name)}"
        where = f"{rules.path(name)}: environment.lock"
        raise usage_error(Code.BAD_COMPETITION, where=where, got=str(error), hint=hint) from error


def differing(rules: CompetitionFile) -> list[Difference]:
    """Return the packages of the rules that are not installed as they name them, each once.

    Raises:
        UsageError: as `asked_for`.
    """
    return list({found.name: found for found in differences(asked_for(rules))}.values())


def require_environment(rules: CompetitionFile) -> None:
    """Refuse another environment than the one that the rules name.

    Raises:
        UsageError: U180, with a problem for each package that differs; or as `asked_for`.
    """
    if found := differing(rules):
        raise UsageError([_problem(one, rules) for one in found])


def _problem(found: Difference, rules: CompetitionFile) -> Problem:
    return problem(
        Code.OTHER_ENVIRONMENT,
        where="competition.toml: environment",
        expected=found.expected,
        got=f"{found.name} {found.found}",
        hint=f"{install_command([found], rules)}; to evaluate in this environment anyway: --any-environment",
    )


def install_command(found: Sequence[Difference], rules: CompetitionFile) -> str:
    """Return the command that installs what differs."""
    if lock := rules.environment.lock:
        return typed("pip", "install", "--require-hashes", "-r", rules.path(lock))
    return typed("pip", "install", *(one.expected for one in found))


def installed_here(rules: CompetitionFile) -> dict[str, str]:
    """Return the installed version of every package that the rules name."""
    return {one.name: installed_version(one.name) for one in asked_for(rules)}


def require_versions(versions: dict[str, str]) -> None:
    """Refuse a node of a cluster on which other versions are installed than on the driver.

    Raises:
        UsageError: U180.
    """
    found = [(name, version, installed_version(name)) for name, version in versions.items()]
    hint = "Install the driver's versions on every node."
    if problems := [
        problem(
            Code.OTHER_ENVIRONMENT,
            where="a node",
            expected=f"{name} {wanted}",
            got=f"{name} {own} there, {wanted} here",
            hint=hint,
        )
        for name, wanted, own in found
        if wanted != own
    ]:
        raise UsageError(problems)


def overview(rules: CompetitionFile) -> Iterator[tuple[str, str, str | None]]:
    """Yield each package that a plugin may import: name, installed version, versions that the rules ask for.

    The last is empty where any will do, and None for what the rules do not name.
    """
    asked: dict[str, str] = {canonicalize_name(one.name): str(one.specifier) for one in asked_for(rules)}
    names = [*asked, *sorted(allowed_packages(rules.environment.packages or ()) - asked.keys() - {KIT})]
    yield from ((name, installed_version(name), asked.get(name)) for name in names)


def write_lock(rules: CompetitionFile, target: Path) -> int:
    """Lock what is installed of the kit's and the allowed packages, with the hashes of their files.

    Returns:
        int: how many packages there are.

    Raises:
        UsageError: the target exists (U106), uv is not installed (U501), or it finds no such set (U181).
    """
    if target.exists():
        raise usage_error(Code.TARGET_EXISTS, where=str(target), got="it already exists")
    python = ".".join(platform.python_version_tuple()[:2])
    command = [_uv(), "pip", "compile", "-", *_LOCKS, "--python-version", python]
    asked = "\n".join(pinned(rules.environment.packages or ()))
    run = subprocess.run(command, input=asked, capture_output=True, text=True, check=False)  # noqa: S603
    pins = locked(run.stdout) if run.returncode == 0 else []
    if not pins or "://" in run.stdout:
        got = run.stderr.strip()[-2000:] or "it answers with something else than pinned versions"
        raise usage_error(Code.LOCK_FAILED, where="uv pip compile", got=got)
    head = (
        f"# Every version that a plugin finds, for Python {python} and starter {__version__}, with hashes.\n"
        f"# To install: {typed('pip', 'install', '--require-hashes', '-r', target.name)}\n"
    )
    write_whole(target, head + run.stdout)
    return len(pins)


def _uv() -> str:
    """Return where the program uv is.

    Raises:
        UsageError: U501, it is not installed.
    """
    with contextlib.suppress(ImportError, FileNotFoundError):
        from uv import find_uv_bin  # noqa: PLC0415 - an optional package

        return find_uv_bin()
    if found := shutil.which("uv"):
        return found
    require_extra("uv", "starter env --out")
    raise usage_error(Code.LOCK_FAILED, where="uv", got="its package is installed, its program is not")
