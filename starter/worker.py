"""The submission's process: load the plugin, check it, export it, leave.

Started by evaluate.py as `python -I -B -m starter.worker FD`. It reads one job from
stdin and writes one reply to the descriptor FD: a line of JSON with the lengths of
the parts, then the parts. It never sees an image, a label or another submission.
"""

import gc
import json
import os
import resource
import sys
import traceback
from pathlib import Path
from typing import IO, TYPE_CHECKING

from starter.discovery import Candidate, Kind
from starter.errors import Code, ParticipantError, Problem, problem
from starter.lockdown import lock_down
from starter.processes import EXIT_OUTPUT, PARTS
from starter.schema import WorkerJob, WorkerReport

if TYPE_CHECKING:
    import torch

    from starter.plugins import LoadedPlugin

_ADDRESS_SPACE_OF_TORCH = 8 * 2**30  # CUDA builds map several GiB at import without using them


def main() -> None:
    """Do one job and end the process at once: an orderly exit of torch takes a second."""
    reply = os.fdopen(int(sys.argv[1]), "wb")
    job = WorkerJob.model_validate_json(sys.stdin.buffer.read())
    _limit_resources(job)
    scratch = Path.cwd()
    if job.locked:
        lock_down(_readable(job), scratch)
    try:
        report = _evaluate(job, scratch)
    except MemoryError:
        report = WorkerReport(problems=(_out_of_memory(job),))
    except Exception:  # noqa: BLE001 - a crash of the participant's code becomes a reply
        traceback.print_exc()
        os._exit(1)
    try:
        _send(reply, report, scratch)
    except OSError as error:
        traceback.print_exception(error)
        os._exit(EXIT_OUTPUT)
    sys.stderr.flush()
    os._exit(0)


def _readable(job: WorkerJob) -> list[Path]:
    """Return what may be read beside the Python environment: the submission's own files, no links."""
    candidate = Candidate(job.name, job.path, job.kind)
    if job.kind is not Kind.FILE:
        return [candidate.folder]
    return [path for path in candidate.files() if not path.is_symlink()]


def _limit_resources(job: WorkerJob) -> None:
    """Set what the kernel enforces; before torch is imported, and never to be raised again."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (job.cpu_seconds, job.cpu_seconds + 5))
    output = job.output_mb * 2**20
    resource.setrlimit(resource.RLIMIT_FSIZE, (output, output))
    space = job.memory_mb * 2**20 + _ADDRESS_SPACE_OF_TORCH
    resource.setrlimit(resource.RLIMIT_AS, (space, space))


def _evaluate(job: WorkerJob, scratch: Path) -> WorkerReport:
    # While torch is imported the collector would look through a million objects that all stay: a second.
    gc.disable()
    from starter.plugins import load_plugin

    candidate = Candidate(job.name, job.path, job.kind)
    try:
        plugin = load_plugin(candidate, job.competition, strict=False)
    except ParticipantError as error:
        return WorkerReport(problems=error.problems)
    gc.freeze()
    gc.enable()
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

    from starter import transforms
    from starter.export import export_model, probe_model, write_graph

    records = transforms.describe(plugin.submission.transforms)
    shape = transforms.input_shape(records)
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
    (scratch / "report").write_text(report.model_dump_json(), encoding="utf-8")
    sizes = {part: (scratch / part).stat().st_size for part in PARTS if (scratch / part).is_file()}
    with reply:
        reply.write(json.dumps(sizes).encode() + b"\n")
        for part in sizes:
            reply.write((scratch / part).read_bytes())


if __name__ == "__main__":
    main()
