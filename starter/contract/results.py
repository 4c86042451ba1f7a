"""The records that the kit stores: frozen, strict, with a version.

`EvaluationResult` is one row of the scoreboard; `Reference` holds the baseline's figures, which
every score is relative to. The messages to and from child processes are in protocol.py.
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
    """The word "ok", or the kind of the first problem."""
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
    """MACs as thop counts them; shown, and scored only if competition.toml says so."""
    ptflops_macs: int | None = Field(default=None, exclude_if=lambda macs: macs is None)
    """MACs by the rule of ptflops; scored only if competition.toml says so."""
    costs: GraphCosts | None = Field(default=None, exclude_if=lambda costs: costs is None)
    """Memory, memory access, depth and bit operations; an earlier kit's record has none."""
    params: int | None = None
    """Elements of the parameters in use."""
    input_shape: tuple[int, int, int] | None = None
    """The transforms' output, (C, H, W)."""
    layers: tuple[NodeCost, ...] | None = None
    """The cost of each operator."""
    profile: ProfileReport | None = None
    """Written by `starter profile` only."""
    speed: SpeedReport | None = Field(default=None, exclude_if=lambda speed: speed is None)
    """Its time relative to the baseline's, if that was measured."""
    macro_f1: float | None = None
    """Mean of the classes' F1, 0 to 1."""
    f1_per_class: dict[str, float] | None = None
    """F1 by class name."""
    accuracy: float | None = None
    """Share of correctly classified images; shown, not scored."""
    f1_by_group: dict[str, float] | None = Field(default=None, exclude_if=lambda groups: groups is None)
    """F1 of each group of images, over the classes it has; only if solution.csv has groups."""
    worst_group_f1: float | None = Field(default=None, exclude_if=lambda f1: f1 is None)
    """The lowest of them."""
    absent_classes: tuple[str, ...] = ()
    """Classes without an evaluation image; each counts as 0."""
    macs_ratio: float | None = None
    """The scored cost divided by the baseline's."""
    f1_term: float | None = None
    """The F1's part of the score."""
    branch: Branch | None = None
    """Which case of the f1_term applied."""
    score: float | None = None
    """macs_ratio + f1_term; lower is better."""
    ranked: bool = False
    """Whether the entry is ranked: its status is ok and its F1 is not below the floor."""
    error: Problem | None = None
    """The first problem."""
    problems: tuple[Problem, ...] = ()
    """All problems."""
    warnings: tuple[str, ...] = Field(default=(), exclude_if=lambda texts: not texts)
    """Things that are allowed but probably not intended; omitted if there are none."""
    title: str | None = None
    """Submission.name."""
    authors: tuple[str, ...] = ()
    """Submission.authors."""
    description: str | None = None
    """Submission.description."""
    num_images: int | None = None
    """Number of evaluation images."""
    seconds: float = 0
    """Wall-clock time of the evaluation."""
    isolation: Level = Level.NONE
    """The isolation level that its code ran at."""
    log_tail: str = ""
    """The last lines that its code printed."""


class UsageScore(Record):
    """The figures of one submission on the Public or the Private images."""

    num_images: int
    """Number of images."""
    macro_f1: float
    """Mean of the classes' F1, 0 to 1."""
    f1_interval: tuple[float, float]
    """95 % bootstrap interval of the macro F1."""
    f1_per_class: dict[str, float]
    """F1 by class name."""
    accuracy: float
    """Share of correctly classified images; shown, not scored."""
    absent_classes: tuple[str, ...] = ()
    """Classes without an image; each counts as 0."""
    macs_ratio: float
    """The scored cost divided by the baseline's."""
    f1_term: float
    """The F1's part of the score."""
    branch: Branch
    """Which case of the f1_term applied."""
    score: float
    """macs_ratio + f1_term; lower is better."""
    score_interval: tuple[float, float]
    """95 % bootstrap interval of the score."""
    ranked: bool
    """Whether the entry is ranked."""
    f1_by_group: dict[str, float] | None = Field(default=None, exclude_if=lambda groups: groups is None)
    """F1 of each group of images, over the classes it has; only if solution.csv has groups."""
    worst_group_f1: float | None = Field(default=None, exclude_if=lambda f1: f1 is None)
    """The lowest of them."""


class Reference(Record):
    """The baseline's measured figures (reference.json), which every score is relative to."""

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
    """MACs as thop counts them."""
    ptflops_macs: int | None = Field(default=None, exclude_if=lambda macs: macs is None)
    """MACs by the rule of ptflops; an earlier kit's reference has none."""
    costs: GraphCosts | None = Field(default=None, exclude_if=lambda costs: costs is None)
    """Memory, memory access, depth and bit operations; an earlier kit's reference has none."""
    params: int
    """Elements of the parameters in use."""
    macro_f1: float
    """Macro F1 on all evaluation images."""
    macro_f1_by_usage: dict[str, float]
    """Macro F1 on the Public and on the Private images."""
    dataset: str
    """The data set's name and version."""
    dataset_fingerprint: str
    """The fingerprint of the data set that the baseline was measured on."""
    cost_version: str
    """The version of the cost rule that counted it."""
    versions: dict[str, str]
    """Python, torch and torchvision."""
    made_by: str
    """The command that wrote this file."""

    def f1_on(self, usage: str | None) -> float:
        """Return its macro F1 on the images of one usage, or on all."""
        return self.macro_f1 if usage is None else self.macro_f1_by_usage[usage]

    def shown_on(self, usage: str) -> "Reference":
        """Return a copy with the F1 of one usage only: the other one may be secret."""
        f1 = self.macro_f1_by_usage[usage]
        return self.model_copy(update={"macro_f1": f1, "macro_f1_by_usage": {usage: f1}})
