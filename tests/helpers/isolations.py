"""Every way in which this machine can isolate a plugin, by name, and why it cannot in the others."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pytest

from starter.contract.competition import CompetitionFile, Limits
from starter.contract.isolation import Isolation, Level
from starter.sandbox.choice import missing, open_sandbox
from starter.sandbox.protocol import Sandbox

IS_ROOT = hasattr(os, "getuid") and os.getuid() == 0
RULES = CompetitionFile(name="test")
NAMES = ("box", "lockdown", "box as root", "lockdown as root")
"""As root, a worker becomes another user where that user can read what it needs, or else stays root."""


def named(name: str) -> Isolation:
    level, _, root = name.partition(" as ")
    return Isolation(Level(level), None if root else RULES.worker_user)


@cache
def lacks(name: str) -> str:
    """Return why there is no such isolation here, and what to do; nothing where it works."""
    if name.endswith(" as root") and not IS_ROOT:
        return "only root can stay root: run the tests as root"
    isolation = named(name)
    reason = missing(isolation.level, user=isolation.user, limits=RULES.limits)
    if not reason or "not installed" in reason:
        return reason and f"{reason}: apt install bubblewrap"
    if "PermissionError" in reason or "cannot read" in reason:
        return "no isolation as another user, who cannot read this Python: use one outside of root's home"
    return f"no isolation {name} on this machine: {reason.splitlines()[-1]}: starter doctor"


def available() -> list[str]:
    return [name for name in NAMES if not lacks(name)]


@contextmanager
def sandbox_of(name: str, *, limits: Limits = RULES.limits, preload: bool = True) -> Iterator[Sandbox]:
    """A sandbox of this isolation; a test is skipped where there is none."""
    if reason := lacks(name):
        pytest.skip(reason)
    with open_sandbox(named(name), limits=limits, preload=preload) as sandbox:
        yield sandbox
