"""Convert a checkpoint in a separate process: a pickle is untrusted data, even your own.

`converted` starts it; `python -m starter.evaluation.runner.converter REQUEST` enters a sandbox where the
kernel can, reads that one file, and writes one beside the answer.
"""

import queue
import sys
import tempfile
from pathlib import Path

from starter.contract.competition import Limits
from starter.contract.errors import (
    Code,
    ParticipantError,
    Problem,
    Record,
    host_error,
    participant_error,
    problem,
)
from starter.contract.system.files import replace_with
from starter.evaluation.runner.client import limit_problem, signal_name
from starter.evaluation.runner.process import can_lock
from starter.sandbox.child import Allowance, MonitoredProcess

_POLL_SECONDS = 0.05
_TARGET = "converted.safetensors"


class ConvertRequest(Record):
    """What to convert."""

    source: Path
    """The checkpoint."""
    entry: str | None = None
    """Which of several state dicts."""
    strip: str = ""
    """What all names begin with, and is left out."""
    locked: bool = True
    """Whether the process locks itself in."""


class ConvertReply(Record):
    """What became of it."""

    entry: str = ""
    """Where the state dict was."""
    tensors: tuple[tuple[str, tuple[int, ...], str], ...] = ()
    """Name, shape and dtype of each."""
    notes: tuple[str, ...] = ()
    """What was changed."""
    choice: str = ""
    """Why there is no state dict to take, where another `entry` would give one."""
    problems: tuple[Problem, ...] = ()
    """What is wrong with the file."""


def converted(
    source: Path, target: Path, limits: Limits, *, entry: str | None = None, strip: str = ""
) -> ConvertReply:
    """Convert a checkpoint; `target` is written whole, or not at all.

    Args:
        source: what torch.save or safetensors has written.
        target: the safetensors file.
        limits: memory and time.
        entry: which of several state dicts; None: the only one.
        strip: what all names begin with, and is left out.

    Raises:
        ParticipantError: E202; the file holds no tensors, or more than tensors, or is too large.
        HostError: the process does not start.
    """
    request = ConvertRequest(source=source.resolve(), entry=entry, strip=strip, locked=can_lock())
    with tempfile.TemporaryDirectory(prefix="starter-", ignore_cleanup_errors=True) as place:
        child = MonitoredProcess(
            "starter.evaluation.runner.converter",
            [request.model_dump_json()],
            scratch=Path(place),
            allowance=Allowance.for_runner(limits),
        )
        try:
            line = _answer(child, source)
        finally:
            child.kill()
        if line is None:
            status = child.process.returncode
            if status > 0:
                raise host_error(Code.RUNNER_FAILED, where="the converter", got=child.log()[-2000:])
            got = f"the process that reads it was killed by {signal_name(status)}"
            raise participant_error(Code.WEIGHTS_UNREADABLE, where=source.name, got=got)
        reply = ConvertReply.model_validate_json(line)
        if reply.problems:
            raise ParticipantError(reply.problems)
        if not reply.choice:
            replace_with(target, Path(place) / _TARGET)
    return reply


def _answer(child: MonitoredProcess, source: Path) -> bytes | None:
    while True:
        try:
            return child.receive(_POLL_SECONDS)
        except queue.Empty:
            if limit := child.check():
                raise ParticipantError([limit_problem(limit, source.name)]) from None


def main() -> None:
    """Lock in, convert, answer with a line of JSON."""
    request = ConvertRequest.model_validate_json(sys.argv[1])
    from starter.submission.weights import convert  # noqa: PLC0415 - it imports torch

    if request.locked:
        from starter.sandbox.lockdown import lock_down  # noqa: PLC0415 - Linux alone has it

        lock_down((request.source,), Path.cwd(), boxed=True, ours=True)
    try:
        found = convert(request.source, Path(_TARGET), entry=request.entry, strip=request.strip)
        reply = ConvertReply.model_validate(vars(found))
    except ParticipantError as error:
        reply = ConvertReply(problems=error.problems)
    except LookupError as error:
        reply = ConvertReply(choice=str(error))
    except MemoryError:
        full = problem(Code.WEIGHTS_UNREADABLE, where=request.source.name, got="does not fit into memory")
        reply = ConvertReply(problems=(full,))
    sys.stdout.write(reply.model_dump_json() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
