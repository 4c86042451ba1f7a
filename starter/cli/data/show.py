"""`starter data show`: look at a data set, on the terminal, as a contact sheet and as a page."""

from pathlib import Path
from typing import Annotated

import typer

from starter.cli.common import can_be_made, err, out
from starter.cli.data.data import data_app, print_check
from starter.cli.exits import EXIT_OK, EXIT_USAGE
from starter.contract.text import inline
from starter.report.terminal import print_line

PAGE_HELP = "Write an HTML page: balance, sizes, duplicates, samples."


@data_app.command()
def show(
    path: Annotated[Path, typer.Argument(help="The data set's folder.")],
    png: Annotated[
        Path | None,
        typer.Option("--png", callback=can_be_made, dir_okay=False, help="Write a contact sheet of samples."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", callback=can_be_made, dir_okay=False, help=PAGE_HELP)
    ] = None,
    per_class: Annotated[int, typer.Option(min=1, max=200, help="Number of samples per class.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same samples.")] = 0,
) -> int:
    """Show a data set: class balance, sizes, broken and duplicate images, leaks, samples."""
    from starter.data.check import check
    from starter.data.dataset import open_dataset
    from starter.report import contact_sheet
    from starter.report.html import dataset as dataset_page

    report = check(path)
    print_check(report)
    totals = {row.class_name: row.train + row.public + row.private for row in report.classes}
    if totals:
        most, least = max(totals, key=totals.__getitem__), min(totals, key=totals.__getitem__)
        ratio = totals[most] / max(totals[least], 1)
        print_line(out, f"balance: {inline(most)} has {ratio:.1f} times the images of {inline(least)}")
    code = EXIT_USAGE if report.problems else EXIT_OK
    if not totals or not (png or html):
        return code
    dataset = open_dataset(path)
    sheets = contact_sheet.samples(dataset, report.classes, per_class=per_class, seed=seed)
    for target in (png, html):
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
    if png:
        png.write_bytes(contact_sheet.png(f"{dataset.info.name}: {report.images:,} images", sheets))
        print_line(err, f"written: {png}")
        if lacking := contact_sheet.undrawable(totals):
            names = ", ".join(map(inline, lacking))
            print_line(
                err, f"no installed font can draw {names}: shown as class numbers; apt install fonts-noto-cjk"
            )
    if html:
        duplicates = contact_sheet.duplicate_samples(dataset, report.duplicates)
        html.write_text(
            dataset_page.page(dataset, report, sheets, duplicates), encoding="utf-8", newline="\n"
        )
        print_line(err, f"written: {html}")
    return code
