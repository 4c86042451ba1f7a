"""Keep our label-free processes: the one that runs graphs (main.py), the one that keeps images (keeper.py).

It runs hostile graphs with native kernels, so its end is the graph's doing: one more try in a fresh
process tells that from a machine that fails.
"""

import contextlib
import queue
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from starter.contract.competition import NEWEST_COST_VERSION, CompetitionFile, CostVersion, Limits
from starter.contract.errors import Code, HostError, Problem, UsageError, host_error, problem
from starter.contract.protocol import (
    KeepRequest,
    KeptImages,
    RunnerHello,
    RunnerReply,
    RunnerRequest,
    RunnerSetup,
)
from starter.contract.system.processors import available, on_one_processor
from starter.evaluation.runner.client import WINDOWS_CRASH, limit_problem, signal_name
from starter.sandbox.child import Allowance, MonitoredProcess
from starter.sandbox.choice import absent
from starter.sandbox.protocol import LimitExceeded
from starter.sandbox.usage import empty_folder

_POLL_SECONDS = 0.05
_START_SECONDS = 120.0
_LONGEST_PLACE = 300
_WHERE = "where"
_FILES = ("graph", "weights", "transforms")


class Runner:
    """Our own child that counts and runs graphs; it starts at once, and loads while others work.

    Where the kernel can, it locks itself in before anything hostile reaches it: it reads the
    images, the request in hand and the Python environment, and writes to one folder.

    Args:
        limits: evaluate_seconds for each request, and the memory.
        threads: how many threads it computes with; None: as many as processors are available.
        cost_rules: an organizer's files, for operators that have no rule.
        cost_version: the cost rule that graphs are counted and run by.
        readable: what it reads beside its requests: the images, and where decoded ones are kept.
        device: what graphs are run on; where that is a GPU, nothing is locked.
        packages: requirements whose installed versions it says.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        threads: int | None = None,
        cost_rules: Sequence[Path] = (),
        cost_version: CostVersion | None = None,
        readable: Sequence[Path] = (),
        device: str = "cpu",
        packages: Sequence[str] = (),
    ) -> None:
        self._limits = limits
        self._threads = threads or available().threads
        self._place = tempfile.TemporaryDirectory(prefix="starter-", ignore_cleanup_errors=True)
        self._given, self._written = (
            Path(self._place.name).resolve() / name for name in ("given", "written")
        )
        self._given.mkdir()
        self._written.mkdir()
        rules = tuple(path.resolve() for path in cost_rules)
        self._setup = RunnerSetup(
            cost_version=cost_version or NEWEST_COST_VERSION,
            cost_rules=rules,
            packages=tuple(packages),
            readable=(self._given, *rules, *(path.resolve() for path in readable)),
            locked=device == "cpu" and can_lock(),
        )
        self._hello: RunnerHello | None = None
        self._log = ""
        self._closed = False
        self._child = self._start()

    @classmethod
    def of(
        cls,
        competition: CompetitionFile,
        dataset: Path,
        *,
        kept: KeptImages | None = None,
        threads: int | None = None,
        device: str = "cpu",
        beside: Path | None = None,
    ) -> Self:
        """Return a runner that counts and runs graphs by a competition's rules on a data set's images.

        Args:
            competition: the rules.
            dataset: the data set's folder.
            kept: where decoded images are kept.
            threads: as for the class.
            device: as for the class.
            beside: the folder of the graph that others are timed beside.
        """
        return cls(
            competition.limits,
            threads=threads,
            cost_rules=[competition.path(name) for name in competition.operator_costs],
            cost_version=competition.score.cost_version,
            readable=[*readable(dataset, kept), *([beside] if beside else ())],
            device=device,
            packages=competition.environment.packages or (),
        )

    def __enter__(self) -> Self:
        """Return the runner."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the child."""
        self.close()

    def close(self) -> None:
        """End the child; whoever waits for an answer gets a HostError."""
        self._closed = True
        self._child.kill()
        self._place.cleanup()

    @property
    def hello(self) -> RunnerHello:
        """What it counts and runs with; waits until it has loaded.

        Raises:
            HostError: it did not start, or its self test fails.
            UsageError: a cost rule of the organizer's is not valid.
        """
        if self._hello is None:
            line = _read_line(self._child, _START_SECONDS)
            if not isinstance(line, bytes):
                self._restart()
                raise host_error(Code.RUNNER_FAILED, where="start of the runner", got=self._log[-2000:])
            self._hello = RunnerHello.model_validate_json(line)
        if self._hello.problems:
            is_ours = self._hello.problems[0].code is Code.SELF_TEST_FAILED
            raise (HostError if is_ours else UsageError)(self._hello.problems)
        return self._hello

    def ask(self, request: RunnerRequest) -> RunnerReply:
        """Count and run one graph in the runner.

        What the child does over it is the submission's: a limit that is exceeded, an answer that cannot be
        read, or its end. An end is tried once more in a fresh child, which says where it is. Before that, a
        fresh child counts and runs graphs of its own: where even they fail, it is this machine.

        Raises:
            HostError: a fresh child does not start or fails its self test, or the machine cannot write.
        """
        given = {name: self._given / name for name in _FILES}
        logits = self._written / "logits.npy"
        inside = request.model_copy(update={**given, "logits": logits})
        for name, place in given.items():
            shutil.move(getattr(request, name), place)
        try:
            reply = self._tried_twice(inside)
            if logits.is_file():
                shutil.move(logits, request.logits)
        finally:
            for name, place in given.items():
                shutil.move(place, getattr(request, name))
            empty_folder(self._written)
        if reply.host_problems:
            raise HostError(reply.host_problems)
        return reply

    def _tried_twice(self, request: RunnerRequest) -> RunnerReply:
        reply = self._asked(request)
        if isinstance(reply, int):
            reply = self._asked(request.model_copy(update={"where": self._written / _WHERE}))
        if isinstance(reply, int):
            self.hello  # noqa: B018 - a machine that ends every child is found here
            return RunnerReply(problems=(self._end_problem(reply),))
        return reply

    def _asked(self, request: RunnerRequest) -> RunnerReply | int:
        """Return the child's answer, or the exit status that it ended with."""
        self.hello  # noqa: B018 - waits until it has loaded, which is not the submission's time
        self._child.restart_clock()
        pinned = on_one_processor(self._child.process.pid) if request.speed else contextlib.nullcontext()
        try:
            with pinned:
                self._child.send(request.model_dump_json().encode())
                line = _read_line(self._child)
        except OSError:  # it has ended; Windows calls that an invalid argument
            line = None
        if isinstance(line, bytes):
            try:
                return RunnerReply.model_validate_json(line)
            except ValidationError:
                pass  # a graph has come at the memory of the child: it must not run another
        status = self._restart()
        if isinstance(line, LimitExceeded):
            return RunnerReply(problems=(limit_problem(line, "the evaluation of the graph"),))
        return status

    def _start(self) -> MonitoredProcess:
        return MonitoredProcess(
            "starter.evaluation.runner.main",
            [self._setup.model_dump_json()],
            scratch=self._written,
            allowance=Allowance.for_runner(self._limits),
            threads=self._threads,
        )

    def _restart(self) -> int:
        """Start a fresh child; return the exit status of the one before.

        Raises:
            HostError: nobody waits for it any more.
        """
        if self._closed:
            raise host_error(Code.RUNNER_FAILED, where="the runner", got="stopped")
        self._child.kill()
        self._log = self._child.log()
        self._hello = None
        ended, self._child = self._child, self._start()
        return ended.process.returncode

    def _end_problem(self, status: int) -> Problem:
        """Return the problem of a graph that has ended two child processes."""
        try:
            with (self._written / _WHERE).open("rb") as file:
                place = file.read(_LONGEST_PLACE).decode(errors="replace")
        except OSError:
            place = "the graph"
        got = f"exit status {status}" if 0 <= status < WINDOWS_CRASH else signal_name(status)
        return problem(Code.RUNNER_ENDED, where=place, got=f"{got}, twice")


def _read_line(child: MonitoredProcess, seconds: float | None = None) -> bytes | LimitExceeded | None:
    """Return a child's next line, the limit exceeded while waiting for it, or None if the child ended."""
    while True:
        try:
            return child.receive(_POLL_SECONDS)
        except queue.Empty:
            if limit := child.check(seconds):
                return limit


class Keeper:
    """Our own child that decodes images and keeps them, before a runner wants them; it runs no graph.

    Args:
        limits: evaluate_seconds for each request, and the memory.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._scratch = tempfile.TemporaryDirectory(prefix="starter-", ignore_cleanup_errors=True)
        self._child: MonitoredProcess | None = None

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
        self._scratch.cleanup()

    def keep(self, request: KeepRequest) -> None:
        """Have images decoded and kept; where that fails, the runner decodes for itself."""
        if self._child is None:
            self._child = MonitoredProcess(
                "starter.evaluation.runner.keeper",
                scratch=Path(self._scratch.name),
                allowance=Allowance.for_runner(self._limits),
            )
        self._child.restart_clock()
        try:
            self._child.send(request.model_dump_json().encode())
            done = _read_line(self._child)
        except OSError:
            done = None
        if not isinstance(done, bytes):  # ended, or at a limit: the next request starts another
            self._child.kill()
            self._child = None


def readable(dataset: Path, kept: KeptImages | None) -> list[Path]:
    """Return what a runner reads: the images of a data set, and where decoded ones are kept."""
    paths = [dataset / "images", dataset / "images.zip"]
    if kept is not None:
        with contextlib.suppress(OSError):  # then nothing is kept
            kept.folder.mkdir(parents=True, exist_ok=True)
        paths.append(kept.folder)
    return paths


def can_lock() -> bool:
    """Say whether this machine can sandbox a process."""
    if absent():
        return False
    from starter.sandbox.lockdown import missing  # noqa: PLC0415 - Linux alone has it

    return not missing(boxed=True)  # without Landlock the filter alone: no network, no other process
