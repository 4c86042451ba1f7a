"""Draw a roofline as SVG: intensity against speed, both logarithmic."""

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

from starter.contract.text import inline
from starter.report.profile import Roofline

_WIDTH, _HEIGHT = 560, 440
_LEFT, _BOTTOM, _TOP, _RIGHT = 60, 52, 34, 16
"""Margins, in pixels."""


class _Scale:
    """A logarithmic axis from the smallest value to the largest, with a margin at both ends."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self._low, self._high = math.log10(min(values)) - 0.1, math.log10(max(values)) + 0.1
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        part = (math.log10(value) - self._low) / (self._high - self._low)
        return self._start + part * (self._end - self._start)

    def decades(self) -> Iterable[float]:
        return (10.0**n for n in range(math.ceil(self._low), math.floor(self._high) + 1))


def roofline_picture(drawn: Roofline) -> Markup:
    """Draw the machine's limit as a line, and each layer as a circle whose area is its share of the time."""
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    x = _Scale([place for place, _ in drawn.roof] + [p.layer.intensity for p in drawn.points], _LEFT, right)
    y = _Scale([speed for _, speed in drawn.roof] + [p.gflops for p in drawn.points], bottom, _TOP)
    line = Markup('<path class="grid" d="M{:.1f} {:.1f}L{:.1f} {:.1f}"/>')
    text = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
    parts = [text.format(right, bottom + 42, "end", "FLOPs per byte")]
    parts.append(text.format(4, _TOP - 14, "start", "GFLOPs per second"))
    for value in x.decades():
        parts.append(line.format(x(value), _TOP, x(value), bottom))
        parts.append(text.format(x(value), bottom + 20, "middle", f"{value:g}"))
    for value in y.decades():
        parts.append(line.format(_LEFT, y(value), right, y(value)))
        parts.append(text.format(_LEFT - 8, y(value) + 5, "end", f"{value:g}"))
    roof = "L".join(f"{x(place):.1f} {y(speed):.1f}" for place, speed in drawn.roof)
    parts.append(Markup('<path class="roof" d="M{}"/>').format(roof))
    for point in sorted(drawn.points, key=lambda point: -point.share):
        speed = f"{point.gflops:,.1f} GFLOPs per second, {point.share:.1%} of the time"
        parts.append(
            Markup(
                '<circle class="cloud {}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"><title>{}</title></circle>'
            ).format(
                point.kind,
                x(point.layer.intensity),
                y(point.gflops),
                math.sqrt(12 + 250 * point.share),
                escape(f"{inline(point.layer.label)}: {speed}"),
            )
        )
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="Roofline at batch {}">').format(
        _WIDTH, _HEIGHT, drawn.batch
    )
    return head + Markup("\n").join(parts) + Markup("</svg>")
