"""The submission's process: lock itself in, import torch, load the plugin, export it, leave.

Started by supervisor.py as `python -I -B -m starter.worker ARGUMENTS`, perhaps inside bubblewrap.
It locks itself in first, then imports torch, and waits on fd 0 for a submission: descriptors of
a payload, a reply, a log and a handshake. A template forks a child for each one, runs nothing of
a stranger's itself and reads nothing of it. The reply is a line of JSON with the lengths of the
parts, then the parts. No image, label or other submission is ever here.
"""

import errno
import gc
import json
import os
import resource
import socket
import sys
import tempfile
import traceback
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from starter.discovery import Candidate, Kind
from starter.errors import Code, ParticipantError, Problem, problem
from starter.folders import empty_folder
from starter.lockdown import lock_down
from starter.messages import WorkerJob, WorkerReport
from starter.processes import EXIT_OUTPUT, PARTS

if TYPE_CHECKING:
    import torch

    from starter.plugins import LoadedPlugin

_NO_SPACE = f"[Errno {errno.ENOSPC}]"
_NO_THREAD = "can't start new thread"
_ADDRESS_SPACE_OF_TORCH = 8 * 2**30  # CUDA builds map several GiB at import without using them


def main() -> None:
    """Lock in, prepare, and serve submissions until nobody wants any more."""
    arguments = json.loads(sys.argv.pop())
    sys.orig_argv.clear()  # no submission need know where our temporary folder is
    control = socket.socket(fileno=0)
    room = Path.cwd()
    if arguments["locked"]:
        readable = [Path(path) for path in arguments["readable"]]
        lock_down(readable, room, user=arguments["user"], waiting=True, boxed=arguments["boxed"])
        _try_the_lock(Path(arguments.pop("outside")), room)
    (room / "scratch").mkdir()  # the temporary folder, which torch looks for when it is imported
    if arguments["preload"]:
        _preload()
    control.send(b"ready")
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 16, 4)
        if not message:
            os._exit(0)
        child = os.fork() if arguments["forks"] else 0
        if child == 0:
            control.close()
            _serve(arguments, room, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        _, status = os.waitpid(child, 0)
        control.send(f"{status} {_cleared(room)}".encode())


def _cleared(room: Path) -> str:
    """Remove what a submission has left; say whether the room can have another."""
    try:
        empty_folder(room)
    except OSError:
        traceback.print_exc()
        return "spoilt"
    return "clean"


def _try_the_lock(outside: Path, room: Path) -> None:
    """End the process where something that the lock must refuse succeeds, or the room cannot be used."""
    if os.getuid() == 0:
        raise SystemExit("the worker is root")
    for what, attempt in (
        ("read a file outside", outside.read_bytes),
        ("write a file outside", lambda: outside.write_bytes(b"")),
        ("open a socket", lambda: socket.socket().close()),
        ("run a program", lambda: os.execv(sys.executable, [sys.executable, "-c", ""])),  # noqa: S606
        ("signal another process", lambda: os.kill(os.getppid() or 1, 0)),
    ):
        try:
            attempt()
        except OSError:
            continue
        raise SystemExit(f"the lock let the worker {what}")
    Path(os.__file__).read_bytes()  # the Python environment, which must not be another user's alone
    (room / "canary").write_text("")
    (room / "canary").unlink()


def _preload() -> None:
    # While torch is imported the collector would look through a million objects that all stay: a second.
    gc.disable()
    import thop  # noqa: F401
    import torch.export._trace  # noqa: F401 - torch.export imports it when it is first called: a second
    import torchvision.models  # noqa: F401

    from starter import export, pipeline, plugins, transforms  # noqa: F401

    gc.freeze()
    gc.enable()


def _serve(arguments: dict[str, Any], room: Path, payload: int, reply: int, log: int, handshake: int) -> None:
    """Do one job and end the process at once: an orderly exit of torch takes a second."""
    os.write(handshake, b"R")
    if os.read(handshake, 1) != b"G":  # only now can this process be watched and killed
        os._exit(1)
    os.close(handshake)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    with os.fdopen(payload, "rb") as file:
        job = WorkerJob.model_validate_json(file.readline())
        candidate = _unpack(file, job, room / "submission")
    scratch = room / "scratch"
    scratch.mkdir(exist_ok=True)
    os.chdir(scratch)
    tempfile.tempdir = None
    _limit_resources(job, alone=arguments["alone"])
    if arguments["locked"]:
        own = [Path(path) for path in arguments["readable"]]
        lock_down([*own, room / "submission"], scratch, boxed=arguments["boxed"])
    os.closerange(3, reply)
    os.closerange(reply + 1, 512)
    _answer(os.fdopen(reply, "wb"), candidate, job, scratch)


def _unpack(payload: IO[bytes], job: WorkerJob, folder: Path) -> Candidate:
    """Write the submission's files; return it as it lies here."""
    folder.mkdir()
    if job.kind is Kind.ENTRY_POINT:
        return Candidate(job.name, job.path, job.kind)
    for name, size in job.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(payload.read(size))
    return Candidate(job.name, folder / job.path, job.kind)


def _answer(reply: IO[bytes], candidate: Candidate, job: WorkerJob, scratch: Path) -> None:
    try:
        report = _evaluate(candidate, job, scratch)
    except MemoryError:
        report = WorkerReport(problems=(_out_of_memory(job),))
    except Exception:  # noqa: BLE001 - a crash of the participant's code becomes a reply
        traceback.print_exc()
        os._exit(1)
    if any(_NO_SPACE in found.got for found in report.problems):
        full = problem(Code.DISK, where="the scratch folder", got="no space left")
        report = report.model_copy(update={"problems": (full, *report.problems[:99])})
    if any(_NO_THREAD in found.got for found in report.problems):
        expected = f"at most {job.threads} threads"
        many = problem(Code.THREADS, where="the submission's process", expected=expected, got="one more")
        report = report.model_copy(update={"problems": (many, *report.problems[:99])})
    try:
        _send(reply, report, scratch)
    except OSError as error:
        traceback.print_exception(error)
        os._exit(EXIT_OUTPUT)
    sys.stderr.flush()
    os._exit(0)


def _limit_resources(job: WorkerJob, *, alone: bool) -> None:
    """Set what the kernel enforces, never to be raised again.

    Args:
        job: what it may use.
        alone: whether its user's processes are those of the room alone, so that they can be counted.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (job.cpu_seconds + 5, job.cpu_seconds + 10))
    output = job.output_mb * 2**20
    resource.setrlimit(resource.RLIMIT_FSIZE, (output, output))
    space = job.memory_mb * 2**20 + _ADDRESS_SPACE_OF_TORCH
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    if alone:
        resource.setrlimit(resource.RLIMIT_NPROC, (job.threads + 1, job.threads + 1))  # and the template


def _evaluate(candidate: Candidate, job: WorkerJob, scratch: Path) -> WorkerReport:
    from starter.plugins import load_plugin

    try:
        plugin = load_plugin(candidate, job.competition, strict=False)
    except ParticipantError as error:
        return WorkerReport(problems=error.problems)
    problems = list(plugin.problems)
    thop_macs = None
    try:
        thop_macs, found = _export(plugin, candidate, job, scratch)
        problems += found
    except ParticipantError as error:
        problems += error.problems
    submission = plugin.submission
    return WorkerReport(
        problems=tuple(problems[:100]),
        thop_macs=thop_macs,
        title=submission.name,
        authors=submission.authors,
        description=submission.description,
    )


def _export(
    plugin: "LoadedPlugin", candidate: Candidate, job: WorkerJob, scratch: Path
) -> tuple[int | None, list[Problem]]:
    """Write transforms, graph and weights; return thop's count and what is wrong with the model."""
    import torch
    from safetensors import SafetensorError

    from starter import pipeline, transforms
    from starter.export import export_model, probe_model, write_graph

    records = transforms.describe(plugin.submission.transforms)
    shape = pipeline.input_shape(records)
    (scratch / "transforms").write_text(transforms.dump(records), encoding="utf-8")
    model = plugin.submission.model
    if not isinstance(model, torch.nn.Module):
        return None, []  # reported by load_plugin
    problems = probe_model(model, shape, job.competition.num_classes, candidate)
    if problems:
        return None, problems
    exported = export_model(model, shape, candidate)
    try:
        write_graph(exported, candidate, scratch / "graph", scratch / "weights")
    except (OSError, SafetensorError) as error:  # the kernel's limit on the size of a file
        (scratch / "weights").unlink(missing_ok=True)
        raise ParticipantError([_too_large(job, str(error))]) from error
    return _count_with_thop(model, shape), []


def _count_with_thop(model: "torch.nn.Module", shape: tuple[int, int, int]) -> int | None:
    """Return what thop counts; None where it fails, for it is only shown beside our count."""
    import thop
    import torch

    try:
        macs, _ = thop.profile(model, inputs=(torch.zeros(1, *shape),), verbose=False)
    except Exception:  # noqa: BLE001 - it hooks itself into a stranger's module: anything may happen
        traceback.print_exc()
        return None
    return int(macs)


def _out_of_memory(job: WorkerJob) -> Problem:
    return problem(
        Code.MEMORY,
        where="the submission's process",
        expected=f"at most {job.memory_mb} MiB",
        got="an allocation was refused",
    )


def _too_large(job: WorkerJob, got: str) -> Problem:
    return problem(
        Code.OUTPUT, where="the submission's process", expected=f"at most {job.output_mb} MiB", got=got[:200]
    )


def _send(reply: IO[bytes], report: WorkerReport, scratch: Path) -> None:
    head = report.model_dump_json().encode()
    files = {part: scratch / part for part in PARTS[1:] if (scratch / part).is_file()}
    sizes = {PARTS[0]: len(head)} | {part: path.stat().st_size for part, path in files.items()}
    with reply:
        reply.write(json.dumps(sizes).encode() + b"\n" + head)
        for path in files.values():
            reply.write(path.read_bytes())


if __name__ == "__main__":
    main()
