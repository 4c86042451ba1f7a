"""The scoring step: the kit counts the graph, runs it on the images and meets the labels; no plugin runs."""

import os
import sys
from pathlib import Path
from typing import Literal, cast

from rich.console import Console

from starter.contract.errors import ParticipantError, StarterError
from starter.contract.system.files import write_whole
from starter.contract.system.processors import waiting
from starter.organizer.bundles.steps import score
from starter.report.html.profile import page
from starter.report.problems import show_error
from starter.report.terminal import print_line


def main(inputs: str, output: str, usage: str) -> int:
    """Score what the prediction step left, on the Public or the Private images; return the exit code."""
    os.environ.update(waiting(os.environ))  # before anything loads OpenMP
    target = Path(output)
    images = cast('Literal["Public", "Private"]', usage)
    try:
        scored = score(Path(inputs) / "res", Path(inputs) / "ref", target, images)
    except StarterError as error:
        show_error(Console(stderr=True, highlight=False), error)
        return 1 if isinstance(error, ParticipantError) else 3
    if scored.result.profile is not None:
        shown = [(scored.result, scored.result.profile)]
        write_whole(target / "detailed_results.html", page(shown, scored.reference, scored.rules.score))
    for name, value in scored.scores.items():
        print_line(Console(highlight=False), f"{name:18}{value:,.10g}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
