"""Measure submissions without labels: the cost of each one and its answers.

A submission's own process returns a graph (`export`); the kit's label-free process counts it and
runs it on the images (`Runner`). While one graph runs, the next plugin is
exported. evaluate.py compares the answers with the labels; on a cluster, on another machine.
"""

import contextlib
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from starter.contract.competition import CompetitionFile
from starter.contract.errors import HostError, Problem, UsageError
from starter.contract.hookspecs import Competition
from starter.contract.isolation import Isolation, Level
from starter.contract.protocol import (
    KeepRequest,
    KeptImages,
    RunnerHello,
    RunnerReply,
    RunnerRequest,
    WorkerReport,
)
from starter.contract.submissions import Kind, SubmissionSource
from starter.contract.system.processors import machine
from starter.evaluation.runner.client import Exported, export
from starter.evaluation.runner.process import Keeper, Runner
from starter.evaluation.runner.speed import SpeedMeasurer, SpeedPlan
from starter.sandbox.choice import open_sandbox
from starter.sandbox.protocol import Sandbox

_AHEAD = 1
"""How many submissions are exported ahead of running them: each may keep its weights on the disk."""


class WorkerLostError(Exception):
    """The worker is lost, with its submission: the machine's fault, so another worker may retry."""


@dataclass(frozen=True)
class Images:
    """The images to measure on, without their labels."""

    root: Path
    """The data set's folder; only its images are read."""
    ids: tuple[str, ...]
    """The images, in order."""
    competition: Competition
    """What a plugin may see of the data set."""
    kept: KeptImages | None = None
    """Where decoded images are kept; None: nowhere."""


@dataclass(frozen=True)
class Measurement:
    """The cost of one submission and its answers."""

    source: SubmissionSource
    """The submission."""
    report: WorkerReport = field(default_factory=lambda: WorkerReport(problems=()))
    """The report of its own process."""
    reply: RunnerReply = field(default_factory=RunnerReply)
    """The counts of the kit's process."""
    problems: tuple[Problem, ...] = ()
    """All problems; if there are any, there are no logits."""
    logits: np.ndarray[Any, np.dtype[np.float32]] | None = None
    """Shape (images, classes), in the order of the images."""
    log: str = ""
    """The last lines that its code printed."""
    used: dict[str, float] = field(default_factory=dict)
    """What its process used, under the names of competition.Limits."""
    seconds: float = 0
    """Wall-clock time from its turn to its result."""
    graph: bytes = b""
    """graph.json as it was counted."""
    weights_header: bytes = b""
    """The header of weights.safetensors: names, types and shapes of the tensors, no values."""
    transforms: bytes = b""
    """transforms.json as it was run."""


class MeasurerProtocol(Protocol):
    """A `LocalMeasurer`, or a measurer on another machine (organizer/cluster/driver.py)."""

    isolation: Level
    """The isolation level of its submissions."""
    machine: str
    """The machine that it runs on."""

    @property
    def hello(self) -> RunnerHello:
        """The versions that count and run graphs."""

    def measure(
        self, sources: Iterable[SubmissionSource], *, meanwhile: Callable[[], None] = ...
    ) -> Iterator[Measurement]:
        """As `LocalMeasurer.measure`."""

    def close(self) -> None:
        """End the processes that it started."""


class LocalMeasurer:
    """Measures submissions on this machine, one after another on one set of images.

    Args:
        competition: the rules.
        images: the images to run on; without ids there are no logits.
        isolation: the choice of `sandbox.choice.choose`.
        profile: whether to measure each layer too.
        threads: the threads that run a graph; None: one for each available processor.
        device: the device that runs it, cpu or cuda.
        speed: how to time each against the baseline; None: it is not timed.

    Raises:
        HostError: the runner does not start.
    """

    def __init__(
        self,
        competition: CompetitionFile,
        images: Images,
        *,
        isolation: Isolation,
        profile: bool = False,
        threads: int | None = None,
        device: str = "cpu",
        speed: SpeedPlan | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="starter-", ignore_cleanup_errors=True)
        baseline = Path(self._folder.name).resolve() / "baseline"
        baseline.mkdir()
        self._speed = SpeedMeasurer(speed, baseline) if speed else None
        self._device = device
        self._competition = competition
        self._images = images
        self._isolation = isolation
        self.isolation = isolation.level
        self.machine = machine()
        self._profile = profile
        self._runner = Runner.of(
            competition,
            images.root,
            kept=images.kept,
            threads=threads,
            device=device,
            beside=baseline if speed else None,
        )
        self._keeper = Keeper(competition.limits) if images.kept else None
        self._streams: Sandbox | None = None  # what streams of submissions share
        self._stop = threading.Event()

    def close(self) -> None:
        """End the runner and any measurement under way, and remove its files."""
        self._stop.set()
        self._runner.close()
        for other in (self._keeper, self._streams):
            if other is not None:
                other.close()
        self._folder.cleanup()

    @property
    def hello(self) -> RunnerHello:
        """The versions that count and run graphs; waits until the runner has loaded."""
        return self._runner.hello

    def measure(
        self, sources: Iterable[SubmissionSource], *, meanwhile: Callable[[], None] = lambda: None
    ) -> Iterator[Measurement]:
        """Yield the measurement of each submission, in order; a failure is one too.

        Args:
            sources: the submissions; the next is taken at most one step ahead. Streams share a sandbox.
            meanwhile: called once, while the first is being exported.

        Raises:
            UsageError: the data set has broken images.
        """
        self._stop = stop = threading.Event()
        coming = iter(sources)
        waiting: deque[tuple[SubmissionSource, Future[Exported]]] = deque()

        def export_ahead() -> None:
            for source in islice(coming, _AHEAD + 1 - len(waiting)):
                waiting.append((source, pool.submit(self.export, source, sandbox, stop)))

        with self._sandbox_for(sources) as sandbox, ThreadPoolExecutor(max_workers=1) as pool:
            try:
                export_ahead()
                meanwhile()
                while waiting:
                    source, future = waiting.popleft()
                    export_ahead()
                    yield self.run(source, future.result)
            finally:
                stop.set()  # on Ctrl-C as well: the pool waits for the export under way
                for _, future in waiting:
                    future.cancel()

    @contextlib.contextmanager
    def _sandbox_for(self, sources: Iterable[SubmissionSource]) -> Iterator[Sandbox]:
        if isinstance(sources, Sequence):
            readable = [c.folder for c in sources if c.kind is Kind.ENTRY_POINT]
            with self.sandbox(forks=len(sources) != 1, readable=readable) as own:
                yield own
        else:
            self._streams = self._streams or self.sandbox()
            yield self._streams

    def sandbox(self, *, forks: bool = True, readable: Sequence[Path] = ()) -> Sandbox:
        """Start a process for submissions, by the competition's rules."""
        limits = self._competition.limits
        return open_sandbox(self._isolation, limits=limits, forks=forks, readable=readable)

    def export(self, source: SubmissionSource, sandbox: Sandbox, stop: threading.Event) -> Exported:
        """Export one submission in its sandbox.

        Raises:
            HostError: the sandbox does not start, or broke.
            ParticipantError: the baseline fails, which is exported first if speed is measured.
        """
        limits = self._competition.limits
        if self._speed is not None:
            self._speed.prepare(self._images.competition, limits, sandbox, stop)
        folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        if problems := source.problems(limits):
            return Exported(WorkerReport(problems=tuple(problems)), folder, "")
        with self._speed.quiet if self._speed else contextlib.nullcontext():
            packages = self._competition.environment.packages
            exported = export(
                source, self._images.competition, limits, folder, sandbox, stop=stop, packages=packages
            )
        runs = exported.is_complete and not exported.report.problems
        if self._keeper is not None and self._images.kept is not None and runs:
            images, kept = self._images, self._images.kept
            asked = KeepRequest(
                transforms=folder / "transforms", dataset=images.root, image_ids=images.ids, kept=kept
            )
            self._keeper.keep(asked)
        return exported

    def run(self, source: SubmissionSource, exported_by: Callable[[], Exported]) -> Measurement:
        """Count and run an exported submission in the runner.

        Args:
            source: the submission.
            exported_by: returns the result of `export`, or raises its error.

        Raises:
            UsageError: the data set has broken images.
        """
        started = time.monotonic()
        try:
            exported = exported_by()
        except HostError as error:
            return Measurement(source, problems=error.problems)
        found = Measurement(
            source, exported.report, problems=exported.report.problems, log=exported.log, used=exported.used
        )
        try:
            if exported.is_complete:
                found = self._run(exported.folder, found)
        except HostError as error:
            found = replace(found, problems=error.problems)
        finally:
            shutil.rmtree(exported.folder, ignore_errors=True)
        return replace(found, seconds=round(time.monotonic() - started, 3))

    def _run(self, folder: Path, found: Measurement) -> Measurement:
        """Count a graph in the runner, and run it if there is no problem yet; return the measurement."""
        logits = folder / "logits.npy"
        image_ids = () if found.problems else self._images.ids
        request = RunnerRequest(
            graph=folder / "graph",
            weights=folder / "weights",
            transforms=folder / "transforms",
            num_classes=self._images.competition.num_classes,
            dataset=self._images.root,
            image_ids=image_ids,
            logits=logits,
            profile=self._profile,
            kept=self._images.kept,
            device=self._device,
        )
        reply = self._runner.ask(request)
        if reply.data_problems:
            raise UsageError(reply.data_problems)
        found = replace(found, reply=reply, problems=(*found.problems, *reply.problems))
        if reply.problems:
            return found
        if self._speed is not None and not found.problems:
            timed = self._speed.reply(self._runner, request)
            counted = reply.model_copy(update={"speed": timed.speed})
            found = replace(found, reply=counted, problems=timed.problems)
        return replace(
            found,
            graph=request.graph.read_bytes(),
            transforms=request.transforms.read_bytes(),
            weights_header=_safetensors_header(request.weights),
            logits=np.load(logits, allow_pickle=False) if image_ids else None,
        )


def _safetensors_header(path: Path) -> bytes:
    """Return the length and the JSON header of a safetensors file that the reader has accepted."""
    with path.open("rb") as file:
        length = file.read(8)
        return length + file.read(int.from_bytes(length, "little"))
