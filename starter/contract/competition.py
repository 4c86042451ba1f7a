"""competition.toml: the rules of one competition, checked against a schema.

Paths in it are relative to the file. What a plugin may know of it is
`hookspecs.Competition`; the data set is read by data/dataset.py.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Literal, get_args

from packaging.utils import canonicalize_name
from pydantic import Field, PrivateAttr, ValidationError, field_validator

from starter.contract.errors import Code, Record, UsageError, problem, usage_error
from starter.contract.isolation import Level
from starter.contract.results import Reference
from starter.contract.system.packages import requirement
from starter.contract.text import read_text

FILE_NAME = "competition.toml"

CostVersion = Literal[1, 2]
"""A rule for what is counted and how a graph is run; docs/scoring.md tells them apart."""

NEWEST_COST_VERSION: CostVersion = 2
"""Raised when a change moves any score."""


CostName = Literal[
    "macs",
    "ptflops",
    "thop",
    "params",
    "weight_bytes",
    "peak_memory_bytes",
    "memory_access",
    "depth",
    "bit_operations",
    "speed",
]
"""What an image costs, by the names of evaluation.scoring.Counts."""


class ScoreRules(Record):
    """The constants of the score; the formula is in evaluation/scoring.py."""

    cost_version: CostVersion | None = Field(default=None, exclude_if=lambda version: version is None)
    """The cost rule; left out: the one of the baseline's reference.json, or else the newest."""
    counter: Literal["macs", "ptflops", "thop"] = "macs"
    """Whose count is scored: ours; the original competition's (ptflops); or thop's (can be fooled)."""
    cost: dict[CostName, Annotated[float, Field(gt=0)]] = Field(default={}, exclude_if=lambda cost: not cost)
    """Costs, each over the baseline's, and how much each weighs; left out: all of `counter`."""
    speed_takings: int = Field(default=3, ge=1, exclude_if=lambda takings: takings == 3)
    """How often `starter batch` times an entry beside the baseline, where a speed is asked for."""
    f1_floor: float = Field(default=0.5, ge=0, le=1)
    """Below this macro F1 an entry is unranked."""
    group_floor: float | None = Field(default=None, ge=0, le=1, exclude_if=lambda floor: floor is None)
    """An entry whose F1 is below this on any group of images is unranked; left out: no rule."""
    penalty: float = Field(default=1.0, ge=0)
    """Weight of the F1 that is missing to the baseline."""
    reward: float = Field(default=0.5, ge=0)
    """Weight of the F1 beyond the baseline."""

    @property
    def weights(self) -> dict[CostName, float]:
        """How much each cost weighs."""
        return dict(self.cost) or {self.counter: 1.0}


class Budget(Record):
    """What an entry may cost at most; one that is over is invalid."""

    macs: int | None = Field(default=None, gt=0)
    """MACs of one image."""
    params: int | None = Field(default=None, gt=0)
    """Elements of the parameters in use."""
    weight_bytes: int | None = Field(default=None, gt=0)
    """Bytes of the constants that the program carries."""
    peak_memory_bytes: int | None = Field(default=None, gt=0)
    """The most bytes that are alive at once, with the weights."""
    memory_access: int | None = Field(default=None, gt=0)
    """Elements that all operators read and write."""
    depth: int | None = Field(default=None, gt=0)
    """Convolutions and matrix products one after another."""
    bit_operations: int | None = Field(default=None, gt=0)
    """MACs of contractions, each x the bits of both its operands / 1,024."""
    latency_ratio: float | None = Field(default=None, gt=0)
    """Time over the baseline's, on the machine of `starter batch`."""


class Limits(Record):
    """What one submission may use."""

    wall_seconds: float = Field(default=120, gt=0)
    """Wall-clock time to load and export the plugin."""
    cpu_seconds: int = Field(default=240, gt=0)
    """Processor time for the same, over all its threads."""
    memory_mb: int = Field(default=4096, gt=0)
    """Resident memory of that process and its children, MiB."""
    threads: int = Field(default=256, gt=0)
    """How many threads it may have."""
    scratch_mb: int = Field(default=256, gt=0)
    """Files in its scratch folder, MiB."""
    scratch_files: int = Field(default=10_000, gt=0)
    """How many files and folders may lie there."""
    submission_mb: int = Field(default=512, gt=0)
    """All files of a submission together, MiB."""
    submission_files: int = Field(default=1000, gt=0)
    """How many files a submission may have."""
    output_mb: int = Field(default=512, gt=0)
    """Graph and weights together, MiB."""
    log_kb: int = Field(default=64, gt=0)
    """The end of its log that is kept, KiB."""
    evaluate_seconds: float = Field(default=600, gt=0)
    """Wall-clock time to count the graph and run it on all images."""


class EnvironmentRules(Record):
    """What a submission finds installed; results are comparable only where the versions are the same."""

    packages: tuple[str, ...] | None = None
    """What a plugin may import beyond what the kit needs, as PEP 508 requirements; left out: no rule."""
    lock: str | None = None
    """A file that `starter env --out` has written: the versions that `starter batch` asks for."""

    @field_validator("packages")
    @classmethod
    def _each_once(cls, packages: tuple[str, ...] | None) -> tuple[str, ...] | None:
        names = [canonicalize_name(requirement(text).name) for text in packages or ()]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"named more than once: {', '.join(twice)}")
        return packages


class Leaderboard(Record):
    """Who stands on the leaderboard, and with what."""

    baseline_teams: tuple[str, ...] = ()
    """Teams whose entries are shown as labelled baselines, without a place."""
    selected: int = Field(default=2, gt=0)
    """How many entries of a team count on the private images: those it selected, or else its best."""
    max_per_day: int = Field(default=0, ge=0)
    """How many entries a team may hand in on one day (UTC); 0: any number."""
    withhold_predictions: bool = False
    """Whether participants get no answer of single images: neither predictions.csv nor a confusion matrix."""


class CompetitionFile(Record):
    """The whole of competition.toml."""

    name: str
    """The competition's title."""
    dataset: str = "data/waste"
    """The data set's folder."""
    baseline: str = "baseline"
    """The baseline's plugin folder, with its reference.json."""
    submissions: str = "submissions"
    """Where `starter score` looks by default."""
    operator_costs: tuple[str, ...] = ()
    """Python files with cost rules of the organizer's own, for operators that have none."""
    isolation: Level | None = None
    """The least isolation for every command; left out, it depends on whose code a command runs."""
    worker_user: int = Field(default=65534, gt=0)
    """The number of the user that a submission's process becomes where the kit runs as root."""
    score: ScoreRules = ScoreRules()
    """The constants of the score."""
    budget: Budget = Budget()
    """What an entry may cost at most."""
    limits: Limits = Limits()
    """What one submission may use."""
    environment: EnvironmentRules = EnvironmentRules()
    """What it finds installed."""
    leaderboard: Leaderboard = Leaderboard()
    """Who stands on the leaderboard."""

    _root: Path = PrivateAttr(default=Path())

    @property
    def root(self) -> Path:
        """The folder that the file stands in."""
        return self._root

    def counted_as(self, reference: Reference | None) -> "CompetitionFile":
        """Return these rules with the cost version in force: their own, the reference's, or the newest."""
        known = {str(version): version for version in get_args(CostVersion)}
        measured = reference.cost_version.partition("+")[0] if reference else ""
        version = self.score.cost_version or known.get(measured, NEWEST_COST_VERSION)
        score = self.score.model_copy(update={"cost_version": version})
        return self.model_copy(update={"score": score})

    @property
    def asks_for_speed(self) -> bool:
        """Whether an entry's time is scored or limited."""
        return "speed" in self.score.weights or self.budget.latency_ratio is not None

    def path(self, relative: str) -> Path:
        """Resolve a path of the file against its folder."""
        return self._root / relative


def find_competition(start: Path) -> Path:
    """Return the nearest competition.toml in `start` or above.

    Raises:
        UsageError: there is none.
    """
    folder = start.resolve()
    for source in (folder, *folder.parents):
        if (source / FILE_NAME).is_file():
            return source / FILE_NAME
    hint = "cd into a competition's folder, or make one with the packaged data: starter new my_competition"
    raise usage_error(Code.NO_COMPETITION, where=str(folder), got=f"no {FILE_NAME}", hint=hint)


def load_competition(path: Path | None = None) -> CompetitionFile:
    """Read competition.toml from `path`, or the nearest one above the working folder.

    Raises:
        UsageError: it is missing or not valid; every wrong field is a problem of its own.
    """
    path = path or find_competition(Path.cwd())
    try:
        raw = tomllib.loads(read_text(path))
        competition = CompetitionFile.model_validate(raw)
    except FileNotFoundError as error:
        raise usage_error(Code.NO_COMPETITION, where=str(path), got="no such file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise usage_error(Code.BAD_COMPETITION, where=str(path), got=str(error)) from error
    except ValidationError as error:
        raise UsageError(
            [
                problem(
                    Code.BAD_COMPETITION,
                    where=f"{path}: {'.'.join(map(str, item['loc']))}",
                    expected=item["msg"],
                    got=repr(item["input"]),
                )
                for item in error.errors()
            ]
        ) from error
    competition._root = path.resolve().parent  # noqa: SLF001 - set once, here, where the file is known
    return competition
