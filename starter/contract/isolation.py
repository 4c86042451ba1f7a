"""The levels of isolation, and the least that each command accepts.

Participants trust their own plugins: their commands use the strictest level that works on the
machine, or no isolation if none works. An organizer's command runs strangers' code, so it refuses
a machine without a sandbox. docs/security.md shows the table below; sandbox/choice.py finds out
what a machine can do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Level(StrEnum):
    """How a plugin's process is isolated, from the strictest to none."""

    BOX = "box"
    """bubblewrap around the worker's own lock-down: a file system and a network of its own."""
    LOCKDOWN = "lockdown"
    """Landlock and seccomp; a plugin can still test whether a file name exists outside."""
    NONE = "none"
    """No isolation: for your own code."""

    @property
    def rank(self) -> int:
        """The strictness; higher is stricter."""
        return [Level.NONE, Level.LOCKDOWN, Level.BOX].index(self)


class Trust(StrEnum):
    """Whose code a command runs."""

    OWN = "your own code"
    """The user's own code: any level is accepted, and running without isolation is announced."""
    STRANGERS = "strangers' code"
    """Other people's code: never below lockdown, unless the user types `none`."""

    @property
    def least(self) -> Level:
        """The least isolation that is accepted unless somebody asks for more."""
        return Level.NONE if self is Trust.OWN else Level.LOCKDOWN


TRUST = {
    "score": Trust.OWN,
    "validate": Trust.OWN,
    "profile": Trust.OWN,
    "speed": Trust.OWN,
    "baseline measure": Trust.OWN,
    "baseline check": Trust.OWN,
    "train": Trust.OWN,
    "compress": Trust.OWN,
    "export": Trust.OWN,
    "search": Trust.OWN,
    "predict": Trust.OWN,
    "batch": Trust.STRANGERS,
    "rejudge": Trust.STRANGERS,
}
"""Every command that runs plugins."""

NEVER_ISOLATED = frozenset({"train", "search"})
"""Commands that run a plugin only in their own process; compress does so too before it scores."""


@dataclass(frozen=True)
class Isolation:
    """The isolation that is in force on this machine."""

    level: Level
    """How plugins are isolated."""
    user: int | None = None
    """The number of the user that the worker becomes; None: it stays who it is."""
    lacks: Mapping[Level, str] = field(default_factory=dict)
    """Why each stricter level does not work here."""
    why_root: str = ""
    """Why the worker stays root where the kit runs as root."""

    @property
    def reasons(self) -> str:
        """Why it is no stricter, in one line."""
        return "; ".join(f"{level}: {reason.splitlines()[-1]}" for level, reason in self.lacks.items())
