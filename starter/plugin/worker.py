"""The submission's process: lock itself in, import torch, load the plugin, export it, leave.

Started by sandbox/supervisor.py as `python -I -B -m starter.plugin.worker ARGUMENTS`.
It locks itself in first, then imports torch, and waits on fd 0 for a submission: descriptors of
a payload, a reply, a log and a handshake. A template forks a child for each one, runs nothing of
a stranger's itself and reads nothing of it. The reply is a line of JSON with the lengths of the
parts, then the parts. No image, label or other submission is ever here.
"""

import importlib.util
import json
import os
import resource
import socket
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from starter.contract.protocol import WorkerJob
from starter.plugin.answer import answer, preload, unpack
from starter.sandbox.lockdown import lock_down
from starter.sandbox.scratch import empty_folder

_READ_BY_EVERY_PLUGIN = ("starter", "torch", "torchvision", "thop")
_ADDRESS_SPACE_OF_TORCH = 8 * 2**30  # CUDA builds map several GiB at import without using them


def main() -> None:
    """Lock in, prepare, and serve submissions until nobody wants any more."""
    arguments = json.loads(sys.argv.pop())
    sys.orig_argv.clear()  # no submission need know where our temporary folder is
    control = socket.socket(fileno=0)
    room = Path.cwd()
    readable = [Path(path) for path in arguments["readable"]]
    lock_down(readable, room, user=arguments["user"], waiting=True, boxed=arguments["boxed"])
    _try_the_lock(Path(arguments.pop("outside")), room, root=arguments["root"])
    (room / "scratch").mkdir()  # the temporary folder, which torch looks for when it is imported
    if arguments["preload"]:
        preload()
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


def _try_the_lock(outside: Path, room: Path, *, root: bool) -> None:
    """End the process where something that the lock must refuse succeeds, or the room cannot be used.

    Args:
        outside: a file that it must not read.
        room: the folder that it may write to.
        root: whether it is meant to stay root: nobody else can read the Python environment.
    """
    if os.getuid() == 0 and not root:
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
    Path(os.__file__).read_bytes()
    for module in _READ_BY_EVERY_PLUGIN:  # an environment may be its owner's alone
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise SystemExit(f"user {os.getuid()} cannot read the Python environment: no {module}")
        Path(spec.origin).read_bytes()
    (room / "canary").write_text("")
    (room / "canary").unlink()


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
        source = unpack(file, job, room / "submission")
    scratch = room / "scratch"
    scratch.mkdir(exist_ok=True)
    os.chdir(scratch)
    tempfile.tempdir = None
    _limit_resources(job, alone=arguments["alone"])
    own = [Path(path) for path in arguments["readable"]]
    lock_down([*own, room / "submission"], scratch, boxed=arguments["boxed"])
    os.closerange(3, reply)
    os.closerange(reply + 1, 512)
    answer(os.fdopen(reply, "wb"), source, job)


def _limit_resources(job: WorkerJob, *, alone: bool) -> None:
    """Set what the kernel enforces, never to be raised again.

    Args:
        job: what it may use.
        alone: whether its user's processes are those of the room alone, so that they can be counted.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = (
        job.cpu_seconds + int(used.ru_utime + used.ru_stime) + 1
    )  # a worker that does not fork has imported torch
    resource.setrlimit(resource.RLIMIT_CPU, (seconds + 5, seconds + 10))
    # Of one file. The supervisor measures what is in the scratch folder, the command the whole reply.
    largest = (max(job.output_mb, job.scratch_mb) + 1) * 2**20
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    space = job.memory_mb * 2**20 + _ADDRESS_SPACE_OF_TORCH
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    if alone:
        resource.setrlimit(resource.RLIMIT_NPROC, (job.threads + 1, job.threads + 1))  # and the template


if __name__ == "__main__":
    main()
