"""`starter speed`: how much faster than the baseline submissions run."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from starter.cli.common import (
    DataOption,
    JsonOption,
    OwnIsolationOption,
    RulesOption,
    err,
    in_force,
    isolation_for,
    open_data,
    out,
    progress,
    worst,
    wrote_json,
)
from starter.cli.exits import EXIT_HOST
from starter.cli.score import BaselineOption
from starter.contract.competition import load_competition
from starter.contract.submissions import discover, discover_one
from starter.report.scores import show_problems
from starter.report.speed import CANNOT_TELL, show_speeds
from starter.report.terminal import print_line

if TYPE_CHECKING:
    from starter.contract.results import EvaluationResult
    from starter.evaluation.measure import Images, LocalMeasurer


class Device(StrEnum):
    """The device to time programs on."""

    CPU = "cpu"
    CUDA = "cuda"


def speed(  # noqa: PLR0913, PLR0917 - options of the command line
    paths: Annotated[
        list[Path], typer.Argument(help="NAME.py, a folder with plugin.py, or a folder of those.")
    ],
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Seconds of processor time per batch size and repetition.")
    ] = 4.0,
    takings: Annotated[int, typer.Option(min=1, help="Repetitions of the whole measurement.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the order in which programs run.")] = 0,
    device: Annotated[Device, typer.Option(help="Device to run the programs on.")] = Device.CPU,
    data: DataOption = None,
    baseline: BaselineOption = None,
    competition: RulesOption = None,
    isolation: OwnIsolationOption = None,
    json_to: JsonOption = None,
) -> int:
    """Measure how much faster than the baseline plugins run."""
    from starter.contract.system.processors import machine
    from starter.evaluation.evaluate import COSTS, Evaluator
    from starter.evaluation.measure import LocalMeasurer
    from starter.evaluation.runner.speed import SpeedPlan

    rules = load_competition(competition)
    sources = discover(paths)
    plan = SpeedPlan(discover_one(baseline or rules.path(rules.baseline)), seconds, takings, seed)
    chosen = isolation_for("speed", rules, isolation)
    rules = in_force(rules, None)

    def measurer(images: "Images") -> "LocalMeasurer":
        return LocalMeasurer(rules, images, isolation=chosen, threads=1, device=device, speed=plan)

    results: list[EvaluationResult] = []
    with (
        Evaluator(rules, open_data(data, rules), scope=COSTS, measurer=measurer) as evaluator,
        progress("timing") as tick,
    ):
        tick(0, len(sources), sources[0].name)
        for measured in evaluator.evaluate(sources):
            results.append(measured.result)
            tick(len(results), len(sources))
    if not wrote_json(json_to, results):
        show_speeds(out, results, machine=machine())
        show_problems(out, results)
    if any(result.speed is not None and result.speed.ratio is None for result in results):
        print_line(err, f"{CANNOT_TELL}: close other programs, or try --seconds {3 * seconds:g}")
        return max(worst(results), EXIT_HOST)
    return worst(results)
