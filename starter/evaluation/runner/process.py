"""Keep our label-free process (main.py), which counts and runs graphs, and read what it answers.

It runs hostile graphs with native kernels, so its end is the graph's doing: one more try in a fresh
process tells that from a machine that fails.
"""

import queue
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from starter.contract.competition import NEWEST_COST_VERSION, CostVersion, Limits
from starter.contract.errors import Code, HostError, Problem, UsageError, host_error, problem
from starter.contract.protocol import RunnerHello, RunnerReply, RunnerRequest
from starter.contract.system.processors import available
from starter.evaluation.runner.client import WINDOWS_CRASH, limit_problem, signal_name
from starter.sandbox.child import Allowance, MonitoredProcess
from starter.sandbox.protocol import LimitExceeded

_POLL_SECONDS = 0.05
_START_SECONDS = 120.0
_LONGEST_PLACE = 300


class Runner:
    """Our own child that counts and runs graphs; it starts at once, and loads while others work.

    Args:
        limits: evaluate_seconds for each request, and the memory.
        threads: how many threads it computes with; None: as many as processors are available.
        cost_rules: an organizer's files, for operators that have no rule.
        cost_version: the cost rule that graphs are counted and run by.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        threads: int | None = None,
        cost_rules: Sequence[Path] = (),
        cost_version: CostVersion | None = None,
    ) -> None:
        self._limits = limits
        rules = [str(path.resolve()) for path in cost_rules]
        self._arguments = [str(cost_version or NEWEST_COST_VERSION), *rules]
        self._threads = threads or available().threads
        self._scratch = tempfile.TemporaryDirectory(prefix="starter-", ignore_cleanup_errors=True)
        self._hello: RunnerHello | None = None
        self._log = ""
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
            HostError: it did not start, or its self test fails.
            UsageError: a cost rule of the organizer's is not valid.
        """
        if self._hello is None:
            line = self._read_line(_START_SECONDS)
            if not isinstance(line, bytes):
                self._restart()
                raise host_error(Code.RUNNER_FAILED, where="start of the runner", got=self._log[-2000:])
            self._hello = RunnerHello.model_validate_json(line)
        if self._hello.problems:
            is_ours = self._hello.problems[0].code is Code.SELF_TEST_FAILED
            raise (HostError if is_ours else UsageError)(self._hello.problems)
        return self._hello

    def ask(self, request: RunnerRequest) -> RunnerReply:
        """Have one graph counted and run.

        What the child does over it is the submission's: a limit that is exceeded, an answer that cannot be
        read, or its end. An end is tried once more in a fresh child, which says where it is. Before that, a
        fresh child counts and runs graphs of its own: where even they fail, it is this machine.

        Raises:
            HostError: a fresh child does not start or fails its self test, or the machine cannot write.
        """
        reply = self._asked(request)
        if isinstance(reply, int):
            reply = self._asked(request.model_copy(update={"where": request.logits.with_suffix(".where")}))
        if isinstance(reply, int):
            self.hello  # noqa: B018 - a machine that ends every child is found here
            return RunnerReply(problems=(_end_problem(request, reply),))
        if reply.host_problems:
            raise HostError(reply.host_problems)
        return reply

    def _asked(self, request: RunnerRequest) -> RunnerReply | int:
        """Return the child's answer, or the exit status that it ended with."""
        self.hello  # noqa: B018 - waits until it has loaded, which is not the submission's time
        self._child.restart_clock()
        try:
            self._child.send(request.model_dump_json().encode())
            line = self._read_line()
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
            self._arguments,
            scratch=Path(self._scratch.name),
            allowance=Allowance.for_runner(self._limits),
            threads=self._threads,
        )

    def _restart(self) -> int:
        """Start a fresh child; return the exit status of the one before."""
        self._child.kill()
        self._log = self._child.log()
        self._hello = None
        ended, self._child = self._child, self._start()
        return ended.process.returncode

    def _read_line(self, seconds: float | None = None) -> bytes | LimitExceeded | None:
        """Return the next line, the limit exceeded while waiting for it, or None if the child ended."""
        while True:
            try:
                return self._child.receive(_POLL_SECONDS)
            except queue.Empty:
                if limit := self._child.check(seconds):
                    return limit


def _end_problem(request: RunnerRequest, status: int) -> Problem:
    """Return what a graph is told that has ended two children."""
    try:
        with request.logits.with_suffix(".where").open("rb") as file:
            place = file.read(_LONGEST_PLACE).decode(errors="replace")
    except OSError:
        place = "the graph"
    got = f"exit status {status}" if 0 <= status < WINDOWS_CRASH else signal_name(status)
    return problem(Code.RUNNER_ENDED, where=place, got=f"{got}, twice")
