"""The prediction step: a submission exports its graph. No image and no label is in this container."""

import os
import sys
from pathlib import Path

from rich.console import Console

from starter.contract.errors import ParticipantError, StarterError
from starter.contract.system.processors import waiting
from starter.organizer.bundles.steps import describe, ingest
from starter.report.problems import show_error
from starter.report.terminal import print_line


def main(submission: str, facts: str, output: str) -> int:
    """Export what Codabench has unpacked in a folder; return the exit code."""
    os.environ.update(waiting(os.environ))  # before anything loads OpenMP
    try:
        ingested = ingest(Path(submission), Path(facts), Path(output))
    except StarterError as error:
        show_error(Console(stderr=True, highlight=False), error)
        return 1 if isinstance(error, ParticipantError) else 3
    for line in describe(ingested):
        print_line(Console(highlight=False), line)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
