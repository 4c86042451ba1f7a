"""The messages to and from the two kinds of child process: the submission's and the runner."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from starter.contract.costs import CostReport, GraphCosts, ProfileReport, SpeedReport
from starter.contract.errors import Problem, Record
from starter.contract.hookspecs import Competition
from starter.contract.submissions import Kind

PARTS = ("report", "graph", "transforms", "weights")
"""What a submission's process sends back: a line of JSON with the parts' lengths, then the parts."""

MAX_REPORT = 2**20
"""The longest report, bytes."""

EXIT_OUTPUT = 3
"""Its exit status when the reply could not be written whole."""


class WorkerJob(Record):
    """What the submission's process is asked to do."""

    name: str
    """The submission's name."""
    path: Path
    """The plugin's file or folder: its name, or the whole path of an installed one."""
    kind: Kind
    """Which of the two, or an entry point."""
    competition: Competition
    """What the plugin may know."""
    cpu_seconds: int
    """Processor time."""
    memory_mb: int
    """Memory, MiB."""
    threads: int
    """How many threads."""
    scratch_mb: int
    """Files in its scratch folder, MiB."""
    output_mb: int
    """The whole reply, MiB."""
    hidden: tuple[str, ...] = ()
    """Installed modules that it is not to find."""
    files: dict[str, int]
    """Its files, relative to the folder it is unpacked in, with their lengths; the bytes follow."""


class WorkerReport(Record):
    """What the submission's process reports: claims. Only its problems affect the result."""

    problems: tuple[Problem, ...] = Field(max_length=100)
    """All problems found."""
    thop_macs: int | None = Field(default=None, ge=0, lt=2**63)
    """What thop counts on the module, in the participant's own process: it can be fooled."""
    has_weights: bool = True
    """Whether it loaded a weights file."""
    opened: tuple[Annotated[str, Field(max_length=300)], ...] = Field(default=(), max_length=100)
    """The names of the pickled checkpoints that the plugin itself has opened."""
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
    """How large it may become, MiB."""
    fingerprint: str
    """Of the data set that the images are of."""


class RunnerSetup(Record):
    """What the runner is started with."""

    cost_version: int
    """The cost rule that graphs are counted and run by."""
    cost_rules: tuple[Path, ...] = ()
    """An organizer's files."""
    packages: tuple[str, ...] = ()
    """Requirements whose versions it says besides torch's."""
    readable: tuple[Path, ...] = ()
    """What it may read besides the Python environment, once its sandbox is in force."""
    locked: bool = True
    """Whether it enters a sandbox."""


class KeepRequest(Record):
    """Images to be decoded and kept, for whoever wants the same."""

    transforms: Path
    """transforms.json."""
    dataset: Path
    """The data set's folder; only its images are read."""
    image_ids: tuple[str, ...]
    """Which images, in order."""
    kept: KeptImages
    """Where."""


class SpeedRequest(Record):
    """A graph to be timed beside the baseline's."""

    graph: Path
    """The baseline's graph.json."""
    weights: Path
    """The baseline's weights.safetensors."""
    seconds: float = Field(default=4.0, gt=0)
    """Processor time for each batch size in one taking; a slow network takes longer."""
    takings: int = Field(default=1, ge=1)
    """How often all batch sizes are timed, one after the other."""
    seed: int = 0
    """Of the order of the blocks, the images and where memory lies."""


class RunnerRequest(Record):
    """One graph to be counted and run."""

    graph: Path
    """graph.json."""
    weights: Path
    """weights.safetensors."""
    transforms: Path
    """transforms.json."""
    num_classes: int
    """How many logits there must be."""
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
    """What the graph is run on."""
    speed: SpeedRequest | None = None
    """What the graph is timed beside; None: it is not timed."""
    where: Path | None = None
    """A file that names each operator before it runs, so that a crash leaves its place; slow."""


class RunnerReply(Record):
    """What became of a request."""

    problems: tuple[Problem, ...] = ()
    """What is wrong with the submission; then there are no logits."""
    data_problems: tuple[Problem, ...] = ()
    """What is wrong with the data set; then there are no logits."""
    host_problems: tuple[Problem, ...] = ()
    """What this machine could not do; then there are no logits."""
    cost: CostReport | None = None
    """What one image costs."""
    costs: GraphCosts | None = None
    """What it needs beside MACs."""
    params: int | None = None
    """Elements of the parameters in use."""
    input_shape: tuple[int, int, int] | None = None
    """(C, H, W)."""
    profile: ProfileReport | None = None
    """If it was asked for."""
    speed: SpeedReport | None = None
    """If it was asked for."""


class RunnerHello(Record):
    """The runner's first line: it is ready, and this is what it counts and runs with."""

    cost_version: str = ""
    """The version of the cost rule."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Python, torch and torchvision, and the packages that it is asked for."""
    problems: tuple[Problem, ...] = ()
    """Why it does not count: a self test that came out wrong, a rule that is not valid."""
