"""The submission's process: enter the sandbox, import torch, load the plugin, export it, exit.

Started by sandbox/supervisor.py as `python -I -B -m starter.plugin.worker SPEC`.
It enters the sandbox first, then imports torch, and waits on fd 0 for the files of a
submission's job (sandbox/protocol.py). A template forks a child for each one, runs nothing of
a stranger's itself and reads nothing of it. The reply is a line of JSON with the lengths of the
parts, then the parts. No image, label or other submission is ever here.
"""

import importlib.util
import os
import resource
import socket
import sys
import tempfile
import traceback
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from starter.contract.protocol import WorkerJob
from starter.plugin.answer import answer, preload, unpack
from starter.sandbox.lockdown import lock_down
from starter.sandbox.protocol import GO, READY, WAITING, Ended, JobFiles, WorkerSpec
from starter.sandbox.usage import empty_folder

_READ_BY_EVERY_PLUGIN = ("starter", "torch", "torchvision", "thop")
_ADDRESS_SPACE_OF_TORCH = 8 * 2**30  # CUDA builds map several GiB at import without using them


def main() -> None:
    """Lock in, prepare, and serve submissions until nobody wants any more."""
    spec = WorkerSpec.from_json(sys.argv.pop())
    sys.orig_argv.clear()  # no submission need know where our temporary folder is
    control = socket.socket(fileno=0)
    folder = Path.cwd()
    lock_down(map(Path, spec.readable), folder, user=spec.user, waiting=True, boxed=spec.boxed)
    _try_the_lock(Path(spec.outside), folder, root=spec.root)
    spec = replace(spec, outside="")
    (folder / "scratch").mkdir()  # the temporary folder, which torch looks for when it is imported
    if spec.preload:
        preload()
    control.send(READY)
    while received := JobFiles.receive(control):
        _, files = received
        child = os.fork() if spec.forks else 0
        if child == 0:
            control.close()
            _serve(spec, folder, files)
        files.close()
        _, status = os.waitpid(child, 0)
        control.send(Ended(status, _cleared(folder)).to_json().encode())
    os._exit(0)


def _cleared(folder: Path) -> bool:
    """Remove what a submission has left; say whether the sandbox can have another."""
    try:
        empty_folder(folder)
    except OSError:
        traceback.print_exc()
        return False
    return True


def _try_the_lock(outside: Path, folder: Path, *, root: bool) -> None:
    """End the process where something that the lock must refuse succeeds, or the sandbox cannot be used.

    Args:
        outside: a file that it must not read.
        folder: the one that it may write to.
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
    (folder / "canary").write_text("")
    (folder / "canary").unlink()


def _serve(spec: WorkerSpec, folder: Path, files: JobFiles) -> NoReturn:
    """Do one job and end the process at once: an orderly exit of torch takes a second."""
    assert files.handshake is not None
    os.write(files.handshake, WAITING)
    if os.read(files.handshake, len(GO)) != GO:  # only now can this process be watched and killed
        os._exit(1)
    os.close(files.handshake)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(files.log, 1)
    os.dup2(files.log, 2)
    os.close(files.log)
    with os.fdopen(files.payload, "rb") as file:
        job = WorkerJob.model_validate_json(file.readline())
        source = unpack(file, job, folder / "submission")
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    os.chdir(scratch)
    tempfile.tempdir = None
    _limit_resources(job, alone=spec.alone)
    lock_down([*map(Path, spec.readable), folder / "submission"], scratch, boxed=spec.boxed)
    os.closerange(3, files.reply)
    os.closerange(files.reply + 1, 512)
    answer(os.fdopen(files.reply, "wb"), source, job)


def _limit_resources(job: WorkerJob, *, alone: bool) -> None:
    """Set what the kernel enforces, never to be raised again.

    Args:
        job: what it may use.
        alone: whether its user's processes are those of the sandbox alone, so that they can be counted.
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
