"""Which isolation this machine can have, found out by trying, and which a command then gets."""

import contextlib
import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from starter.contract.competition import CompetitionFile, Limits
from starter.contract.errors import Code, host_error
from starter.contract.isolation import Isolation, Level, Trust
from starter.sandbox.protocol import Sandbox
from starter.sandbox.unlocked import UnlockedSandbox

_NEEDED = ((os, "fork"), (os, "pidfd_open"), (socket, "AF_UNIX"), (socket, "send_fds"))
_NEEDED_MODULES = ("fcntl", "resource")


def open_sandbox(
    isolation: Isolation,
    *,
    limits: Limits,
    forks: bool = True,
    preload: bool = True,
    readable: Sequence[Path] = (),
) -> Sandbox:
    """Start a process that submissions run in, one after another.

    Args:
        isolation: what `choose` has chosen.
        limits: the size of its scratch folder.
        forks: whether several submissions are expected: a locked worker then forks a child for each.
        preload: whether it imports torch before a submission is known.
        readable: folders of installed submissions, outside the Python environment.
    """
    if isolation.level is Level.NONE:
        return UnlockedSandbox(serves_many=forks, preload=preload)
    from starter.sandbox.sandbox import LockedSandbox  # noqa: PLC0415 - only Linux can import it

    return LockedSandbox(
        isolation.level,
        user=isolation.user,
        limits=limits,
        serves_many=forks,
        preload=preload,
        readable=readable,
    )


def missing(level: Level, *, user: int | None, limits: Limits) -> str:
    """Return what a machine lacks for a level; empty if a worker could be isolated at it.

    The worker that is started here tries the lock from inside: a file outside, a socket, its user.

    Args:
        level: which.
        user: who the worker becomes where the kit runs as root; None: it stays root.
        limits: the size of its scratch folder.
    """
    if level is Level.NONE:
        return ""
    if lacks := absent():
        return lacks
    from starter.sandbox import lockdown  # noqa: PLC0415 - as above

    if lacks := lockdown.missing(boxed=level is Level.BOX):
        return lacks
    if level is Level.BOX and shutil.which("bwrap") is None:
        return "bubblewrap is not installed"
    if user is not None and os.getuid() == 0 and (lacks := lockdown.cannot_become_another()):
        return lacks
    with open_sandbox(Isolation(level, user), limits=limits, forks=False, preload=False) as trial:
        return trial.failure()


def absent() -> str:
    """Return what Python lacks here for any lock: it is another system's, or not built with it."""
    if sys.platform != "linux":
        return f"the sandbox needs Linux; this is {sys.platform}"
    lacking = [f"{module.__name__}.{name}" for module, name in _NEEDED if not hasattr(module, name)]
    with contextlib.suppress(ValueError):  # a module that is masked
        lacking += [name for name in _NEEDED_MODULES if importlib.util.find_spec(name) is None]
    return f"this Python lacks {', '.join(lacking)}" if lacking else ""


def try_level(level: Level, competition: CompetitionFile) -> Isolation | str:
    """Return the isolation that a level has on this machine, or why it does not work.

    Where the kit runs as root, the worker becomes another user if that user can read everything
    that it needs, and else stays root without capabilities.
    """
    lacks = missing(level, user=competition.worker_user, limits=competition.limits)
    if not lacks:
        return Isolation(level, competition.worker_user)
    if hasattr(os, "getuid") and os.getuid() == 0:
        why = lacks.splitlines()[-1]
        if not missing(level, user=None, limits=competition.limits):
            return Isolation(level, None, why_root=why)
    return lacks


def least_for(competition: CompetitionFile, trust: Trust) -> Level:
    """Return the least isolation that is accepted: the competition's, or else the policy's."""
    return competition.isolation or trust.least


def choose(
    competition: CompetitionFile, requested: str | None = None, *, trust: Trust = Trust.STRANGERS
) -> Isolation:
    """Return the isolation for a command: the level that was asked for, or else the strictest that works.

    Args:
        competition: its `isolation`, where it has one, is what the organizer asks for at least.
        requested: a level or "auto"; None is the competition's own.
        trust: whose code is run; where nobody asks for more, that decides what is accepted.

    Raises:
        HostError: no level that is strict enough works on this machine.
    """
    least = least_for(competition, trust)
    wanted = Level.NONE if competition.isolation is Level.NONE and requested is None else None
    if requested not in {None, "auto"}:
        wanted = Level(requested or "")
    if wanted is Level.NONE:
        return Isolation(Level.NONE)  # it was typed
    lacks: dict[Level, str] = {}
    for level in [wanted] if wanted else [Level.BOX, Level.LOCKDOWN]:
        if level.rank < least.rank:
            lacks[level] = f"competition.toml asks for at least {least}"
            continue
        found = try_level(level, competition)
        if isinstance(found, Isolation):
            return Isolation(level, found.user, lacks, found.why_root)
        lacks[level] = found
    if wanted is None and least is Level.NONE:
        return Isolation(Level.NONE, lacks=lacks)
    raise _refusal(wanted or least, lacks)


def _refusal(wanted: Level, lacks: Mapping[Level, str]) -> Exception:
    return host_error(
        Code.NO_ISOLATION,
        where="this machine",
        expected=f"isolation {wanted}",
        got=Isolation(Level.NONE, lacks=lacks).reasons,
    )
