"""Show the speed of networks relative to the baseline, or why the measurement is inconclusive."""

from collections.abc import Sequence

from rich.console import Console

from starter.contract.costs import BatchSpeed, SpeedReport, SpeedVerdict
from starter.contract.results import EvaluationResult
from starter.contract.text import inline
from starter.report.terminal import pad, print_line

_COLUMNS = ("batch", "time / baseline's", "99 % interval", "baseline / itself", "speed")
_WIDTHS = (5, 17, 16, 17, 7)
_WHY = {
    SpeedVerdict.CONTROL: "the baseline differs from itself",
    SpeedVerdict.WIDE: "the interval is wider than 3 %",
}
CANNOT_TELL = "this machine cannot tell today"


def show_speeds(console: Console, results: Sequence[EvaluationResult], *, machine: str) -> None:
    """Print a row for each network and batch size, and the conditions of the measurement."""
    timed = [(result, result.speed) for result in results if result.speed is not None]
    if not timed:
        return
    width = max(len("both"), *(len(inline(result.name)) for result, _ in timed))
    print_line(console, f"{pad('', width)}  {_joined(_COLUMNS)}", "dim")
    for result, report in timed:
        for number, found in enumerate(report.batches):
            name = result.name if number == 0 else ""
            print_line(console, f"{pad(inline(name), width)}  {_row(found)}")
        if report.ratio is not None and len(report.batches) > 1:
            both = ("all", f"{report.ratio:.3f}", "", "", f"{1 / report.ratio:.2f} x")
            print_line(console, f"{pad('', width)}  {_joined(both)}")
    print_line(console)
    print_line(console, f"{_conditions(timed[0][1])}; {machine}", "dim")


def _joined(cells: Sequence[str]) -> str:
    return "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=True))


def _row(found: BatchSpeed) -> str:
    interval = "{:.3f} to {:.3f}".format(*found.interval)
    control = "{:.3f} to {:.3f}".format(*found.control_interval)
    if found.verdict is not SpeedVerdict.OK:
        return (
            f"{_joined((str(found.batch), '', interval, control, ''))}  {CANNOT_TELL}: {_WHY[found.verdict]}"
        )
    return _joined((str(found.batch), f"{found.ratio:.3f}", interval, control, f"{1 / found.ratio:.2f} x"))


def _conditions(report: SpeedReport) -> str:
    rounds = sum(len(found.rounds) for found in report.batches)
    core = "" if report.core is None else f" on core {report.core}"
    return f"{report.clock}, one thread{core}, {rounds} rounds, seed {report.seed}"
