"""Our own process on a stranger's data: read, check, count and run a graph.

Started by evaluation/evaluate.py as `python -I -m starter.evaluation.runner.main`, kept alive over many
submissions. Requests and replies are lines of JSON on stdin and stdout. It reads
image files, never a label: what it returns are logits, in a file of the parent's.
"""

import errno
import os
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

from starter.contract.competition import NEWEST_COST_VERSION
from starter.contract.errors import Code, ParticipantError, UsageError, participant_error, problem
from starter.contract.protocol import RunnerHello, RunnerReply, RunnerRequest, RunnerSetup
from starter.contract.system.packages import installed_versions
from starter.evaluation.runner.image_batches import image_batches
from starter.graph.analysis import trace
from starter.graph.cost_rules import load_rules, rule_in_force
from starter.graph.costs.macs import count_macs
from starter.graph.costs.summary import graph_costs
from starter.graph.executor import Program, to_bfloat16
from starter.graph.format import Graph
from starter.graph.operators import OPERATORS, OperatorTable
from starter.graph.profiling.profiler import profile
from starter.graph.profiling.speed import measure_speed
from starter.graph.reader import read_graph
from starter.graph.self_test import SELF_TESTS, check_self_test
from starter.submission import pipeline, transform_records


def main() -> None:
    """Answer requests until stdin closes."""
    # Nothing but replies may reach the parent: what a library prints goes to stderr.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    setup = RunnerSetup.model_validate_json(sys.argv[1])
    if setup.locked:
        _lock(setup)
    cost_version = setup.cost_version
    hello, operators = _hello(cost_version, setup.cost_rules)
    versions = {**hello.versions, **installed_versions(setup.packages)}
    hello = hello.model_copy(update={"versions": versions})
    print(hello.model_dump_json(), file=replies, flush=True)
    for line in sys.stdin.buffer:
        request = RunnerRequest.model_validate_json(line)
        print(answer(request, operators, cost_version).model_dump_json(), file=replies, flush=True)
    os._exit(0)


def _lock(setup: RunnerSetup) -> None:
    """Give up everything but what graphs are run with: images, and a folder for what comes out.

    Raises:
        OSError: the kernel refuses a step.
        SystemExit: a library has started a thread, which would stay outside.
    """
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        raise SystemExit("a library has started a thread at import: set OPENBLAS_NUM_THREADS=1")
    from starter.sandbox.lockdown import lock_down  # noqa: PLC0415 - Linux alone has it

    lock_down(setup.readable, Path.cwd(), boxed=True, ours=True)


def _hello(cost_version: int, cost_rules: Sequence[Path]) -> tuple[RunnerHello, OperatorTable]:
    """Check the counter on graphs of known cost; return the table with the organizer's own rules."""
    wrong = [w for w in map(check_self_test, SELF_TESTS) if w]
    if wrong:
        problems = tuple(problem(Code.SELF_TEST_FAILED, where="the runner", got=w) for w in wrong)
        return RunnerHello(problems=problems), OPERATORS
    try:
        operators = load_rules(cost_rules)
        version = rule_in_force(cost_version, cost_rules)
    except UsageError as error:
        return RunnerHello(problems=error.problems), OPERATORS
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
    return RunnerHello(cost_version=version, versions=versions), operators


def answer(
    request: RunnerRequest,
    operators: OperatorTable = OPERATORS,
    cost_version: int = NEWEST_COST_VERSION,
) -> RunnerReply:
    """Count one graph and run it on the images."""
    counted: dict[str, Any] = {}
    report = speed = None
    try:
        note = _noter(request.where)
        note("the graph, while it is read and its constants are computed")
        records = transform_records.load(request.transforms.read_text(encoding="utf-8", errors="replace"))
        counted["input_shape"] = shape = pipeline.input_shape(records)
        graph = read_graph(request.graph, request.weights)
        _check_input(graph, shape)
        counted["params"] = graph.num_params
        walk = trace(graph, num_classes=request.num_classes, operators=operators)
        counted["cost"] = cost = count_macs(walk)
        counted["costs"] = graph_costs(walk)
        if request.profile:
            report = profile(walk, cost)
        device = _device(request.device)
        rounding = to_bfloat16 if cost_version > 1 else None
        if request.speed is not None:
            note("the graph, while it is timed")
            other = read_graph(request.speed.graph, request.speed.weights)
            rival = trace(other, num_classes=request.num_classes, operators=operators)
            speed = measure_speed(walk, rival, request.speed, rounding=rounding, device=device)
        if request.image_ids:
            program = Program(walk, rounding=rounding).to(device)
            batches = image_batches(
                request.dataset, request.image_ids, records, program.batch_size, request.kept
            )
            moved = (batch.to(device) for batch in batches)
            np.save(request.logits, run(program, moved, note if request.where else None))
    except ParticipantError as error:
        return RunnerReply(problems=error.problems, **counted)
    except UsageError as error:
        return RunnerReply(data_problems=error.problems, **counted)
    except OSError as error:  # a full disk, a failing one
        code = Code.NO_SPACE if error.errno in {errno.ENOSPC, errno.EDQUOT} else Code.RUNNER_FAILED
        ours = problem(code, where="the runner", got=f"{type(error).__name__}: {error}")
        return RunnerReply(host_problems=(ours,))
    except Exception as error:  # noqa: BLE001 - whatever hostile data does to a library is the entry's own
        got = f"{type(error).__name__} while it was read or run"
        failed = problem(Code.RUN_FAILED, where="the graph", got=got)
        return RunnerReply(problems=(failed,), **counted)
    return RunnerReply(**counted, profile=report, speed=speed)


def _check_input(graph: Graph, shape: tuple[int, ...]) -> None:
    if graph.file.input_shape[1:] != shape:
        raise participant_error(
            Code.MALFORMED_GRAPH,
            where="input",
            expected=f"the transforms' {shape}",
            got=str(graph.file.input_shape[1:]),
        )


def _device(name: str) -> torch.device:
    """Return what a graph is run on.

    Raises:
        OSError: this machine has none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise OSError(errno.ENODEV, "torch finds no GPU: torch.cuda.is_available() is False")
    return torch.device(name)


def _noter(path: Path | None) -> Callable[[str], None]:
    """Return what writes a place into a file, over the one before."""
    if path is None:
        return lambda _: None
    file = path.open("wb", buffering=0)

    def note(place: str) -> None:
        file.seek(0)
        file.truncate()
        file.write(place.encode())

    return note


def _before_each(program: Program, note: Callable[[str], None]) -> Callable[[str], None]:
    """Return what is called after each node, and notes the place of the next."""
    following = dict(
        zip(program.places, [*list(program.places.values())[1:], "between batches"], strict=True)
    )
    note(next(iter(program.places.values())))
    return lambda name: note(following[name])


def run(
    program: Program, batches: Iterable[torch.Tensor], note: Callable[[str], None] | None = None
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the logits of all images: float32 (images, num_classes).

    Args:
        program: what to run.
        batches: the images.
        note: called with each operator before it runs, and where the submission calls it.

    Raises:
        ParticipantError: the graph fails on an image, or gives NaN or infinity. The message says neither for
            which image nor what else came out: a network can copy pixels into its logits.
        UsageError: image files are broken; all of them are named.
    """
    parts = []
    for batch in batches:
        after_each = _before_each(program, note) if note else None
        parts.append(program(batch, after_each=after_each).cpu())
    logits = torch.cat(parts)
    if not logits.isfinite().all():
        raise participant_error(Code.NON_FINITE_LOGITS, where="forward", got="NaN or infinity for an image")
    return logits.numpy()


if __name__ == "__main__":
    main()
