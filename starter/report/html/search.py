"""The page of a search: one self-contained HTML file with the picture and the Pareto front."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup, escape

from starter.contract.system.files import write_whole
from starter.evaluation.scoring import pareto_front
from starter.recipes.search.search import Found
from starter.report.html.page import render
from starter.report.html.svg import HEIGHT, WIDTH, Axes, front_line, grid


def write_page(found: Sequence[Found], best: Sequence[Found], folder: Path, title: str) -> Path:
    """Write index.html into the search's folder; after a kill, the old page or the new one remains."""
    text = render(
        "search.html",
        "search",
        scripts=["table.js"],
        heading=title,
        picture=_picture(found) if found else "",
        best=best,
        num_found=len(found),
        shape=_shape,
    )
    return write_whole(folder / "index.html", text)


def _shape(item: Found) -> str:
    """Return a network as one line: stem, then channels x depth, kernel and expansion of each stage."""
    stages = ", ".join(
        f"{s['channels']} x {s['depth']} (k{s['kernel']} e{s['expansion']})" for s in item.config["stages"]
    )
    return f"{item.config['resolution']} px, stem {item.config['stem']}, {stages}"


def _picture(found: Sequence[Found]) -> Markup:
    points = [(float(item.macs), item.macro_f1) for item in found]
    axes = Axes([macs for macs, _ in points], [f1 for _, f1 in points], floor=0)
    on_front = set(pareto_front(points))
    dots = [
        Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>').format(
            "top" if i in on_front else "dot",
            axes.x(item.macs),
            axes.y(item.macro_f1),
            5 if i in on_front else 4,
            escape(f"trial {item.number}: {item.macs:,} MACs, F1 {item.macro_f1:.4f}; {_shape(item)}"),
        )
        for i, item in enumerate(found)
    ]
    label = f"MACs against validation macro F1 of {len(found)} networks"
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, HEIGHT, label)
    return head + Markup("\n").join([*grid(axes), front_line(points, axes), *dots]) + Markup("</svg>")
