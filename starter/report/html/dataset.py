"""One page of HTML about a data set: balance, sizes, problems, duplicates, samples. It needs no other file.

Names are strangers' texts: everything is escaped, and the content security policy allows
the page's own style and the pictures inside it, and nothing else.
"""

import base64
import hashlib
import io
from collections.abc import Sequence
from importlib.resources import files

import jinja2
from markupsafe import Markup
from PIL import Image

from starter.contract.text import inline
from starter.data.check import CheckReport, Duplicates
from starter.data.dataset import Dataset
from starter.report.contact_sheet import ClassSheet, Sample

_BINS = 24


def page(
    dataset: Dataset,
    report: CheckReport,
    sheets: Sequence[ClassSheet],
    duplicates: Sequence[tuple[Duplicates, list[Sample]]],
) -> str:
    """Return the page."""
    templates = files("starter.report.html")
    style = "".join(
        templates.joinpath(name).read_text(encoding="utf-8") for name in ("board.css", "data.css")
    )
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals |= {"text": inline, "uri": _uri}
    totals = {row.class_name: row.train + row.public + row.private for row in report.classes}
    return environment.from_string(templates.joinpath("data.html").read_text(encoding="utf-8")).render(
        info=dataset.info,
        report=report,
        totals=totals,
        most=max(totals.values(), default=1) or 1,
        validation=any(row.validation for row in report.classes),
        bins=_histogram([max(size) for size in report.sizes]),
        sheets=sheets,
        duplicates=duplicates,
        css=Markup(style),  # noqa: S704 - our own file
        policy=Markup(f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'"),  # noqa: S704 - our own
    )


def _uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _histogram(values: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return (from, up to, images) of equal steps over the longer sides; one step if all are alike."""
    if not values:
        return []
    low, high = min(values), max(values)
    step = max(1, -(-(high - low + 1) // _BINS))
    counts = [0] * ((high - low) // step + 1)
    for value in values:
        counts[(value - low) // step] += 1
    return [(low + i * step, low + (i + 1) * step - 1, count) for i, count in enumerate(counts)]
