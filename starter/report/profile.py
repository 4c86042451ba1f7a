"""Show profiles as a table in a terminal and as charts; html/profile.py makes the page.

Module names and lines come from strangers, so no control character reaches the terminal.
"""

import io
from collections.abc import Callable, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from starter.contract.competition import ScoreRules
from starter.contract.costs import Finding, LayerProfile, ProfileReport
from starter.contract.results import EvaluationResult, Reference
from starter.contract.text import inline
from starter.report.explanation import explain_score
from starter.report.terminal import print_line, print_wrapped

GUIDELINES = {
    "G1": "equal channel widths minimise memory access cost",
    "G2": "many groups raise memory access cost",
    "G3": "fragmented branches cost parallelism",
    "G4": "elementwise operators are not negligible",
}
"""Ma et al. 2018, ShuffleNet V2, arXiv:1807.11164, section 2."""

_COLOURS = {"contraction": "#2a6f97", "pointwise": "#e09f3e", "reduction": "#9e2a2b"}
_MOST_BARS = 25

Profiled = tuple[EvaluationResult, ProfileReport]


def show_profile(
    console: Console, result: EvaluationResult, reference: Reference | None, rules: ScoreRules
) -> None:
    """Print the layers, the totals, the terms of the score, and the findings."""
    report = result.profile
    assert report is not None
    print_line(console, f"{inline(result.name)}  {_input(result)}", "bold")
    if console.is_terminal:
        console.print(_table(result, report, console))
    else:
        for layer in working(report):
            print_line(console, _plain(layer, result))
    print_line(console)
    for name, value in totals(result, reference):
        print_wrapped(console, f"  {name:22} {value}")
    if reference is not None and result.score is not None:
        print_line(console)
        print_wrapped(console, f"score: {explain_score(result, reference, rules)}")
    for number, name in GUIDELINES.items():
        found = [f for f in report.findings if f.guideline == number]
        print_line(console)
        print_wrapped(
            console,
            f"{number} {name}: "
            + ("followed" if not found else f"{len(found)} place{'s' if found[1:] else ''}"),
        )
        for finding in found:
            print_wrapped(
                console, f"  {_place(finding)}: {saving(finding)}\n  {finding.formula}\n  {finding.advice}"
            )


def show_comparison(console: Console, results: Sequence[EvaluationResult]) -> None:
    """Print the totals of profiles side by side, and the ratio of the first to the last."""
    table = Table(box=box.SIMPLE, pad_edge=False, header_style="bold")
    table.add_column("")
    for name in (*(r.name for r in results), "first / last"):
        table.add_column(Text(inline(name)), justify="right")
    for label, number in _NUMBERS.items():
        values = [number(r) for r in results]
        cells = ["-" if v is None else f"{v:,.4g}" if isinstance(v, float) else f"{v:,}" for v in values]
        ratio = f"{values[0] / values[-1]:.3f}" if values[0] is not None and values[-1] else "-"
        table.add_row(label, *cells, ratio)
    console.print(table)


def totals(result: EvaluationResult, reference: Reference | None) -> list[tuple[str, str]]:
    """Return the names and values of the whole network's figures."""
    report = result.profile
    assert report is not None
    assert result.macs is not None
    rows = [
        ("MACs", f"{result.macs:,}"),
        ("  contraction", f"{result.contraction_macs:,}  the literature's convention"),
        ("  pointwise", f"{result.pointwise_macs:,}"),
        ("  reduction", f"{result.reduction_macs:,}"),
        ("thop sees", "-" if result.thop_macs is None else f"{result.thop_macs:,}"),
        ("FLOPs", f"{report.flops:,}  2n - 1 for a dot product of length n"),
        ("params", f"{result.params:,}"),
        *_memory(result),
        ("memory access cost", f"{report.access:,} elements, {report.access_bytes / 2**20:,.2f} MiB"),
        ("arithmetic intensity", f"{report.flops / max(report.access_bytes, 1):,.2f} FLOPs per byte"),
    ]
    rows += [(f"latency, batch {batch}", _timing(report, batch)) for batch in report.latency]
    if reference is not None:
        ratio = result.macs / reference.macs
        rows.insert(1, ("of the baseline's", f"{ratio:.4f}  ({reference.macs:,} MACs)"))
    return rows


def _memory(result: EvaluationResult) -> list[tuple[str, str]]:
    """Return the network's memory and depth; nothing if they were not counted."""
    costs = result.costs
    if costs is None:
        return []
    return [
        ("weights", f"{costs.weight_bytes:,} bytes"),
        ("peak memory", f"{costs.peak_memory_bytes:,} bytes, weights included"),
        ("depth", f"{costs.depth} convolutions and matrix products on the longest path"),
    ]


def charts(profiled: Sequence[Profiled]) -> Figure:
    """Draw the cost of each profile's layers as bars, and their roofline."""
    heights = [2.4 + 0.24 * min(len(working(report)), _MOST_BARS) for _, report in profiled]
    figure = Figure(figsize=(13, sum(heights)), layout="constrained")
    axes = figure.subplots(len(profiled), 2, squeeze=False, width_ratios=(3, 2), height_ratios=heights)
    for (bars, roof), (result, report) in zip(axes, profiled, strict=True):
        _draw_bars(bars, result, report)
        _draw_roofline(roof, report)
    kinds = [Patch(color=colour, label=kind) for kind, colour in _COLOURS.items()]
    figure.legend(handles=kinds, loc="outside upper center", ncols=len(kinds), frameon=False, fontsize=9)
    return figure


def picture(profiled: Sequence[Profiled]) -> bytes:
    """Return the charts as a PNG."""
    buffer = io.BytesIO()
    charts(profiled).savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def working(report: ProfileReport) -> list[LayerProfile]:
    """Return the layers that compute or touch memory; the others are views."""
    return [layer for layer in report.layers if layer.macs or layer.access]


def _input(result: EvaluationResult) -> str:
    return f"{' x '.join(map(str, result.input_shape or ()))} float32"


def ops(layer: LayerProfile) -> str:
    """Return the names of a layer's operators, without the parts that all names share."""
    return ", ".join(op.removeprefix("aten.").removesuffix(".default") for op in layer.ops)


def share(layer: LayerProfile, result: EvaluationResult) -> float:
    """Return a layer's share of all MACs, 0 to 1."""
    return layer.macs / (result.macs or 1)


def _place(finding: Finding) -> str:
    return "  ".join(part for part in (finding.module, finding.source) if part)


def saving(finding: Finding) -> str:
    """Say what following a guideline would save."""
    unit = "operators" if finding.guideline == "G3" else "elements"
    return f"{finding.saving:,} {unit} ({finding.share:.1%}) could be saved"


def _timing(report: ProfileReport, batch: int) -> str:
    time = report.latency[batch]
    return (
        f"{time.median / 1000:,.3f} ms ({time.low / 1000:,.3f} to {time.high / 1000:,.3f})"
        f"  {report.device}, {report.threads} thread{'s' if report.threads > 1 else ''}"
    )


_COLUMNS: dict[str, Callable[[LayerProfile, EvaluationResult], str]] = {
    "output": lambda layer, _: "x".join(map(str, layer.shape[1:])),
    "params": lambda layer, _: f"{layer.params:,}",
    "MACs": lambda layer, _: f"{layer.macs:,}",
    "share": lambda layer, result: f"{share(layer, result):.1%}",
    "access": lambda layer, _: f"{layer.access:,}",
    "FLOPs/B": lambda layer, _: f"{layer.intensity:.1f}",
    "us at 1": lambda layer, _: f"{layer.latency[1].median:,.0f}" if 1 in layer.latency else "-",
    "us at 32": lambda layer, _: f"{layer.latency[32].median:,.0f}" if 32 in layer.latency else "-",
}
_DROPPED_FIRST = ("FLOPs/B", "params", "us at 32", "access", "output")


def _table(result: EvaluationResult, report: ProfileReport, console: Console) -> Table:
    """Return the table of layers with all columns that fit the terminal."""
    for count in range(len(_DROPPED_FIRST) + 1):
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("module, line", overflow="fold", min_width=24)
        headings = [name for name in _COLUMNS if name not in _DROPPED_FIRST[:count]]
        for heading in headings:
            table.add_column(heading, justify="right", no_wrap=True)
        for layer in working(report):
            cells = [Text(inline(layer.label)), *(Text(_COLUMNS[h](layer, result)) for h in headings)]
            table.add_row(*cells, style="" if layer.macs else "dim")
        if console.measure(table, options=console.options.update(width=1000)).maximum <= console.width:
            break
    return table


def _plain(layer: LayerProfile, result: EvaluationResult) -> str:
    cells = "  ".join(f"{name} {text(layer, result)}" for name, text in _COLUMNS.items())
    return f"{inline(layer.label)}  {cells}"


_NUMBERS: dict[str, Callable[[EvaluationResult], float | int | None]] = {
    "MACs": lambda r: r.macs,
    "contraction MACs": lambda r: r.contraction_macs,
    "pointwise MACs": lambda r: r.pointwise_macs,
    "reduction MACs": lambda r: r.reduction_macs,
    "thop sees": lambda r: r.thop_macs,
    "params": lambda r: r.params,
    "bytes of weights": lambda r: r.costs.weight_bytes if r.costs else None,
    "bytes of peak memory": lambda r: r.costs.peak_memory_bytes if r.costs else None,
    "depth": lambda r: r.costs.depth if r.costs else None,
    "FLOPs": lambda r: r.profile.flops if r.profile else None,
    "memory access cost": lambda r: r.profile.access if r.profile else None,
    "latency at 1, ms": lambda r: _milliseconds(r, 1),
    "latency at 32, ms": lambda r: _milliseconds(r, 32),
}


def _milliseconds(result: EvaluationResult, batch: int) -> float | None:
    timing = result.profile.latency.get(batch) if result.profile else None
    return timing.median / 1000 if timing else None


def heaviest(report: ProfileReport) -> list[LayerProfile]:
    """Return the layers with the most MACs, in the network's order."""
    costly = working(report)
    chosen = set(sorted(range(len(costly)), key=lambda i: costly[i].macs, reverse=True)[:_MOST_BARS])
    return [layer for i, layer in enumerate(costly) if i in chosen]


class Timed(NamedTuple):
    """A layer's point in the roofline."""

    layer: LayerProfile
    """The layer; its intensity in FLOPs per byte is the x coordinate."""
    gflops: float
    """Billions of FLOPs per second."""
    share: float
    """The layer's share of the network's time, 0 to 1."""
    kind: str
    """contraction or pointwise."""


class Roofline(NamedTuple):
    """The machine's limit at each intensity, and the speed that the layers reach."""

    batch: int
    """Images at once."""
    roof: tuple[tuple[float, float], ...]
    """FLOPs per byte and GFLOPs per second: the lowest intensity, the ridge, the highest."""
    points: tuple[Timed, ...]
    """The layers that take measurable time."""


def roofline(report: ProfileReport) -> Roofline | None:
    """Return the roofline at the largest batch; None if no layer takes measurable time.

    Source: Williams et al. 2009, doi:10.1145/1498765.1498785.
    """
    batch = max(report.latency)
    points = tuple(
        Timed(
            layer,
            layer.flops * batch / layer.latency[batch].median / 1e3,
            layer.latency[batch].median / report.latency[batch].median,
            "contraction" if layer.contraction else "pointwise",
        )
        for layer in report.layers
        if layer.flops and layer.latency[batch].median > 1
    )
    if not points:
        return None
    ridge = report.peak_flops / report.peak_bytes
    intensities = [ridge, *(point.layer.intensity for point in points)]
    places = (min(intensities) / 2, ridge, max(intensities) * 4)
    roof = tuple((x, min(x * report.peak_bytes, report.peak_flops) / 1e9) for x in places)
    return Roofline(batch, roof, points)


def _draw_bars(axes: Axes, result: EvaluationResult, report: ProfileReport) -> None:
    num_working, layers = len(working(report)), heaviest(report)
    left = [0.0] * len(layers)
    for kind, colour in _COLOURS.items():
        widths = [getattr(layer, kind) / 1e6 for layer in layers]
        axes.barh(range(len(layers)), widths, left=left, color=colour)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_yticks(
        range(len(layers)), [_short(layer.label) for layer in layers], fontsize=8, parse_math=False
    )
    axes.set_ymargin(0.01)
    axes.invert_yaxis()
    axes.set_xlabel("million MACs for one image")
    more = "" if len(layers) == num_working else f", the {len(layers)} heaviest of {num_working}"
    axes.set_title(f"{_short(result.name)}: {result.macs:,} MACs{more}", loc="left", parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_roofline(axes: Axes, report: ProfileReport) -> None:
    drawn = roofline(report)
    if drawn is None:
        axes.set_axis_off()
        return
    axes.loglog(*zip(*drawn.roof, strict=True), color="#888888")
    axes.scatter(
        [point.layer.intensity for point in drawn.points],
        [point.gflops for point in drawn.points],
        s=[20 + 400 * point.share for point in drawn.points],
        c=[_COLOURS[point.kind] for point in drawn.points],
        alpha=0.6,
        linewidths=0,
    )
    axes.set_xlabel("FLOPs per byte")
    axes.set_ylabel("GFLOPs per second")
    axes.set_title(f"roofline at batch {drawn.batch}; area: share of the time")
    axes.spines[["top", "right"]].set_visible(False)


def _short(text: str) -> str:
    text = inline(text)
    return text if len(text) <= 60 else "..." + text[-57:]
