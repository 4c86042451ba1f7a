"""competition.toml: the rules of one competition, checked against a schema.

Its paths are relative to the file. `hookspecs.Competition` is the part that a
plugin may see; data/dataset.py reads the data set.
"""

import tomllib
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from starter.contract.errors import Code, Record, UsageError, problem, usage_error
from starter.contract.isolation import Level
from starter.contract.results import Reference
from starter.contract.rules.calendar import Calendar, Phase, Verdict, check_phases
from starter.contract.rules.environment import EnvironmentRules
from starter.contract.rules.presets import PRESETS, PresetName
from starter.contract.text import read_text

FILE_NAME = "competition.toml"

CostVersion = Literal[1, 2]
"""A rule for what is counted and how a graph is run; docs/scoring.md compares them."""

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
"""A cost of one image, under its name in evaluation.scoring.Counts."""


class ScoreRules(Record):
    """The constants of the score; the formula is in evaluation/scoring.py."""

    preset: PresetName | None = Field(default=None, exclude_if=lambda preset: preset is None)
    """A published way to score; it decides the fields that make its formula up."""
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

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, given: Any) -> Any:
        name = given.get("preset") if isinstance(given, dict) else None
        if not isinstance(name, str) or name not in PRESETS:
            return given
        preset = PRESETS[name]
        for field, value in preset.fixed.items():
            if given.get(field, value) != value:
                raise ValueError(
                    f"the preset {name} sets {field} to {value}: leave out {field} or the preset"
                )
        return {**({"cost": preset.cost} if preset.cost else {}), **given, **preset.fixed}

    @property
    def weights(self) -> dict[CostName, float]:
        """How much each cost weighs; empty where costs are limited but not scored."""
        if self.preset == "budget":
            return {}
        return dict(self.cost) or {self.counter: 1.0}

    @property
    def exponential(self) -> bool:
        """Whether a cost ratio r counts as exp(2 r), and F1 only has to reach the floor."""
        return self.preset == "ntire"

    @property
    def averages_ranks(self) -> bool:
        """Whether places follow the mean of an entry's ranks; its own score only picks a team's best."""
        return self.preset == "rank-average"


class Budget(Record):
    """The most that an entry may cost; an entry that exceeds it is invalid."""

    macs: int | None = Field(default=None, gt=0)
    """MACs of one image."""
    params: int | None = Field(default=None, gt=0)
    """Elements of the parameters in use."""
    weight_bytes: int | None = Field(default=None, gt=0)
    """Bytes of the constants that the program carries."""
    peak_memory_bytes: int | None = Field(default=None, gt=0)
    """The most bytes alive at once, weights included."""
    memory_access: int | None = Field(default=None, gt=0)
    """Elements that all operators read and write."""
    depth: int | None = Field(default=None, gt=0)
    """Convolutions and matrix products on the longest path."""
    bit_operations: int | None = Field(default=None, gt=0)
    """MACs of contractions, each x the bits of both its operands / 1,024."""
    latency_ratio: float | None = Field(default=None, gt=0)
    """Time divided by the baseline's, on the machine that runs `starter batch`."""


class Limits(Record):
    """The resources that one submission may use."""

    wall_seconds: float = Field(default=120, gt=0)
    """Wall-clock time to load and export the plugin."""
    cpu_seconds: int = Field(default=240, gt=0)
    """Processor time for the same, summed over all threads."""
    memory_mb: int = Field(default=4096, gt=0)
    """Resident memory of that process and its children, MiB."""
    threads: int = Field(default=256, gt=0)
    """Most threads at once."""
    scratch_mb: int = Field(default=256, gt=0)
    """Total size of the scratch folder, MiB."""
    scratch_files: int = Field(default=10_000, gt=0)
    """Most files and folders in the scratch folder."""
    submission_mb: int = Field(default=512, gt=0)
    """Total size of a submission's files, MiB."""
    submission_files: int = Field(default=1000, gt=0)
    """Most files in a submission."""
    output_mb: int = Field(default=512, gt=0)
    """Graph and weights together, MiB."""
    log_kb: int = Field(default=64, gt=0)
    """How much of the end of its log is kept, KiB."""
    evaluate_seconds: float = Field(default=600, gt=0)
    """Wall-clock time to count the graph and run it on all images."""


class Leaderboard(Record):
    """Which teams and entries appear on the leaderboard."""

    baseline_teams: tuple[str, ...] = ()
    """Teams whose entries are shown as baselines, without a place."""
    selected: int = Field(default=2, gt=0)
    """Entries of a team that count on the private images: those it selected, otherwise its best."""
    max_per_day: int = Field(default=0, ge=0)
    """How many entries a team may submit on one day, in the calendar's zone; 0: any number."""
    max_total: int = Field(default=0, ge=0)
    """How many entries a team may submit altogether; 0: any number."""
    surplus: Verdict = "refuse"
    """Whether an entry beyond these numbers is evaluated, though never ranked."""
    withhold_predictions: bool = False
    """Whether to keep predictions.csv and the confusion matrix from participants."""


class CompetitionFile(Record):
    """All of competition.toml."""

    name: str
    """The competition's title."""
    dataset: str = "data/waste"
    """The data set's folder."""
    baseline: str = "baseline"
    """The baseline's plugin folder, with its reference.json."""
    submissions: str = "submissions"
    """Where `starter score` looks by default."""
    operator_costs: tuple[str, ...] = ()
    """The organizer's Python files with cost rules for operators that have none."""
    isolation: Level | None = None
    """The least isolation for every command; if omitted, it depends on whose code a command runs."""
    worker_user: int = Field(default=65534, gt=0)
    """The user ID that a submission's process switches to when the kit runs as root."""
    score: ScoreRules = ScoreRules()
    """The constants of the score."""
    budget: Budget = Field(default=Budget(), validate_default=True)
    """The most that an entry may cost."""
    limits: Limits = Limits()
    """The resources that one submission may use."""
    environment: EnvironmentRules = EnvironmentRules()
    """The packages that it finds installed."""
    leaderboard: Leaderboard = Leaderboard()
    """Which teams and entries appear on the leaderboard."""
    calendar: Calendar = Field(default_factory=Calendar)
    """When entries are taken and the private figures are shown; `in_phase` puts a phase here."""
    phases: tuple[Phase, ...] = ()
    """Parts with boards of their own, one after another."""

    _root: Path = PrivateAttr(default=Path())

    @field_validator("budget")
    @classmethod
    def _limited(cls, budget: Budget, info: ValidationInfo) -> Budget:
        score = info.data.get("score")
        if score is not None and score.preset == "budget" and not budget.model_fields_set:
            raise ValueError('the preset "budget" needs a limit, such as macs = 30_000_000')
        return budget

    @field_validator("phases", mode="before")
    @classmethod
    def _completed(cls, phases: Any, info: ValidationInfo) -> Any:
        """Give each phase what it leaves out: the competition's."""
        if not isinstance(phases, list):
            return phases
        if not info.data.keys() >= {"dataset", "baseline", "calendar", "leaderboard"}:
            return ()  # what is wrong there is a problem of its own
        calendar, limits = info.data["calendar"], info.data["leaderboard"]
        if phases and (calendar.opens or calendar.closes):
            raise ValueError("`opens` and `closes` in each phase, and not under [calendar]")
        known = {name: info.data[name] for name in ("dataset", "baseline")}
        known |= {name: getattr(calendar, name) for name in ("timezone", "reveal", "outside")}
        known |= {name: getattr(limits, name) for name in ("max_per_day", "max_total")}
        return [known | phase if isinstance(phase, dict) else phase for phase in phases]

    @field_validator("phases")
    @classmethod
    def _one_after_another(cls, phases: tuple[Phase, ...]) -> tuple[Phase, ...]:
        check_phases(phases)
        return phases

    @property
    def root(self) -> Path:
        """The folder that holds the file."""
        return self._root

    def counted_as(self, reference: Reference | None) -> "CompetitionFile":
        """Return these rules with the cost version in force: their own, the reference's, or the newest."""
        known = {str(version): version for version in get_args(CostVersion)}
        measured = reference.cost_version.partition("+")[0] if reference else ""
        version = self.score.cost_version or known.get(measured, NEWEST_COST_VERSION)
        score = self.score.model_copy(update={"cost_version": version})
        return self.model_copy(update={"score": score})

    @property
    def phase(self) -> Phase | None:
        """The phase that these rules are of; None where the competition has none, or before `in_phase`."""
        return self.calendar if isinstance(self.calendar, Phase) else None

    def phase_at(self, at: datetime) -> Phase | None:
        """Return the phase that a time is of: the last that has opened, or else the first."""
        opened = [phase for phase in self.phases if phase.opens <= at]
        return opened[-1] if opened else next(iter(self.phases), None)

    def in_phase(self, name: str | None = None, at: datetime | None = None) -> "CompetitionFile":
        """Return the rules of one phase: of a name, or else of a time, or else of now.

        Raises:
            UsageError: U140, no phase has this name.
        """
        phase = self.phase_at(at or datetime.now(UTC))
        if name is not None:
            phase = next((phase for phase in self.phases if phase.name == name), None)
            if phase is None:
                names = ", ".join(phase.name for phase in self.phases) or "no [[phases]] in competition.toml"
                raise usage_error(Code.NO_PHASE, where="--phase", expected=names, got=name)
        if phase is None:
            return self
        limits = {"max_per_day": phase.max_per_day, "max_total": phase.max_total}
        own = {"dataset": phase.dataset, "baseline": phase.baseline, "calendar": phase}
        return self.model_copy(update=own | {"leaderboard": self.leaderboard.model_copy(update=limits)})

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
        UsageError: it is missing or not valid; each wrong field is a separate problem.
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
                    expected=item["msg"].removeprefix("Value error, "),
                    got=str(item["input"]) if isinstance(item["input"], date) else repr(item["input"]),
                )
                for item in error.errors()
            ]
        ) from error
    competition._root = path.resolve().parent  # noqa: SLF001 - set once, here, where the file is known
    return competition
