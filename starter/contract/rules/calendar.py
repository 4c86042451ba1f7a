"""When entries are taken and figures are shown: a competition's calendar, its phases, times in its zone.

Every time here knows its zone: one that is written without an offset is of the calendar's
`timezone`. Which entries a phase has is decided in organizer/admission.py.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, tzinfo
from difflib import get_close_matches
from itertools import pairwise
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationInfo, WithJsonSchema, field_validator

from starter.contract.errors import Record

Verdict = Literal["refuse", "evaluate"]
"""What becomes of an entry that has no place: it is not evaluated, or evaluated and listed unranked."""


def placed(at: datetime, zone: tzinfo) -> datetime:
    """Return a time in UTC; one without an offset is of `zone`.

    Raises:
        ValueError: it has no offset and a clock of the zone shows it twice, or never.

    >>> placed(datetime(2026, 3, 1, 9), ZoneInfo("Asia/Seoul")).isoformat()
    '2026-03-01T00:00:00+00:00'
    """
    if at.tzinfo is not None:
        return at.astimezone(UTC)
    early, late = (at.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    before, after = early.utcoffset(), late.utcoffset()
    if before is None or after is None or before == after:
        return early.astimezone(UTC)
    often = "twice" if before > after else "never"
    raise ValueError(
        f"a clock in {zone} shows {at:%Y-%m-%d %H:%M:%S} {often}; "
        f"write the offset as well: {early.isoformat()} or {late.isoformat()}"
    )


def _zone(name: object) -> ZoneInfo:
    """Return a time zone by its name, which the operating system or the package tzdata knows."""
    if isinstance(name, ZoneInfo):
        return name
    try:
        return ZoneInfo(str(name))
    except (KeyError, OSError, ValueError) as error:
        near = [*get_close_matches(str(name), sorted(available_timezones()), n=1), "Asia/Seoul"]
        raise ValueError(f"the IANA name of a time zone, such as {near[0]}") from error


def _with_time_of_day(value: object) -> object:
    """Refuse a day: whether its first or its last moment is meant, nobody knows."""
    if isinstance(value, datetime) or (isinstance(value, str) and len(value) > len("2026-03-31")):
        return value
    raise ValueError("a day and a time of day, such as 2026-03-31T23:59:59")


Zone = Annotated[
    ZoneInfo,
    BeforeValidator(_zone),
    PlainSerializer(lambda zone: zone.key, return_type=str),
    WithJsonSchema({"type": "string", "format": "IANA time zone"}),
]
Moment = Annotated[datetime, BeforeValidator(_with_time_of_day)]


class Calendar(Record):
    """When entries are taken, and from when on the board shows the private figures."""

    timezone: Zone = Field(default_factory=lambda: ZoneInfo("UTC"))
    """The IANA name of the zone of days, and of times that are written without an offset."""
    opens: Moment | None = None
    """From when on entries are taken; left out: from any time."""
    closes: Moment | None = None
    """The last moment at which one is; left out: none."""
    reveal: Moment | None = None
    """From when on the board ranks on the private images; left out: only with --reveal."""
    outside: Verdict = "refuse"
    """Whether an entry that is early or late is evaluated, though never ranked."""

    @field_validator("opens", "closes", "reveal")
    @classmethod
    def _in_order(cls, at: datetime | None, info: ValidationInfo) -> datetime | None:
        if at is None or "timezone" not in info.data:  # a wrong zone is a problem of its own
            return at
        at = placed(at, info.data["timezone"])
        for name in ("closes", "opens"):
            earlier = info.data.get(name)
            if earlier is not None and at < earlier:
                shown = earlier.astimezone(info.data["timezone"]).isoformat()
                raise ValueError(f"a time after `{name}`, which is {shown}")
        return at

    @property
    def title(self) -> str:
        """What opens and closes, in a sentence."""
        return "the competition"

    def day(self, at: datetime) -> date:
        """Return the day that a time is of, in the calendar's zone."""
        return at.astimezone(self.timezone).date()

    def shown(self, at: datetime) -> str:
        """Return a time as a clock in the calendar's zone shows it, with its offset."""
        return at.astimezone(self.timezone).isoformat(" ", "seconds")

    def fault(self, at: datetime) -> str:
        """Say why an entry of this time is not taken; nothing where it is."""
        if self.opens is not None and at < self.opens:
            return f"submitted at {self.shown(at)}, before {self.title} opened at {self.shown(self.opens)}"
        if self.closes is not None and at > self.closes:
            return f"submitted at {self.shown(at)}, after {self.title} closed at {self.shown(self.closes)}"
        return ""

    def is_revealed(self, at: datetime) -> bool:
        """Say whether the board shows the private figures at this time."""
        return self.reveal is not None and at >= self.reveal


class Phase(Calendar):
    """A part of a competition with a board of its own; what it leaves out is the competition's."""

    name: str = Field(min_length=1)
    """What it is called: `--phase NAME`."""
    opens: Moment
    """From when on its entries are taken. A later entry is of this phase until the next one opens."""
    closes: Moment
    """The last moment at which one is."""
    dataset: str
    """Its data set's folder."""
    baseline: str
    """The folder of its baseline's plugin, with a reference.json that was measured on its data set."""
    max_per_day: int = Field(ge=0)
    """How many of its entries a team may submit on one day; 0: any number."""
    max_total: int = Field(ge=0)
    """How many of its entries a team may submit altogether; 0: any number."""

    @property
    def title(self) -> str:
        """What opens and closes, in a sentence."""
        return f"phase {self.name}"


def check_phases(phases: Sequence[Phase]) -> None:
    """See that phases are one after another.

    Raises:
        ValueError: two have one name, or one opens before the one before it has closed.
    """
    for before, phase in pairwise(phases):
        if phase.opens < before.closes:
            raise ValueError(
                f"phases one after another: {phase.name} opens at {phase.shown(phase.opens)}, "
                f"before {before.name} closes at {before.shown(before.closes)}"
            )
    names = [phase.name for phase in phases]
    if len(set(names)) < len(names):
        raise ValueError(f"a name for each phase: {', '.join(names)}")
