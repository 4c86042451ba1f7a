"""What the store keeps and answers: entries, their figures, and why some have no place."""

from dataclasses import dataclass
from datetime import datetime

from starter.contract.results import Branch
from starter.evaluation.labelled import Usage
from starter.evaluation.scoring import RankKey


@dataclass(frozen=True)
class Entry:
    """One submission of one team, as it was submitted."""

    team: str
    """Whose."""
    name: str
    """The entry's name."""
    submission: str
    """The hash of its files; two entries may have the same."""
    submitted_at: datetime
    """When, UTC."""
    source: str = ""
    """Where it was found."""
    selected: bool = False
    """Whether its team wants it to count on the private images."""
    refused: str = ""
    """Why it has no place, whatever its result: the calendar, its team's limits, its name."""
    disqualified: str = ""
    """Why it has no place although it was evaluated: an organizer's decision."""

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells entries apart: team, name and content."""
        return self.team, self.name, self.submission


@dataclass(frozen=True)
class Figures:
    """What ranks a result on the images of one usage; `results.UsageScore` says what each field is."""

    score: float
    macs_ratio: float
    f1_term: float
    branch: Branch
    macro_f1: float
    ranked: bool


@dataclass(frozen=True, kw_only=True)
class RankedEntry(Entry):
    """An entry that takes part in the ranking on the public images."""

    macs: int
    """MACs of one image."""
    params: int | None
    """Elements of the parameters in use."""
    public: Figures
    """On the public images."""
    private: Figures | None
    """On the private images; None where the data set has none."""

    def figures(self, usage: Usage) -> Figures:
        """Return the figures on the images of one usage."""
        figures = self.public if usage == "Public" else self.private
        assert figures is not None
        return figures

    def rank_key(self, usage: Usage) -> RankKey:
        """Return the key of the total order on the images of one usage."""
        own = self.figures(usage)
        at = self.submitted_at.timestamp()
        return RankKey(own.score, self.macs, -own.macro_f1, at, self.name, self.team)


@dataclass(frozen=True, kw_only=True)
class UnrankedEntry(Entry):
    """An entry without a place: refused, failed, disqualified, or below the floor."""

    macs: int | None
    """MACs of one image; None where it was not counted."""
    params: int | None
    """Elements of the parameters in use; None where they were not counted."""
    public: Figures | None
    """On the public images; None where it has no score."""
    reason: str
    """Why it has no place."""


@dataclass(frozen=True, kw_only=True)
class StaleEntry(Entry):
    """An entry whose results all hold under something else than the current context."""

    context: int
    """The number of the context of one of them."""
    score: float | None
    """That result's score on the public images."""
    macs: int | None
    """Its MACs of one image."""


@dataclass(frozen=True)
class Standing:
    """A team's place."""

    place: int
    """From 1."""
    teams: int
    """How many teams have a place."""
    score: float
    """The team's best score."""
