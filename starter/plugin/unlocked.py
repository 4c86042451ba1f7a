"""A submission's process without isolation: prepare, say so, do one job, leave.

Started by sandbox/portable.py as `python -I -B -m starter.plugin.unlocked`, in a folder of its own.
Two lines on stdin name the files of the job and of the reply. Whoever started it may be killed:
the end of stdin then ends this process and its children.
"""

import contextlib
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO

import psutil

from starter.contract.protocol import WorkerJob
from starter.plugin.answer import answer, preload, unpack


def main() -> None:
    """Do one job."""
    place = Path.cwd()
    if "--preload" in sys.argv:
        preload()
    (place / "ready").touch()
    orders = os.fdopen(os.dup(0), "rb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # a plugin that asks for input gets none
    payload, reply = (Path(os.fsdecode(orders.readline().rstrip(b"\n"))) for _ in range(2))
    if not payload.name:
        return
    threading.Thread(target=_leave_with_the_parent, args=(orders,), daemon=True).start()
    with payload.open("rb") as file:
        job = WorkerJob.model_validate_json(file.readline())
        source = unpack(file, job, place / "submission")
    os.chdir(place / "scratch")
    tempfile.tempdir = None
    answer(reply.open("xb"), source, job)


def _leave_with_the_parent(orders: IO[bytes]) -> None:
    orders.read()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    os._exit(1)


if __name__ == "__main__":
    main()
