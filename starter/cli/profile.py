"""`starter profile`: a submission's cost, memory access and time, layer by layer."""

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from starter.cli.common import (
    DataOption,
    JsonOption,
    OwnIsolationOption,
    RulesOption,
    can_be_made,
    err,
    evaluate_all,
    out,
    worst,
    wrote_json,
)
from starter.contract.competition import load_competition
from starter.contract.errors import Status, UsageError
from starter.contract.submissions import discover
from starter.report.scores import show_problems
from starter.report.terminal import print_line


def profile(  # noqa: PLR0913, PLR0917 - options of the command line
    paths: Annotated[
        list[Path], typer.Argument(help="NAME.py, a folder with plugin.py, or a folder of those.")
    ],
    compare: Annotated[
        Path | None, typer.Option("--compare", help="Plugin to compare with, such as the baseline.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", callback=can_be_made, dir_okay=False, help="Write an HTML page with charts."),
    ] = None,
    png: Annotated[
        Path | None,
        typer.Option("--png", callback=can_be_made, dir_okay=False, help="Write the charts as PNG."),
    ] = None,
    score: Annotated[
        bool, typer.Option(help="Also run the images and explain the score; as slow as starter score.")
    ] = True,
    data: DataOption = None,
    competition: RulesOption = None,
    isolation: OwnIsolationOption = None,
    json_to: JsonOption = None,
) -> int:
    """Show what each layer costs: MACs, memory access, latency."""
    from starter.evaluation.evaluate import LAYERS, PROFILE, read_reference
    from starter.report import profile as profile_view
    from starter.report.html import profile as profile_page

    rules = load_competition(competition)
    sources = discover([*paths, compare] if compare else paths)
    reference = None
    with contextlib.suppress(UsageError):  # a profile needs no baseline; with one there is a ratio as well
        reference = read_reference(rules.path(rules.baseline))
    results = evaluate_all(
        "profile",
        sources,
        rules,
        data,
        scope=PROFILE if score and reference else LAYERS,
        reference=reference if score else None,
        isolation=isolation,
    )
    good = [(r, r.profile) for r in results if r.status is Status.OK and r.profile is not None]
    written = [target for target in (png, html) if target is not None]
    for target in written:
        target.parent.mkdir(parents=True, exist_ok=True)
    if good and png:
        png.write_bytes(profile_view.picture(good))
    if good and html:
        html.write_text(profile_page.page(good, reference, rules.score), encoding="utf-8", newline="\n")
    if not wrote_json(json_to, results):
        for result, _ in good:
            profile_view.show_profile(out, result, reference, rules.score)
        if compare and len(good) > 1:
            profile_view.show_comparison(out, [result for result, _ in good])
        show_problems(out, results)
    if good:
        for target in written:
            print_line(err, f"written: {target}")
    return worst(results)
