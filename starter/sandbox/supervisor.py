"""Watch one sandbox: start its worker, hand it submissions, measure it, end it and everything it started.

A process of its own (`python -I -B -m starter.sandbox.supervisor`) with one thread, for two reasons: a
parent-death signal follows the thread that started a process, and threads of pools end; and
when the command is killed this process notices, by the end of its socket, and clears up.
It runs nothing of a stranger's and knows no label. The other end is sandbox.py.
"""

import contextlib
import ctypes
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from starter.contract.text import LogTail
from starter.sandbox.procfs import descendants, figures, nameless_bytes, unfit
from starter.sandbox.protocol import (
    BOX_FOLDER,
    GO,
    JOB,
    READY,
    WAITING,
    Ended,
    Job,
    JobFiles,
    LimitExceeded,
    SandboxSpec,
    Started,
    Verdict,
)
from starter.sandbox.usage import LOG_MB, PeakUsage, Usage, exceeded, folder_usage

POLL_SECONDS = 0.05

_START_SECONDS = 180.0
_LAST_WORDS_SECONDS = 2.0
_LAST_WORDS = 4000
_END_SECONDS = 10.0
_SET_CHILD_SUBREAPER = 36
_CREDENTIALS = struct.Struct("3i")


class Stopped(Exception):  # noqa: N818 - not an error: nobody waits for an answer any more
    """The command has ended or given up."""


class Submission:
    """One submission's process as seen from here; `with` closes the descriptors that it is watched by.

    Args:
        log_bytes: how much is kept of the end of what it prints.
    """

    def __init__(self, log_bytes: int) -> None:
        self.log = LogTail(log_bytes)
        self.pid = 0
        self.spent_seconds = 0.0
        self._owned = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close its descriptors."""
        self._owned.close()

    def hand_over(self, files: JobFiles, worker: socket.socket) -> None:
        """Have the worker run it: it will say so on `handshake`, and print to `output`."""
        self.handshake, theirs = map(self._owned.enter_context, socket.socketpair())
        self.handshake.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.output, write_end = os.pipe()
        self._owned.callback(os.close, self.output)
        os.set_blocking(self.output, False)
        with theirs, os.fdopen(write_end, "wb"):
            JobFiles(files.payload, files.reply, write_end, theirs.fileno()).send(worker, JOB)

    def let_go(self) -> bool:
        """Let the process that has said so go on; say whether it has.

        The kernel vouches for its number, and it goes on only when told to, so that nothing of a
        stranger's runs before its process can be watched and killed.
        """
        word, pid = _vouched(self.handshake)
        if word != WAITING:
            return False
        self.pid, self.pidfd = pid, os.pidfd_open(pid)  # before it goes on, for then it may end at any time
        self._owned.callback(os.close, self.pidfd)
        self.spent_seconds = figures(pid).processor_seconds  # a worker that does not fork has imported torch
        self.handshake.sendall(GO)
        return True

    def kill(self) -> None:
        """End its process."""
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)


class SupervisedWorker:
    """A running worker, its control socket and its pipe.

    Args:
        spec: what to start.
        parent: the socket of the command.
    """

    def __init__(self, spec: SandboxSpec, parent: socket.socket) -> None:
        self._spec = spec
        self._parent = parent
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._output, write_end = os.pipe()
        os.set_blocking(self._output, False)
        self._log = LogTail(65536)
        self._clean = False
        self._pid = 0
        with theirs, os.fdopen(write_end, "wb"):
            self._process = subprocess.Popen(  # noqa: S603 - our own worker, perhaps inside bubblewrap
                spec.command,
                stdin=theirs.fileno(),
                stdout=write_end,
                stderr=write_end,
                cwd=spec.folder,
                env=spec.environment,
                start_new_session=True,
            )

    def wait_until_ready(self) -> str:
        """Return why the worker did not start; nothing if it has."""
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            ready = self._wait([self._control, self._output], POLL_SECONDS)
            if self._output in ready:
                _drain(self._output, self._log)
            if self._control in ready:
                word, pid = _vouched(self._control)
                if word != READY:
                    break
                self._pid = pid
                return unfit(pid, forks=self._spec.forks)
        with contextlib.suppress(subprocess.TimeoutExpired):  # it says why after its socket has closed
            self._process.wait(_LAST_WORDS_SECONDS)
        self._process.kill()
        status = self._process.wait()
        return self._last_words() or f"exit status {status}"

    def run(self, job: Job, files: JobFiles) -> Verdict:
        """Hand over one submission and watch it to its end.

        Args:
            job: its limits, and what its own files take in the sandbox.
            files: its files; they stay the caller's.
        """
        with Submission(int(job.limits["log_kb"]) * 1024) as submission:
            submission.hand_over(files, self._control)
            if not (self._wait([submission.handshake], _END_SECONDS) and submission.let_go()):
                return Verdict(lost=self._last_words())
            peak = PeakUsage()
            limit = self._watch(submission, job, peak)
            used = peak.total()
            submission.kill()
            status = self._status(limit is not None)
            ended = self._read_to_end(submission)
        with open(files.log, "wb", closefd=False) as file:
            file.write(submission.log.text())
        return Verdict(
            status=os.waitstatus_to_exitcode(status),
            exceeded=limit,
            used=used,
            reusable=self._clean and ended and limit is None and os.WIFEXITED(status),
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

    def _wait(self, watched: Sequence[int | socket.socket], seconds: float) -> list[int | socket.socket]:
        """Wait for one of several; end if the command has ended."""
        ready, _, _ = select.select([*watched, self._parent], [], [], seconds)
        if self._parent in ready:
            raise Stopped
        return ready

    def _last_words(self) -> str:
        """Return the end of what the worker itself has printed."""
        _drain(self._output, self._log)
        return self._log.text().decode(errors="replace").strip()[-_LAST_WORDS:]

    def _watch(self, submission: Submission, job: Job, peak: PeakUsage) -> LimitExceeded | None:
        """Wait for the end of the process; return the limit that it exceeded before."""
        looked = time.monotonic()
        pidfd, output = submission.pidfd, submission.output
        while True:
            ready = self._wait([pidfd, output], POLL_SECONDS)
            if output in ready and not _drain(output, submission.log) and pidfd not in ready:
                self._wait([pidfd], POLL_SECONDS)  # it has closed its log: not yet its end
            if pidfd in ready:
                return exceeded(self._disk(submission, job), job.limits) if self._spec.boxed else None
            if time.monotonic() - looked < POLL_SECONDS / 2:
                continue
            looked = time.monotonic()
            seen = figures(submission.pid)
            if seen.is_headless:
                submission.kill()  # what is left cannot be measured
                continue
            usage = replace(
                self._disk(submission, job),
                wall_seconds=peak.elapsed,
                cpu_seconds=max(0.0, seen.processor_seconds - submission.spent_seconds),
                memory_mb=seen.resident_bytes / 2**20,
                threads=seen.threads,
                log_mb=submission.log.total / 2**20,
            )
            peak.add(usage)
            if limit := exceeded(usage, job.limits):
                return limit

    def _disk(self, submission: Submission, job: Job) -> Usage:
        """Return the contents of the scratch folder."""
        if self._spec.boxed:
            try:
                found = os.statvfs(f"/proc/{self._pid}/root{BOX_FOLDER}")
            except OSError:
                return Usage()
            used = (found.f_blocks - found.f_bfree) * found.f_frsize - job.unpacked_bytes
            files = found.f_files - found.f_ffree - job.unpacked_files
            return Usage(scratch_mb=used / 2**20, scratch_files=files)
        used, files, longest = folder_usage(Path(self._spec.folder, "scratch"))
        used += nameless_bytes(submission.pid)
        return Usage(scratch_mb=used / 2**20, scratch_files=files, scratch_path=longest)

    def _status(self, killed: bool) -> int:
        """Return how the process ended, as waitpid says it."""
        if self._spec.forks:
            with contextlib.suppress(Stopped, OSError, ValueError, TypeError):
                if self._wait([self._control], _END_SECONDS):
                    ended = Ended.from_json(self._control.recv(256))
                    self._clean = ended.clean
                    return ended.status
            return signal.SIGKILL
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(_END_SECONDS)
            if code > 128 and self._spec.boxed:  # bubblewrap's way to say it
                return code - 128
            return -code if code < 0 else code << 8
        return signal.SIGKILL if killed else signal.SIGABRT

    def _read_to_end(self, submission: Submission) -> bool:
        """Read its output until nobody can write to it any more: nobody is left."""
        if not self._spec.forks:
            self.end()
        until = time.monotonic() + _END_SECONDS
        while time.monotonic() < until:
            select.select([submission.output], [], [], POLL_SECONDS)
            if not _drain(submission.output, submission.log):
                return True
        return False


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
    """Serve one sandbox until the command lets go of it."""
    parent = socket.socket(fileno=0)
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    spec = parent.recv(1 << 18)
    if not spec:
        return  # the command has ended already
    worker = SupervisedWorker(SandboxSpec.from_json(spec), parent)
    try:
        failed = worker.wait_until_ready()
        parent.send(Started(failed).to_json().encode())
        while not failed and (received := JobFiles.receive(parent)):
            job, files = received
            with files:
                verdict = worker.run(Job.from_json(job), files)
            if not verdict.reusable:
                worker.end()
            parent.send(verdict.to_json().encode())
            if not verdict.reusable:
                break
    except (Stopped, ConnectionError):
        pass
    finally:
        worker.end()
    sys.exit(0)


if __name__ == "__main__":
    main()
