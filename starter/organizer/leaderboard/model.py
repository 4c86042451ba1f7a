"""The leaderboard as data: its rows in order, with what a person asks about each of them.

Made from the store by standings.py; shown on a terminal and as CSV by report/leaderboard.py, and as a
static page by report/html/leaderboard.py. Every text in it may be a stranger's.
"""

from datetime import datetime
from typing import Literal

from pydantic import Field

from starter.contract.competition import ScoreRules
from starter.contract.costs import GraphCosts
from starter.contract.errors import Record
from starter.contract.results import Branch, EvaluationResult, Reference, UsageScore


class TrendPoint(Record):
    """A team's best score from one moment on."""

    at: datetime
    """When the entry was submitted."""
    score: float
    """The best score up to then."""


class LeaderboardRow(Record):
    """One line of the board: a team's best entry, a baseline, or an entry without a place."""

    id: str
    """Stable, made of [0-9a-f] only: the name of its page."""
    submission: str = ""
    """The hash of its content; empty for the baseline's own row."""
    place: int | None
    """From 1; None where it is not ranked."""
    is_baseline: bool = False
    """A labelled baseline: it has a score and no place."""
    team: str
    """Whose entry."""
    name: str
    """The entry's name."""
    submitted_at: datetime | None
    """When it was submitted, UTC."""
    entries: int = 1
    """How many entries the team has."""
    score: float | None = None
    """Lower is better; negative is legal."""
    interval: tuple[float, float] | None = None
    """95 % bootstrap interval of the score."""
    tie_group: int | None = None
    """Entries of one group are not told apart by these images; from 1."""
    holds: float | None = None
    """How likely this entry stays ahead of the next one on the private images, 0 to 1."""
    public_place: int | None = None
    """On a revealed board: its place before."""
    macs: int | None = None
    """MACs of one image."""
    macs_ratio: float | None = None
    """Over the baseline's."""
    macro_f1: float | None = None
    """Of the board's images."""
    worst_group_f1: float | None = Field(default=None, exclude_if=lambda f1: f1 is None)
    """The lowest F1 of a group of them; only where the data set has groups."""
    f1_term: float | None = None
    """What the F1 adds to the score."""
    branch: Branch | None = None
    """Which case of the f1_term applied."""
    params: int | None = None
    """Elements of the parameters in use."""
    costs: GraphCosts | None = Field(default=None, exclude_if=lambda costs: costs is None)
    """Memory, traffic and depth; None where it was not counted, or by an earlier kit."""
    reason: str = ""
    """Why it is not ranked: an error's title, the floor, the limit of entries."""
    stale: tuple[str, ...] = ()
    """What has changed since it was evaluated: data, baseline, rules, cost version; else nothing."""
    duplicates: tuple[str, ...] = ()
    """TEAM/NAME of entries with the same content."""
    trend: tuple[TrendPoint, ...] = ()
    """How the team came to its score."""


class Board(Record):
    """A leaderboard."""

    competition: str
    """Its title."""
    usage: Literal["Public", "Private"]
    """Which images the scores are of."""
    made_at: datetime
    """When, UTC."""
    dataset: str
    """Name and version."""
    num_images: int
    """How many images the scores are of."""
    classes: tuple[str, ...]
    """Class names."""
    reference: Reference
    """The baseline's figures."""
    baseline_f1: float
    """Its F1 on the board's images."""
    rules: ScoreRules
    """The constants of the score."""
    cost_version: str
    """The version of the cost rule."""
    rows: tuple[LeaderboardRow, ...]
    """Ranked entries in order, with the baselines among them where their score puts them."""
    others: tuple[LeaderboardRow, ...] = ()
    """Unranked, failed and stale entries, with their reasons; of many the latest."""
    more_others: int = 0
    """How many of those are not shown."""
    num_teams: int
    """How many teams have an entry."""
    num_entries: int
    """How many entries there are."""
    grouped_by: str = Field(default="", exclude_if=lambda name: not name)
    """What makes the groups: the header of a column of solution.csv; empty where there are none."""
    agreement: float | None = None
    """On a revealed board: Kendall's tau of the public and the private order."""
    phase: str = Field(default="", exclude_if=lambda name: not name)
    """Which phase's; empty where the competition has none."""
    reveal_at: datetime | None = Field(default=None, exclude_if=lambda at: at is None)
    """On a public board: when the private figures are shown, UTC; None where no rule says it."""


class Details(Record):
    """All about one entry, for its page."""

    row: LeaderboardRow
    """Its line."""
    result: EvaluationResult
    """Its evaluation: costs by layer, problems, versions; F1 of the public images only."""
    scores: dict[str, UsageScore] = Field(default_factory=dict)
    """By usage: "Public", and on a revealed board "Private"."""
    confusion: tuple[tuple[int, ...], ...] | None = None
    """Images of the board by true class (rows) and predicted class."""
    evaluated_at: datetime
    """When, UTC."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Python, torch, torchvision, the kit; the machine."""
    limits: dict[str, float] = Field(default_factory=dict)
    """What it was allowed: wall_seconds, memory_mb, ..."""
    measured: dict[str, float] = Field(default_factory=dict)
    """What it used, by the same names."""
    hashes: dict[str, str] = Field(default_factory=dict)
    """submission, data, baseline, rules, predictions, graph."""
