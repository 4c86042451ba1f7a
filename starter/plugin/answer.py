"""Do one job in the submission's process: load the plugin, export it, write the reply, leave.

Called by worker.py once the sandbox is in force, and by unlocked.py without one. The reply is a
line of JSON with the lengths of the parts, then the parts; the weights go straight from the model's
memory into it, so that no file of the kit's is in the submission's scratch folder.
"""

import errno
import gc
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, NoReturn

from starter.contract.errors import Code, ParticipantError, Problem, problem
from starter.contract.protocol import EXIT_OUTPUT, MAX_REPORT, PARTS, WorkerJob, WorkerReport
from starter.contract.submissions import PICKLES, Kind, SubmissionSource
from starter.contract.system.hiding import hide

if TYPE_CHECKING:
    import torch

    from starter.plugin.export import PackedGraph
    from starter.plugin.load import LoadedPlugin

_NO_SPACE = f"[Errno {errno.ENOSPC}]"
_NO_THREAD = "can't start new thread"
_WHERE = "the submission's process"


def preload() -> None:
    """Import what every submission needs, before one is known."""
    # While torch is imported the collector would look through a million objects that all stay: a second.
    gc.disable()
    import thop  # noqa: F401
    import torch.export._trace  # noqa: F401 - torch.export imports it when it is first called: a second
    import torchvision.models  # noqa: F401

    from starter.plugin import export  # noqa: F401
    from starter.plugin import load as plugins  # noqa: F401
    from starter.submission import (
        pipeline,  # noqa: F401
        transforms,  # noqa: F401
    )

    gc.freeze()
    gc.enable()


def unpack(payload: IO[bytes], job: WorkerJob, folder: Path) -> SubmissionSource:
    """Write the submission's files; return it as it lies here."""
    folder.mkdir()
    if job.kind is Kind.ENTRY_POINT:
        return SubmissionSource(job.name, job.path, job.kind)
    for name, size in job.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(payload.read(size))
    return SubmissionSource(job.name, folder / job.path, job.kind)


def answer(reply: IO[bytes], source: SubmissionSource, job: WorkerJob) -> NoReturn:
    """Write the reply to a job and end the process at once: an orderly exit of torch takes a second."""
    try:
        _reply(reply, source, job)
        sys.stderr.flush()
    except OSError:
        traceback.print_exc()
        os._exit(EXIT_OUTPUT)
    except Exception:  # noqa: BLE001 - a crash of the participant's code becomes an exit status
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _reply(reply: IO[bytes], source: SubmissionSource, job: WorkerJob) -> None:
    made = None
    try:
        report, made = _evaluate(source, job)
    except MemoryError:
        report = WorkerReport(problems=(_out_of_memory(job),))
    if any(_NO_SPACE in found.got for found in report.problems):
        full = problem(Code.DISK, where="the scratch folder", got="no space left")
        report = _with(report, full)
    if any(_NO_THREAD in found.got for found in report.problems):
        expected = f"at most {job.threads} threads"
        report = _with(report, problem(Code.THREADS, where=_WHERE, expected=expected, got="one thread more"))
    parts, weights = [_text(report)], 0
    if made is not None:
        packed, transforms = made
        total = len(_header([*parts, packed.graph, transforms], packed.weights_size))
        total += len(parts[0]) + len(packed.graph) + len(transforms) + packed.weights_size
        if total > job.output_mb * 2**20:
            parts, made = [_text(_with(report, _too_large(job, total)))], None
        else:
            parts, weights = [*parts, packed.graph, transforms], packed.weights_size
    with reply:
        reply.write(_header(parts, weights))
        for part in parts:
            reply.write(part)
        if made is not None:
            made[0].write_weights(reply)


def _header(parts: Sequence[bytes], weights: int) -> bytes:
    """Return the reply's first line: the length of each part that follows."""
    sizes = dict(zip(PARTS, [*map(len, parts), weights], strict=False))
    return json.dumps(sizes).encode() + b"\n"


def _text(report: WorkerReport) -> bytes:
    """Return a report as JSON, of its problems as many as fit."""
    while len(text := report.model_dump_json().encode()) > MAX_REPORT and len(report.problems) > 1:
        kept = report.problems[: len(report.problems) // 2]
        report = report.model_copy(update={"problems": kept})
    return text


def _with(report: WorkerReport, found: Problem) -> WorkerReport:
    """Put a problem before those of a report, of which there may be a hundred."""
    return report.model_copy(update={"problems": (found, *report.problems[:99])})


def _evaluate(
    source: SubmissionSource, job: WorkerJob
) -> tuple[WorkerReport, "tuple[PackedGraph, bytes] | None"]:
    """Load and export the plugin; return what is reported, and the graph with its transforms."""
    import torch

    from starter.plugin.load import load_plugin

    torch.compile = _not_compiled  # type: ignore[assignment]
    opened = _opened_pickles(job)
    if job.hidden:
        hide(job.hidden, beside=source.path if source.kind is Kind.FOLDER else None)
    try:
        plugin = load_plugin(source, job.competition, strict=False)
    except ParticipantError as error:
        return WorkerReport(problems=error.problems), None
    problems = list(plugin.problems)
    thop_macs = made = None
    try:
        thop_macs, made = _export(plugin, source, job)
    except ParticipantError as error:
        problems += error.problems
    submission = plugin.submission
    report = WorkerReport(
        problems=tuple(problems[:100]),
        thop_macs=thop_macs,
        has_weights=plugin.weights_loaded,
        opened=tuple(sorted(opened)),
        title=submission.name,
        authors=submission.authors,
        description=submission.description,
    )
    return report, made


def _not_compiled(model: object = None, **_: object) -> object:
    """Stand in for torch.compile: what is counted and run is the network as it is written."""
    return (lambda function: function) if model is None else model


def _opened_pickles(job: WorkerJob) -> set[str]:
    """Return a set that from now on gets the name of each of its checkpoints that is opened."""
    pickles = {
        PurePosixPath(name).name for name in job.files if PurePosixPath(name).suffix.lower() in PICKLES
    }
    opened: set[str] = set()

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | os.PathLike):
            opened.update({Path(arguments[0]).name} & pickles)

    if pickles:  # a hook is never taken off again, and called for much else
        sys.addaudithook(note)
    return opened


def _export(
    plugin: "LoadedPlugin", source: SubmissionSource, job: WorkerJob
) -> tuple[int | None, "tuple[PackedGraph, bytes] | None"]:
    """Return thop's count, and the graph with its transforms.

    Raises:
        ParticipantError: something is wrong with the model.
    """
    import torch

    from starter.plugin.export import export_model, pack_graph
    from starter.plugin.prepare import probe_model
    from starter.submission import pipeline, transform_records, transforms

    records = transforms.describe(plugin.submission.transforms)
    shape = pipeline.input_shape(records, extremes=True)
    model = plugin.submission.model
    if not isinstance(model, torch.nn.Module):
        return None, None  # reported by load_plugin
    problems = probe_model(model, shape, job.competition.num_classes, source)
    if problems:
        raise ParticipantError(problems)
    packed = pack_graph(export_model(model, shape, source), source)
    return _count_with_thop(model, shape), (packed, transform_records.dump(records).encode())


def _count_with_thop(model: "torch.nn.Module", shape: tuple[int, int, int]) -> int | None:
    """Return what thop counts; None where it fails, for it is only shown beside our count."""
    import thop
    import torch

    try:
        macs, _ = thop.profile(model, inputs=(torch.zeros(1, *shape, dtype=torch.float32),), verbose=False)
    except Exception:  # noqa: BLE001 - it hooks itself into a stranger's module: anything may happen
        traceback.print_exc()
        return None
    return int(macs)


def _out_of_memory(job: WorkerJob) -> Problem:
    expected = f"at most {job.memory_mb} MiB"
    return problem(Code.MEMORY, where=_WHERE, expected=expected, got="an allocation was refused")


def _too_large(job: WorkerJob, total: int) -> Problem:
    over = total - job.output_mb * 2**20
    got = f"{total / 2**20:.1f} MiB, {over:,} bytes over the limit"
    return problem(Code.OUTPUT, where=_WHERE, expected=f"at most {job.output_mb} MiB", got=got)
