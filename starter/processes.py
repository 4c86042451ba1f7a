"""Ask the two kinds of child for their work, and read what they answer as hostile data.

`export` asks a submission's own process (worker.py) for its graph. `Runner` keeps
our label-free process (runner.py), which counts and runs graphs. Nothing of torch
is imported here: this is the side that holds the labels.
"""

import contextlib
import os
import queue
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from pydantic import TypeAdapter, ValidationError

from starter.competition import Limits
from starter.discovery import Candidate, Kind
from starter.errors import Code, HostError, Problem, UsageError, host_error, problem
from starter.hookspecs import Competition
from starter.messages import RunnerHello, RunnerReply, RunnerRequest, WorkerJob, WorkerReport
from starter.room import Room
from starter.sandbox.child import Allowance, Child

PARTS = ("report", "graph", "weights", "transforms")
"""What a worker sends back, as files."""

EXIT_OUTPUT = 3
"""A worker's exit status when its reply was larger than the limit."""

_WINDOWS_EXCEPTION = 0xC0000000
"""An exit status from here on says which error ended a process on Windows; elsewhere there is none."""

_MAX_HEADER = 1024
_MAX_REPORT = 2**20
_START_SECONDS = 120.0
_POLL_SECONDS = 0.05
_SIZES = TypeAdapter(dict[str, int])


@dataclass(frozen=True)
class Exported:
    """What came back from a submission's process."""

    report: WorkerReport
    """What it says, its problems among it."""
    folder: Path
    """Where the graph, the weights and the transforms lie, if they came back."""
    log: str
    """The end of what it printed."""
    used: dict[str, float] = field(default_factory=dict)
    """What its process used, by the names of the limits."""

    @property
    def is_complete(self) -> bool:
        """Whether there is a graph to be counted."""
        return all((self.folder / part).is_file() for part in PARTS)


def export(
    candidate: Candidate,
    competition: Competition,
    limits: Limits,
    folder: Path,
    room: Room,
    *,
    stop: threading.Event | None = None,
) -> Exported:
    """Load and export one submission in a room.

    Args:
        candidate: which submission.
        competition: what its hook may know.
        limits: what its process may use; a limit that strikes is a problem in the report.
        folder: where the parts of the reply are written; exists and is empty.
        room: where its code runs.
        stop: once it is set, the room is closed; nobody waits for the answer any more.

    Raises:
        HostError: the room does not start, or broke.
    """
    with (
        tempfile.TemporaryFile() as reply,
        tempfile.TemporaryFile() as log_file,
        _packed(candidate, competition, limits) as payload,
    ):
        verdict = room.run(payload, reply, log_file, limits, stop or threading.Event())
        found = _struck(verdict) or _exit_problem(verdict["status"], limits) or _split(reply, folder, limits)
        log_file.seek(0)
        log = room.without_names(log_file.read()).decode(errors="replace")
    if found is not None:
        return Exported(WorkerReport(problems=(found,)), folder, log, verdict["used"])
    report = room.without_names((folder / "report").read_bytes()) if (folder / "report").exists() else b""
    return Exported(_read_report(report), folder, log, verdict["used"])


@contextlib.contextmanager
def _packed(candidate: Candidate, competition: Competition, limits: Limits) -> Iterator[BinaryIO]:
    """Write a job and the bytes of the submission's files to a file that can only be read afterwards."""
    files = {} if candidate.kind is Kind.ENTRY_POINT else submission_files(candidate)
    job = WorkerJob(
        name=candidate.name,
        path=candidate.path if candidate.kind is Kind.ENTRY_POINT else Path(candidate.path.name),
        kind=candidate.kind,
        competition=competition,
        cpu_seconds=limits.cpu_seconds,
        memory_mb=limits.memory_mb,
        threads=limits.threads,
        output_mb=limits.output_mb,
        files={name: len(data) for name, data in files.items()},
    )
    with tempfile.NamedTemporaryFile(prefix="starter-") as file:
        file.write(job.model_dump_json().encode() + b"\n")
        for data in files.values():
            file.write(data)
        file.flush()
        with Path(file.name).open("rb") as payload:
            yield payload


def submission_files(candidate: Candidate) -> dict[str, bytes]:
    """Return the submission's files by the names they are unpacked with; no link to the outside."""
    above = candidate.path.parent
    own = candidate.folder.resolve() if candidate.kind is Kind.FOLDER else None
    contents = {}
    for path in sorted(candidate.files()):
        inside = path.resolve().is_relative_to(own) if own else not path.is_symlink()
        if inside and "__pycache__" not in path.parts:
            contents[path.relative_to(above).as_posix()] = path.read_bytes()
    return contents


_STRUCK = {
    "wall_seconds": (Code.TIMEOUT, "{} s"),
    "cpu_seconds": (Code.TIMEOUT, "{} s of processor time"),
    "memory_mb": (Code.MEMORY, "{} MiB"),
    "threads": (Code.THREADS, "{} threads"),
    "scratch_mb": (Code.DISK, "{} MiB"),
    "scratch_files": (Code.DISK, "{} files"),
    "scratch_path": (Code.DISK, "{} bytes in a path"),
    "log": (Code.OUTPUT, "{} MiB of log"),
}


def _struck(verdict: dict[str, Any]) -> Problem | None:
    """Return the limit that the submission's process reached, as a problem."""
    if verdict["struck"] is None:
        return None
    name, allowed, measured = verdict["struck"]
    code, unit = _STRUCK[name]
    hint = "Print less: only the end of the log is kept." if name == "log" else ""
    return problem(
        code,
        where="the submission's process",
        expected=f"at most {unit.format(f'{allowed:g}')}",
        got=unit.format(f"{measured:g}"),
        hint=hint,
    )


def _exit_problem(status: int, limits: Limits) -> Problem | None:
    where = "the submission's process"
    if status == 0:
        return None
    if status == EXIT_OUTPUT:
        return problem(Code.OUTPUT, where=where, expected=f"at most {limits.output_mb} MiB", got="more")
    if status < 0:
        return problem(Code.CRASH, where=where, got=f"killed by {_signal_name(-status)}")
    if status >= _WINDOWS_EXCEPTION:
        return problem(Code.CRASH, where=where, got=f"ended by Windows, exception {status:#x}")
    return problem(Code.EARLY_EXIT, where=where, got=f"exit status {status}")


def _signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):  # the real-time signals have no names
        return signal.Signals(number).name
    return f"signal {number}"


def _split(reply: BinaryIO, folder: Path, limits: Limits) -> Problem | None:
    """Cut the reply into its parts; return what is wrong with it."""
    size = os.fstat(reply.fileno()).st_size
    if size == 0:
        return problem(Code.EARLY_EXIT, where="the submission's process", got="exit status 0, but no answer")
    if size > limits.output_mb * 2**20:
        return problem(
            Code.OUTPUT,
            where="the submission's process",
            expected=f"at most {limits.output_mb} MiB",
            got=f"{size / 2**20:.0f} MiB",
        )
    reply.seek(0)
    header = reply.readline(_MAX_HEADER)
    try:
        sizes = _SIZES.validate_json(header, strict=True)
    except ValidationError:
        return problem(Code.MALFORMED_GRAPH, where="reply", got="no valid header")
    if not set(sizes) <= set(PARTS) or any(n < 0 for n in sizes.values()):
        return problem(Code.MALFORMED_GRAPH, where="reply", got=f"parts {sorted(sizes)}")
    if len(header) + sum(sizes.values()) != size or sizes.get("report", 0) > _MAX_REPORT:
        return problem(Code.MALFORMED_GRAPH, where="reply", got="sizes that do not add up")
    for part, length in sizes.items():
        (folder / part).write_bytes(reply.read(length))
    return None


def _read_report(text: bytes) -> WorkerReport:
    try:
        report = WorkerReport.model_validate_json(text, strict=False)
    except ValidationError as error:
        wrong = problem(Code.MALFORMED_GRAPH, where="report", got=str(error)[:200])
        return WorkerReport(problems=(wrong,))
    for found in report.problems:
        if not found.code.startswith("E"):  # a stranger cannot say that we have failed
            wrong = problem(Code.MALFORMED_GRAPH, where="report", got=f"a problem {found.code}")
            return WorkerReport(problems=(wrong,))
    return report


class Runner:
    """Our own child that counts and runs graphs; started at once, so that it loads while others work.

    Args:
        limits: evaluate_seconds for each request, and the memory.
        threads: how many threads it computes with.
        cost_rules: an organizer's files, for operators that have no rule.
    """

    def __init__(
        self, limits: Limits, *, threads: int | None = None, cost_rules: Sequence[Path] = ()
    ) -> None:
        self._limits = limits
        self._cost_rules = [str(path.resolve()) for path in cost_rules]
        self._threads = threads or os.cpu_count() or 1
        self._scratch = tempfile.TemporaryDirectory(prefix="starter-", ignore_cleanup_errors=True)
        self._hello: RunnerHello | None = None
        self._child = self._start()

    def __enter__(self) -> Self:
        """Return the runner."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the child."""
        self.close()

    def close(self) -> None:
        """End the child."""
        self._child.kill()
        self._scratch.cleanup()

    @property
    def hello(self) -> RunnerHello:
        """What it counts and runs with; waits until it has loaded.

        Raises:
            HostError: it did not start, or counts a canary wrongly.
            UsageError: a cost rule of the organizer's is not valid.
        """
        if self._hello is None:
            line = self._read_line(_START_SECONDS)
            if not isinstance(line, bytes):
                log = self._restart()
                raise host_error(Code.RUNNER_FAILED, where="start of the runner", got=log[-2000:])
            self._hello = RunnerHello.model_validate_json(line)
        if self._hello.problems:
            is_ours = self._hello.problems[0].code is Code.CANARY_FAILED
            raise (HostError if is_ours else UsageError)(self._hello.problems)
        return self._hello

    def ask(self, request: RunnerRequest) -> RunnerReply:
        """Have one graph counted and run.

        A limit that strikes is the submission's problem: it is its graph that takes
        the time and the memory. The runner is then started anew.

        Raises:
            HostError: the runner itself failed.
        """
        self.hello  # noqa: B018 - waits until it has loaded, which is not the submission's time
        self._child.restart_clock()
        try:
            self._child.send(request.model_dump_json().encode())
            line = self._read_line()
        except OSError:  # it has ended; Windows calls that an invalid argument
            line = None
        if isinstance(line, bytes):
            return RunnerReply.model_validate_json(line)
        log = self._restart()
        if line is None:
            raise host_error(Code.RUNNER_FAILED, where="the runner", got=log[-2000:])
        return RunnerReply(problems=(line.model_copy(update={"where": "the evaluation of the graph"}),))

    def _start(self) -> Child:
        return Child(
            "starter.runner",
            self._cost_rules,
            scratch=Path(self._scratch.name),
            allowance=Allowance.for_runner(self._limits),
            threads=self._threads,
        )

    def _restart(self) -> str:
        self._child.kill()
        log = self._child.log()
        self._hello = None
        self._child = self._start()
        return log

    def _read_line(self, seconds: float | None = None) -> bytes | Problem | None:
        """Return the next line, the limit that struck while waiting for it, or None if the child ended."""
        while True:
            try:
                return self._child.receive(_POLL_SECONDS)
            except queue.Empty:
                if (struck := self._child.check(seconds)) is not None:
                    return struck
