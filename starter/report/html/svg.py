"""Draw MACs against macro F1: axes, grid and Pareto front, as parts of an SVG."""

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup

from starter.evaluation.scoring import pareto_front

WIDTH, HEIGHT = 960, 440
LEFT, BOTTOM, TOP, RIGHT = 56, 44, 42, 24
"""Margins, in pixels."""

Point = tuple[float, float]
"""MACs and macro F1."""


class Axes:
    """The positions of MACs (logarithmic) and F1 in the picture.

    Args:
        macs: the MACs of all points.
        f1: the macro F1 of all points.
        floor: the F1 below which nothing is ranked; shown if points are near it.
    """

    def __init__(self, macs: Sequence[float], f1: Sequence[float], floor: float) -> None:
        low, high = math.log10(min(macs)), math.log10(max(macs))
        pad = max(0.06 * (high - low), 0.1)
        self.low, self.high = low - pad, high + pad
        self.bottom = max(0.0, min([*f1, max(f1) - 0.1]) - 0.03)
        self.bottom = min(self.bottom, max(floor - 0.01, 0)) if min(f1) < floor + 0.05 else self.bottom
        self.top = min(1.0, max(f1) + 0.03)

    def x(self, macs: float) -> float:
        """Return the x position of a number of MACs, in pixels."""
        share = (math.log10(macs) - self.low) / (self.high - self.low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, f1: float) -> float:
        """Return the y position of an F1, in pixels from the top."""
        share = (f1 - self.bottom) / (self.top - self.bottom)
        return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)

    def holds(self, x: float) -> bool:
        """Return whether an x position is inside the picture."""
        return LEFT <= x <= WIDTH - RIGHT


def front_line(points: Sequence[Point], axes: Axes) -> Markup:
    """Draw the front as steps: the best F1 at up to each number of MACs, to the right edge."""
    path = ""
    for x, y in ((axes.x(points[i][0]), axes.y(points[i][1])) for i in pareto_front(points)):
        path += f"H{x:.1f}V{y:.1f}" if path else f"M{x:.1f} {HEIGHT - BOTTOM}V{y:.1f}"
    return Markup('<path class="front" d="{}"/>').format(f"{path}H{WIDTH - RIGHT}")


def grid(axes: Axes, label: str = "MACs") -> Iterable[Markup]:
    """Draw lines at round numbers with their values, and name the axes: `label` and F1."""
    line = Markup('<path class="grid" d="M{:.1f} {:.1f}L{:.1f} {:.1f}"/>')
    text = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    for exponent in range(math.floor(axes.low), math.ceil(axes.high) + 1):
        for step in (1, 2, 5):
            macs = step * 10.0**exponent
            if axes.holds(x := axes.x(macs)):
                yield line.format(x, TOP, x, bottom)
                yield text.format(x, bottom + 18, "middle", _short(macs))
    step_size = 0.02 if axes.top - axes.bottom < 0.2 else 0.05 if axes.top - axes.bottom < 0.5 else 0.1
    for i in range(math.ceil(axes.bottom / step_size), math.floor(axes.top / step_size) + 1):
        y = axes.y(i * step_size)
        yield line.format(LEFT, y, right, y)
        yield text.format(LEFT - 8, y + 4, "end", f"{i * step_size:.2f}")
    yield text.format(right, bottom + 36, "end", f"{label} of one image")
    yield text.format(LEFT - 40, TOP - 24, "start", "macro F1")


def _short(macs: float) -> str:
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if macs >= unit:
            return f"{macs / unit:g} {name}"
    return f"{macs:g}"
