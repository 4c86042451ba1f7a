"""The messages to and from both kinds of child process: the submission's and the runner."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from starter.contract.costs import CostReport, GraphCosts, ProfileReport, SpeedReport
from starter.contract.errors import Problem, Record
from starter.contract.hookspecs import Competition
from starter.contract.submissions import Kind

PARTS = ("report", "graph", "transforms", "weights")
"""The parts of a reply from a submission's process: a line of JSON with their lengths, then the parts."""

MAX_REPORT = 2**20
"""The longest report, bytes."""

EXIT_OUTPUT = 3
"""That process's exit status when it could not write the whole reply."""


class WorkerJob(Record):
    """A job for the submission's process."""

    name: str
    """The submission's name."""
    path: Path
    """The plugin's file or folder: its name, or the full path of an installed one."""
    kind: Kind
    """A file, a folder or an entry point."""
    competition: Competition
    """What the plugin may see of the competition."""
    cpu_seconds: int
    """Most processor time, seconds."""
    memory_mb: int
    """Most memory, MiB."""
    threads: int
    """Most threads."""
    scratch_mb: int
    """Most files in its scratch folder, MiB."""
    output_mb: int
    """Largest reply, MiB."""
    hidden: tuple[str, ...] = ()
    """Installed modules that it cannot import."""
    files: dict[str, int]
    """The plugin's files by relative path, with their lengths; the bytes follow."""


class WorkerReport(Record):
    """What the submission's process reports: claims. Only its problems affect the result."""

    problems: tuple[Problem, ...] = Field(max_length=100)
    """All problems found."""
    thop_macs: int | None = Field(default=None, ge=0, lt=2**63)
    """MACs as thop counts them in the submission's own process, which can forge them."""
    has_weights: bool = True
    """Whether it loaded a weights file."""
    opened: tuple[Annotated[str, Field(max_length=300)], ...] = Field(default=(), max_length=100)
    """The names of the pickled checkpoints that the plugin itself opened."""
    title: str | None = Field(default=None, max_length=80)
    """Submission.name."""
    authors: tuple[Annotated[str, Field(max_length=80)], ...] = Field(default=(), max_length=20)
    """Submission.authors."""
    description: str | None = Field(default=None, max_length=2000)
    """Submission.description."""


class KeptImages(Record):
    """Where decoded images are kept."""

    folder: Path
    """Shared by every process of this machine."""
    limit_mb: int
    """Its largest size, MiB."""
    fingerprint: str
    """The fingerprint of the images' data set."""


class RunnerSetup(Record):
    """The settings that the runner starts with."""

    cost_version: int
    """The cost rule by which graphs are counted and run."""
    cost_rules: tuple[Path, ...] = ()
    """The organizer's files with cost rules."""
    packages: tuple[str, ...] = ()
    """Requirements whose installed versions it reports."""
    readable: tuple[Path, ...] = ()
    """What it may read besides the Python environment, once it is in its sandbox."""
    locked: bool = True
    """Whether it enters a sandbox."""


class KeepRequest(Record):
    """Images to decode and keep, for every process that needs the same ones."""

    transforms: Path
    """transforms.json."""
    dataset: Path
    """The data set's folder; only its images are read."""
    image_ids: tuple[str, ...]
    """Which images, in order."""
    kept: KeptImages
    """Where."""


class SpeedRequest(Record):
    """How to time a graph against the baseline's."""

    graph: Path
    """The baseline's graph.json."""
    weights: Path
    """The baseline's weights.safetensors."""
    seconds: float = Field(default=4.0, gt=0)
    """Processor time for each batch size in one repetition; a slow network takes longer."""
    takings: int = Field(default=1, ge=1)
    """Repetitions of the whole measurement."""
    seed: int = 0
    """The seed of the order of the blocks, the images and the memory layout."""


class RunnerRequest(Record):
    """One graph to count and run."""

    graph: Path
    """graph.json."""
    weights: Path
    """weights.safetensors."""
    transforms: Path
    """transforms.json."""
    num_classes: int
    """Number of logits that the graph must return."""
    dataset: Path
    """The data set's folder; only its images are read."""
    image_ids: tuple[str, ...]
    """Which images, in the order of the logits."""
    logits: Path
    """Where the logits are written: npy, float32 (images, num_classes)."""
    profile: bool = False
    """Whether to measure each layer on random numbers, instead of running the images."""
    kept: KeptImages | None = None
    """Where decoded images are kept; None: nowhere."""
    device: str = "cpu"
    """The device to run the graph on."""
    speed: SpeedRequest | None = None
    """How to time the graph against the baseline; None: it is not timed."""
    where: Path | None = None
    """A file for the name of each operator before it runs, so that a crash shows its place; slow."""


class RunnerReply(Record):
    """The reply to a request."""

    problems: tuple[Problem, ...] = ()
    """Problems with the submission; if there are any, there are no logits."""
    data_problems: tuple[Problem, ...] = ()
    """Problems with the data set; if there are any, there are no logits."""
    host_problems: tuple[Problem, ...] = ()
    """Failures of this machine; if there are any, there are no logits."""
    cost: CostReport | None = None
    """The cost of one image."""
    costs: GraphCosts | None = None
    """Its costs besides MACs."""
    params: int | None = None
    """Elements of the parameters in use."""
    input_shape: tuple[int, int, int] | None = None
    """(C, H, W)."""
    profile: ProfileReport | None = None
    """If it was asked for."""
    speed: SpeedReport | None = None
    """If it was asked for."""


class RunnerHello(Record):
    """The runner's first line: it is ready, and these are its versions."""

    cost_version: str = ""
    """The version of the cost rule."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Python, torch and torchvision, and the packages that it is asked for."""
    problems: tuple[Problem, ...] = ()
    """Why it refuses to count: a failed self test, or a cost rule that is not valid."""
