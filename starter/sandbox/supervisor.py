"""Watch one room: start its worker, hand it submissions, measure it, end it and everything it started.

A process of its own (`python -I -B -m starter.sandbox.supervisor`) with one thread, for two reasons: a
parent-death signal follows the thread that started a process, and threads of pools end; and
when the command is killed this process notices, by the end of its socket, and clears up.
It runs nothing of a stranger's and knows no label. The other end is sandbox.py.
"""

import contextlib
import ctypes
import dataclasses
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from starter.sandbox.log_tail import LogTail
from starter.sandbox.procfs import (
    descendants,
    is_headless,
    nameless_bytes,
    processor_seconds,
    resident_bytes,
    thread_count,
    unfit,
)
from starter.sandbox.protocol import LOG_MB, LimitExceeded, Usage, Verdict
from starter.sandbox.scratch import folder_usage

POLL_SECONDS = 0.05

_START_SECONDS = 180.0
_LAST_WORDS_SECONDS = 2.0
_END_SECONDS = 10.0
_SET_CHILD_SUBREAPER = 36
_CREDENTIALS = struct.Struct("3i")


class Stopped(Exception):  # noqa: N818 - not an error: nobody waits for an answer any more
    """The command has gone or has given up."""


class Room:
    """A running worker, its control socket and its pipes.

    Args:
        spec: command, environment, folder, whether it is a box, and whether its worker forks.
        parent: the socket of the command.
    """

    def __init__(self, spec: dict[str, Any], parent: socket.socket) -> None:
        self._spec = spec
        self._parent = parent
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._output, write_end = os.pipe()
        os.set_blocking(self._output, False)
        self.log = LogTail(65536)
        self._used: dict[str, float] = {}
        self._spent = 0.0
        self._clean = False
        self._worker = 0
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own worker, perhaps inside bubblewrap
                spec["command"],
                stdin=theirs.fileno(),
                stdout=write_end,
                stderr=write_end,
                cwd=spec["folder"],
                env=spec["environment"],
                start_new_session=True,
            )
        os.close(write_end)

    def wait_until_ready(self) -> str:
        """Return why the worker did not start; nothing if it has."""
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            ready = self._wait([self._control, self._output], POLL_SECONDS)
            if self._output in ready:
                self._drain(self._output, self.log)
            if self._control in ready:
                word, pid = _vouched(self._control)
                if word != b"ready":
                    break
                self._worker = pid
                return unfit(pid, forks=self._spec["forks"])
        with contextlib.suppress(subprocess.TimeoutExpired):  # it says why after its socket has closed
            self._process.wait(_LAST_WORDS_SECONDS)
        self._process.kill()
        status = self._process.wait()
        self._drain(self._output, self.log)
        return self.log.text().decode(errors="replace").strip() or f"exit status {status}"

    def run(self, job: dict[str, Any], payload: int, reply: int, log_file: int) -> Verdict:
        """Hand over one submission and watch it to its end.

        Args:
            job: its limits, and what its own files take in the sandbox.
            payload: a descriptor of its files; closed here, as the others.
            reply: where its process writes its answer.
            log_file: where the end of what it printed is written.
        """
        mine, theirs = socket.socketpair()
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        output, write_end = os.pipe()
        os.set_blocking(output, False)
        log = LogTail(int(job["limits"]["log_kb"]) * 1024)
        socket.send_fds(self._control, [b"job"], [payload, reply, write_end, theirs.fileno()])
        for descriptor in (payload, reply, write_end):
            os.close(descriptor)
        theirs.close()
        with mine:
            pid, watched = self._greet(mine)
        if pid == 0:
            os.close(output)
            os.close(log_file)
            self._drain(self._output, self.log)
            return Verdict(lost=self.log.text().decode(errors="replace")[-4000:])
        started = time.monotonic()
        self._used = dict.fromkeys(("cpu_seconds", "memory_mb"), 0.0)
        exceeded = self._watch(pid, watched, output, log, job)
        self._used["wall_seconds"] = round(time.monotonic() - started, 2)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(watched, signal.SIGKILL)
        status = self._status(exceeded is not None)
        ended = self._read_to_end(output, log)
        os.close(watched)
        os.close(output)
        with open(log_file, "wb") as file:
            file.write(log.text())
        return Verdict(
            status=os.waitstatus_to_exitcode(status),
            exceeded=exceeded,
            used=self._used,
            reusable=self._clean and ended and exceeded is None and os.WIFEXITED(status),
        )

    def end(self) -> None:
        """Kill the worker and every descendant, until none is left."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGKILL)
        for _ in range(500):  # a process may fork while it is being looked at
            found = list(descendants(os.getpid()))
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if not found:
                return
            time.sleep(0.002)

    def _wait(self, watched: list[Any], seconds: float) -> list[Any]:
        """Wait for one of several; end where the command is gone."""
        ready, _, _ = select.select([*watched, self._parent], [], [], seconds)
        if self._parent in ready:
            raise Stopped
        return ready

    def _greet(self, mine: socket.socket) -> tuple[int, int]:
        """Wait for the process that will run the submission; return its number as seen from here and a pidfd.

        The kernel vouches for the number, and the process goes on only when told to, so that
        nothing of a stranger's runs before its process can be watched and killed.
        """
        if not self._wait([mine], _END_SECONDS):
            return 0, -1
        word, pid = _vouched(mine)
        if word != b"R":
            return 0, -1
        watched = os.pidfd_open(pid)  # before it goes on, for then it may end at any time
        self._spent = processor_seconds(pid)  # a worker that does not fork has imported torch
        mine.sendall(b"G")
        return pid, watched

    def _watch(
        self, pid: int, watched: int, output: int, log: LogTail, job: dict[str, Any]
    ) -> LimitExceeded | None:
        """Wait for the end of the process; return the limit that it exceeded before."""
        started = looked = time.monotonic()
        while True:
            ready = self._wait([watched, output], POLL_SECONDS)
            if output in ready and not self._drain(output, log) and watched not in ready:
                self._wait([watched], POLL_SECONDS)  # it has closed its log: not yet its end
            if watched in ready:
                at_end = Usage(**self._disk(pid, job)) if self._spec["box"] else Usage()
                return at_end.exceeded(job["limits"])
            now = time.monotonic()
            if now - looked < POLL_SECONDS / 2:
                continue
            looked = now
            if is_headless(pid):
                with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                    signal.pidfd_send_signal(watched, signal.SIGKILL)  # what is left cannot be measured
                continue
            exceeded = self._usage(pid, now - started, log, job).exceeded(job["limits"])
            if exceeded is not None:
                return exceeded

    def _usage(self, pid: int, elapsed: float, log: LogTail, job: dict[str, Any]) -> Usage:
        usage = Usage(
            wall_seconds=elapsed,
            cpu_seconds=max(0.0, processor_seconds(pid) - self._spent),
            memory_mb=resident_bytes(pid) / 2**20,
            threads=thread_count(pid),
            log_mb=log.total / 2**20,
            **self._disk(pid, job),
        )
        for name in ("cpu_seconds", "memory_mb"):
            self._used[name] = max(self._used[name], round(getattr(usage, name), 2))
        return usage

    def _disk(self, pid: int, job: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of Usage that tell what lies in the scratch folder."""
        if self._spec["box"]:
            try:
                found = os.statvfs(f"/proc/{self._worker}/root/room")
            except OSError:
                return {}
            used = (found.f_blocks - found.f_bfree) * found.f_frsize - job["payload_bytes"]
            files = found.f_files - found.f_ffree - job["payload_files"]
            return {"scratch_mb": used / 2**20, "scratch_files": files}
        used, files, longest = folder_usage(Path(self._spec["folder"], "scratch"))
        used += nameless_bytes(pid)
        return {"scratch_mb": used / 2**20, "scratch_files": files, "scratch_path": longest}

    def _status(self, killed: bool) -> int:
        """Return how the process ended, as waitpid says it."""
        if self._spec["forks"]:
            with contextlib.suppress(Stopped, OSError, ValueError):
                if self._wait([self._control], _END_SECONDS):
                    status, left = self._control.recv(64).split()
                    self._clean = left == b"clean"
                    return int(status)
            return signal.SIGKILL
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(_END_SECONDS)
            if code > 128 and self._spec["box"]:  # bubblewrap's way to say it
                return code - 128
            return -code if code < 0 else code << 8
        return signal.SIGKILL if killed else signal.SIGABRT

    def _read_to_end(self, output: int, log: LogTail) -> bool:
        """Read a pipe until nobody can write to it any more: nobody is left."""
        if not self._spec["forks"]:
            self.end()
        until = time.monotonic() + _END_SECONDS
        while time.monotonic() < until:
            select.select([output], [], [], POLL_SECONDS)
            if self._drain(output, log):
                continue
            return True
        return False

    @staticmethod
    def _drain(descriptor: int, log: LogTail) -> bool:
        """Read what is there; say whether the pipe is still open."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(descriptor, 1 << 16):
                log.add(chunk)
                if log.total > 2 * LOG_MB * 2**20:
                    return True
            return False
        return True


def _vouched(receiver: socket.socket) -> tuple[bytes, int]:
    """Receive a word and the number, as seen from here, of the process that sent it; the kernel says so."""
    word, ancillary, _, _ = receiver.recvmsg(64, socket.CMSG_SPACE(_CREDENTIALS.size))
    pid: int = _CREDENTIALS.unpack(ancillary[0][2])[0] if word and ancillary else 0
    return (word, pid) if pid else (b"", 0)


def main() -> None:
    """Serve one room until the command lets go of it."""
    parent = socket.socket(fileno=0)
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    spec = parent.recv(1 << 18)
    if not spec:
        return  # the command has gone already
    room = Room(json.loads(spec), parent)
    try:
        failed = room.wait_until_ready()
        parent.send(json.dumps({"failed": failed}).encode())
        while not failed:
            message, descriptors, _, _ = socket.recv_fds(parent, 65536, 3)
            if not message:
                break
            verdict = room.run(json.loads(message), *descriptors)
            if not verdict.reusable:
                room.end()
            parent.send(json.dumps(dataclasses.asdict(verdict)).encode())
            if not verdict.reusable:
                break
    except (Stopped, ConnectionError):
        pass
    finally:
        room.end()
    sys.exit(0)


if __name__ == "__main__":
    main()
