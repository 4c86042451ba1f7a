"""Write a GitHub repository in which a pull request submits entries and gets their score as a comment.

The repository is public: it holds the Public images only. docs/github.md says what to set there.
"""

import json
from pathlib import Path

from starter.contract.competition import CompetitionFile
from starter.contract.errors import Code, usage_error
from starter.contract.results import Reference
from starter.contract.system.files import atomic_write, write_whole
from starter.contract.text import inline
from starter.data.dataset import Dataset
from starter.data.writer import refuse_existing
from starter.evaluation.records import EvaluationRecord
from starter.organizer.bundles.hosted import REQUIREMENTS, write_competition, write_template

MOST_MB = 100
"""GitHub takes no larger file, in MiB."""

SCHEMA = "scripts/result.schema.json"


def write(target: Path, rules: CompetitionFile, dataset: Dataset, reference: Reference) -> dict[str, str]:
    """Write the new folder `target`, whole or not at all.

    Returns:
        dict: what was written, by its name in the folder, with what it is.

    Raises:
        UsageError: as `write_competition` does; U460, GitHub refuses a file for its size;
            U106, `target` exists.
    """
    refuse_existing(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as folder:
        written = write_competition(folder, rules, dataset, reference, platform="GitHub")
        write_template("github", folder, {"name": inline(rules.name)})
        schema = json.dumps(EvaluationRecord.model_json_schema(), indent=1)
        write_whole(folder / SCHEMA, f"{schema}\n")
        _check_sizes(folder)
    return written | {
        ".github/workflows/": "evaluate.yml, comment.yml and board.yml",
        "scripts/": "what the workflows run",
        "teams.csv": "the members of each team; empty: a team is one GitHub user",
        "README.md": "for participants",
        REQUIREMENTS: "the version of the kit",
    }


def _check_sizes(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.stat().st_size > MOST_MB * 2**20:
            raise usage_error(
                Code.FILE_TOO_LARGE,
                where=path.relative_to(folder).as_posix(),
                expected=f"at most {MOST_MB} MiB",
                got=f"{path.stat().st_size / 2**20:.1f} MiB",
            )
