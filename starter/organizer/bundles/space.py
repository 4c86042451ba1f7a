"""Write a Hugging Face Space: a page that takes zips and shows the board.

A Space's files are as public as the Space: it holds the Public images only. docs/space.md says what to set
there.
"""

import json
from pathlib import Path

from starter.contract.competition import CompetitionFile
from starter.contract.results import Reference
from starter.contract.system.files import atomic_write
from starter.contract.text import inline
from starter.data.dataset import Dataset
from starter.data.writer import refuse_existing
from starter.organizer.bundles.hosted import REQUIREMENTS, write_competition, write_template


def write(target: Path, rules: CompetitionFile, dataset: Dataset, reference: Reference) -> dict[str, str]:
    """Write the new folder `target`, whole or not at all.

    Returns:
        dict: what was written, by its name in the folder, with what it is.

    Raises:
        UsageError: as `write_competition` does; U106, `target` exists.
    """
    refuse_existing(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as folder:
        written = write_competition(folder, rules, dataset, reference, platform="a Space")
        name = inline(rules.name)
        # JSON's strings are YAML's too.
        write_template("space", folder, {"title": json.dumps(name, ensure_ascii=False), "name": name})
    return written | {
        "app.py": "the page: it takes zips and shows the board",
        "run.sh": "starts the page, and `starter batch --watch` beside it",
        "Dockerfile": "what the Space builds",
        "README.md": "the Space's configuration, and the variables that it reads",
        REQUIREMENTS: "the version of the kit, and the page's libraries",
    }
