"""How a plugin's process is isolated, and how little of that each command accepts: the one place.

A participant who scores their own plugin is no stranger to it: their commands take the strictest
level that works on the machine, and none where none does. An organizer's command runs strangers'
code: it refuses a machine that cannot sandbox it. docs/security.md shows the table below.
What a machine can do is found out in sandbox/choice.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Level(StrEnum):
    """How a plugin's process is isolated, from the strictest to none."""

    BOX = "box"
    """bubblewrap around the worker's own lock-down: a file system and a network of its own."""
    LOCKDOWN = "lockdown"
    """Landlock and seccomp; names of files outside can be guessed by asking for them."""
    NONE = "none"
    """Not at all: for one's own code."""

    @property
    def rank(self) -> int:
        """Higher is stricter."""
        return [Level.NONE, Level.LOCKDOWN, Level.BOX].index(self)


class Trust(StrEnum):
    """Whose code a command runs."""

    OWN = "your own code"
    """The user's: any level will do, and a lower one is announced."""
    STRANGERS = "strangers' code"
    """Somebody else's: never below the lock-down, unless `none` is typed."""

    @property
    def least(self) -> Level:
        """The least isolation that is accepted where nobody asks for more."""
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
    "batch": Trust.STRANGERS,
}
"""Every command that runs plugins."""

NEVER_ISOLATED = frozenset({"train", "search"})
"""They run a plugin in the command's own process alone; compress does so too before it scores."""


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
