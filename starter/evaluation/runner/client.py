"""Ask a submission's own process (plugin/worker.py) for its graph; read its answer as hostile data.

Nothing of torch is imported here: this is the side that holds the labels.
"""

import mmap
import signal
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pydantic import TypeAdapter, ValidationError

from starter.contract.competition import Limits
from starter.contract.errors import Code, Problem, host_error, problem
from starter.contract.hookspecs import Competition
from starter.contract.protocol import (
    EXIT_OUTPUT,
    MAX_REPORT,
    PARTS,
    WorkerJob,
    WorkerReport,
)
from starter.contract.submissions import Kind, SubmissionSource
from starter.contract.system.files import is_full
from starter.evaluation.runner.claims import read_report
from starter.evaluation.runner.imports import explained, hidden_from
from starter.sandbox.protocol import LimitExceeded, Payload, Sandbox, SandboxError
from starter.submission.content import submission_files

_POLL_SECONDS = 0.05
WINDOWS_CRASH = 0xC0000000
"""An exit status from here on is an exception that nobody handled."""
_MAX_HEADER = 1024
_WHERE = "the submission's process"
_START_SECONDS = 120.0
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
    source: SubmissionSource,
    competition: Competition,
    limits: Limits,
    folder: Path,
    sandbox: Sandbox,
    *,
    stop: threading.Event | None = None,
    packages: Sequence[str] | None = None,
) -> Exported:
    """Load and export one submission in a sandbox.

    Args:
        source: which submission.
        competition: what its hook may know.
        limits: what its process may use; a limit that it exceeds is a problem in the report.
        folder: where the parts of the reply are written; exists and is empty.
        sandbox: where its code runs.
        stop: once it is set, its process is ended; nobody waits for the answer any more.
        packages: what it may import beyond the kit's own; None: whatever is installed.

    Raises:
        HostError: the sandbox does not start, or broke.
    """
    with tempfile.TemporaryDirectory(prefix="starter-", ignore_cleanup_errors=True) as place:
        payload, reply, log = (Path(place) / name for name in ("payload", "reply", "log"))
        packed = _pack(source, competition, limits, payload, hidden=hidden_from(source, packages))
        try:
            verdict = sandbox.run(packed, reply, log, limits, stop or threading.Event())
        except SandboxError as error:
            code = Code.NO_SPACE if is_full(Path(place)) else Code.WORKER_FAILED
            where = f"isolation {sandbox.level}"
            raise host_error(code, where=where, got=str(error)) from error
        found = verdict.exceeded and limit_problem(verdict.exceeded, _WHERE)
        found = found or _exit_problem(verdict.status, limits)
        found = found or _split(reply, folder, limits)
        printed = sandbox.without_names(log.read_bytes()).decode(errors="replace")
    used = dict(verdict.used)
    if found is not None:
        return Exported(WorkerReport(problems=(found,)), folder, printed, used)
    report = sandbox.without_names((folder / "report").read_bytes()) if (folder / "report").exists() else b""
    said = read_report(report)
    problems = tuple(explained(one, packages) for one in said.problems)
    exported = Exported(said.model_copy(update={"problems": problems}), folder, printed, used)
    if exported.report.problems or exported.is_complete:
        return exported
    got = f"no {' and no '.join(part for part in PARTS if not (folder / part).is_file())}"
    wrong = problem(Code.MALFORMED_GRAPH, where="reply", got=got)
    return Exported(WorkerReport(problems=(wrong,)), folder, printed, used)


def _pack(
    source: SubmissionSource, competition: Competition, limits: Limits, path: Path, *, hidden: tuple[str, ...]
) -> Payload:
    """Write a job and the bytes of the submission's files to a file."""
    files = {} if source.kind is Kind.ENTRY_POINT else submission_files(source)
    sizes = {name: file.stat().st_size for name, file in files.items()}
    job = WorkerJob(
        name=source.name,
        path=source.path if source.kind is Kind.ENTRY_POINT else Path(source.path.name),
        kind=source.kind,
        competition=competition,
        cpu_seconds=limits.cpu_seconds,
        memory_mb=limits.memory_mb,
        threads=limits.threads,
        scratch_mb=limits.scratch_mb,
        output_mb=limits.output_mb,
        hidden=hidden,
        files=sizes,
    )
    with path.open("xb") as packed:
        packed.write(job.model_dump_json().encode() + b"\n")
        for name, file in files.items():
            with file.open("rb") as opened:
                _copy(opened, packed, sizes[name])
    folders = {above for name in sizes for above in PurePosixPath(name).parents}
    pages = sum(-(-size // mmap.PAGESIZE) * mmap.PAGESIZE for size in sizes.values())
    return Payload(path, unpacked_bytes=pages, unpacked_files=len(sizes) + len(folders) + 1)


_LIMITS = {
    "wall_seconds": (Code.TIMEOUT, "{} s"),
    "cpu_seconds": (Code.TIMEOUT, "{} s of CPU time"),
    "memory_mb": (Code.MEMORY, "{} MiB"),
    "threads": (Code.THREADS, "{} threads"),
    "scratch_mb": (Code.DISK, "{} MiB"),
    "scratch_files": (Code.DISK, "{} files"),
    "scratch_path": (Code.DISK, "{} bytes in a path"),
    "log_mb": (Code.OUTPUT, "{} MiB of log"),
}


def limit_problem(limit: LimitExceeded, where: str) -> Problem:
    """Return the limit that a process exceeded, as a problem."""
    code, unit = _LIMITS[limit.name]
    hint = "Print less; only the end of the log is kept." if limit.name == "log_mb" else ""
    return problem(
        code,
        where=where,
        expected=f"at most {unit.format(f'{limit.allowed:g}')}",
        got=unit.format(f"{limit.measured:g}"),
        hint=hint,
    )


def _exit_problem(status: int, limits: Limits) -> Problem | None:
    if status == 0:
        return None
    if status == EXIT_OUTPUT:
        return problem(Code.OUTPUT, where=_WHERE, expected=f"at most {limits.output_mb} MiB", got="more")
    if status < 0 or status >= WINDOWS_CRASH:
        return problem(Code.CRASH, where=_WHERE, got=f"killed by {signal_name(status)}")
    return problem(Code.EARLY_EXIT, where=_WHERE, got=f"exit status {status}")


def signal_name(status: int) -> str:
    """Return the name of what has ended a process, by its exit status."""
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"exception {status:#x}" if status > 0 else f"signal {-status}"


def _split(reply: Path, folder: Path, limits: Limits) -> Problem | None:
    """Cut the reply into its parts; return what is wrong with it."""
    size = reply.stat().st_size if reply.exists() else 0
    if size == 0:
        return problem(Code.EARLY_EXIT, where=_WHERE, got="exit status 0, but no reply")
    if size > limits.output_mb * 2**20:
        expected, got = f"at most {limits.output_mb} MiB", f"{size / 2**20:.1f} MiB"
        return problem(Code.OUTPUT, where=_WHERE, expected=expected, got=got)
    with reply.open("rb") as file:
        header = file.readline(_MAX_HEADER)
        try:
            sizes = _SIZES.validate_json(header, strict=True)
        except ValidationError:
            return problem(Code.MALFORMED_GRAPH, where="reply", got="no valid header")
        if not set(sizes) <= set(PARTS) or any(n < 0 for n in sizes.values()):
            return problem(Code.MALFORMED_GRAPH, where="reply", got=f"parts {sorted(sizes)}")
        if len(header) + sum(sizes.values()) != size or sizes.get("report", 0) > MAX_REPORT:
            return problem(Code.MALFORMED_GRAPH, where="reply", got="sizes that do not add up")
        for part, length in sizes.items():
            with (folder / part).open("wb") as target:
                _copy(file, target, length)
    return None


def _copy(source: BinaryIO, target: BinaryIO, length: int) -> None:
    """Copy a number of bytes in pieces: a reply may be as large as its limit."""
    while length > 0 and (piece := source.read(min(length, 1 << 20))):
        target.write(piece)
        length -= len(piece)
