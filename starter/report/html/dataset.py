"""The HTML page of a data set: balance, sizes, problems, duplicates, samples. It needs no other file.

Names are strangers' texts: everything is escaped, and the content security policy allows
only the page's own style, script and embedded pictures.
"""

import io
from collections.abc import Sequence

from PIL import Image

from starter.data.check import CheckReport, Duplicates
from starter.data.dataset import Dataset
from starter.report.contact_sheet import ClassSheet, Sample
from starter.report.html.page import picture_uri, render
from starter.report.problems import MOST_TOLD, kinds_of

_BINS = 24


def page(
    dataset: Dataset,
    report: CheckReport,
    sheets: Sequence[ClassSheet],
    duplicates: Sequence[tuple[Duplicates, list[Sample]]],
) -> str:
    """Return the page."""
    totals = {row.class_name: row.train + row.public + row.private for row in report.classes}
    return render(
        "data.html",
        "data show",
        styles=["data.css"],
        scripts=["table.js"],
        uri=_uri,
        info=dataset.info,
        report=report,
        kinds=kinds_of(report.problems),
        most_told=MOST_TOLD,
        totals=totals,
        most=max(totals.values(), default=1) or 1,
        validation=any(row.validation for row in report.classes),
        bins=_histogram([max(size) for size in report.sizes]),
        sheets=sheets,
        duplicates=duplicates,
    )


def _uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82)
    return picture_uri(buffer.getvalue(), "image/jpeg")


def _histogram(values: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return (from, to, images) for equal steps of the longer side; one step if all are equal."""
    if not values:
        return []
    low, high = min(values), max(values)
    step = max(1, -(-(high - low + 1) // _BINS))
    counts = [0] * ((high - low) // step + 1)
    for value in values:
        counts[(value - low) // step] += 1
    return [(low + i * step, low + (i + 1) * step - 1, count) for i, count in enumerate(counts)]
