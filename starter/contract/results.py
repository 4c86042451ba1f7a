"""The records that are written, read and sent: frozen, strict, with a version.

`EvaluationResult` is one row of the scoreboard; `Reference` is what every score is
relative to. What goes to and comes from child processes is in protocol.py.
"""

from typing import Literal

from pydantic import Field

from starter.contract.costs import GraphCosts, NodeCost, ProfileReport, SpeedReport
from starter.contract.errors import Problem, Record, Status
from starter.contract.isolation import Level

Branch = Literal["below_floor", "penalty", "reward"]
"""Which case of the f1_term applied."""


class EvaluationResult(Record):
    """One evaluated submission."""

    schema_version: Literal[1] = 1
    """The version of this record."""
    name: str
    """The file's or folder's name."""
    path: str
    """Where it was found."""
    status: Status
    """The word "ok", or the first thing that went wrong."""
    official: bool
    """False for smoke runs, validation and isolation "none": not comparable."""
    macs: int | None = None
    """MACs of one image, all classes."""
    contraction_macs: int | None = None
    """MACs of convolutions and matrix products: the literature's convention."""
    pointwise_macs: int | None = None
    """MACs of elementwise operators."""
    reduction_macs: int | None = None
    """MACs of sums, pools and norms."""
    thop_macs: int | None = None
    """What thop sees of it; shown, and scored only where competition.toml says so."""
    ptflops_macs: int | None = Field(default=None, exclude_if=lambda macs: macs is None)
    """By the rule of ptflops; scored only where competition.toml says so."""
    costs: GraphCosts | None = Field(default=None, exclude_if=lambda costs: costs is None)
    """What it needs in memory, in traffic and in depth; a record of an earlier kit has none."""
    params: int | None = None
    """Elements of the parameters in use."""
    input_shape: tuple[int, int, int] | None = None
    """(C, H, W) that the transforms give."""
    layers: tuple[NodeCost, ...] | None = None
    """What each operator costs."""
    profile: ProfileReport | None = None
    """From `starter profile` only."""
    speed: SpeedReport | None = Field(default=None, exclude_if=lambda speed: speed is None)
    """How fast it is beside the baseline; only where that was measured."""
    macro_f1: float | None = None
    """Mean of the classes' F1, 0 to 1."""
    f1_per_class: dict[str, float] | None = None
    """F1 by class name."""
    accuracy: float | None = None
    """Share of the images that are right; shown, not scored."""
    f1_by_group: dict[str, float] | None = Field(default=None, exclude_if=lambda groups: groups is None)
    """F1 of each group of images, over the classes that it has; only where solution.csv has groups."""
    worst_group_f1: float | None = Field(default=None, exclude_if=lambda f1: f1 is None)
    """The lowest of them."""
    absent_classes: tuple[str, ...] = ()
    """Classes without an image in the evaluation; they count 0."""
    macs_ratio: float | None = None
    """MACs over the baseline's."""
    f1_term: float | None = None
    """What the F1 adds to the score."""
    branch: Branch | None = None
    """Which case of the f1_term applied."""
    score: float | None = None
    """macs_ratio + f1_term; lower is better."""
    ranked: bool = False
    """Whether it takes part in the ranking: ok, and F1 not below the floor."""
    error: Problem | None = None
    """The first problem."""
    problems: tuple[Problem, ...] = ()
    """All problems."""
    warnings: tuple[str, ...] = Field(default=(), exclude_if=lambda texts: not texts)
    """What is no fault, but hardly meant; written where there is any."""
    title: str | None = None
    """Submission.name."""
    authors: tuple[str, ...] = ()
    """Submission.authors."""
    description: str | None = None
    """Submission.description."""
    num_images: int | None = None
    """How many images it was evaluated on."""
    seconds: float = 0
    """Wall-clock time that it took."""
    isolation: Level = Level.NONE
    """How its code was locked in."""
    log_tail: str = ""
    """The end of what its code printed."""


class UsageScore(Record):
    """The figures of one submission on the Public or the Private images."""

    num_images: int
    """How many images."""
    macro_f1: float
    """Mean of the classes' F1, 0 to 1."""
    f1_interval: tuple[float, float]
    """95 % bootstrap interval of the macro F1."""
    f1_per_class: dict[str, float]
    """F1 by class name."""
    accuracy: float
    """Share of the images that are right; shown, not scored."""
    absent_classes: tuple[str, ...] = ()
    """Classes without an image; they count 0."""
    macs_ratio: float
    """MACs over the baseline's."""
    f1_term: float
    """What the F1 adds to the score."""
    branch: Branch
    """Which case of the f1_term applied."""
    score: float
    """macs_ratio + f1_term; lower is better."""
    score_interval: tuple[float, float]
    """95 % bootstrap interval of the score."""
    ranked: bool
    """Whether it takes part in the ranking."""
    f1_by_group: dict[str, float] | None = Field(default=None, exclude_if=lambda groups: groups is None)
    """F1 of each group of images, over the classes that it has; only where solution.csv has groups."""
    worst_group_f1: float | None = Field(default=None, exclude_if=lambda f1: f1 is None)
    """The lowest of them."""


class Reference(Record):
    """The baseline's measured figures, reference.json: what every score is relative to."""

    schema_version: Literal[1] = 1
    """The version of this record."""
    name: str
    """The baseline plugin's name."""
    macs: int
    """MACs of one image, all classes."""
    contraction_macs: int
    """MACs of convolutions and matrix products."""
    pointwise_macs: int
    """MACs of elementwise operators."""
    reduction_macs: int
    """MACs of sums, pools and norms."""
    thop_macs: int | None
    """What thop sees."""
    ptflops_macs: int | None = Field(default=None, exclude_if=lambda macs: macs is None)
    """By the rule of ptflops; a reference of an earlier kit has none."""
    costs: GraphCosts | None = Field(default=None, exclude_if=lambda costs: costs is None)
    """Memory, traffic and depth; a reference of an earlier kit has none."""
    params: int
    """Elements of the parameters in use."""
    macro_f1: float
    """Over all evaluation images."""
    macro_f1_by_usage: dict[str, float]
    """Over the Public and the Private images."""
    dataset: str
    """The data set's name and version."""
    dataset_fingerprint: str
    """The data set that it was measured on."""
    cost_version: str
    """The version of the cost rule that it was counted by."""
    versions: dict[str, str]
    """Python, torch and torchvision."""
    made_by: str
    """The command that wrote this file."""

    def f1_on(self, usage: str | None) -> float:
        """Return its macro F1 on the images of one usage, or on all."""
        return self.macro_f1 if usage is None else self.macro_f1_by_usage[usage]

    def shown_on(self, usage: str) -> "Reference":
        """Return it with its F1 on the images of one usage only: the others' may be secret."""
        f1 = self.macro_f1_by_usage[usage]
        return self.model_copy(update={"macro_f1": f1, "macro_f1_by_usage": {usage: f1}})
