"""Print the index of the entries on this branch: whose each is, and when it came here in the form it has now.

A clone's files are as old as the clone, so the time is that of the last commit on main that changed the
entry. The organizer merges it, so no team can choose it. Standard library and git only.
"""

import csv
import subprocess
import sys
from pathlib import Path

FOLDER = Path("submissions")


def changed_at(paths: list[Path]) -> str:
    """Return when files last changed on this branch, ISO 8601; empty for what no commit has."""
    command = ["git", "log", "-1", "--first-parent", "--format=%cI", "--", *map(str, paths)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Write the CSV file to stdout."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["path", "team", "submitted"])
    for team in sorted(path for path in FOLDER.iterdir() if path.is_dir() and not path.is_symlink()):
        for path in sorted(team.iterdir()):
            if (path / "plugin.py").is_file() or path.suffix.lower() in {".py", ".zip"}:
                files = [path] if path.is_dir() else [path, path.with_suffix(".safetensors")]
                writer.writerow([path.as_posix(), team.name, changed_at(files)])


if __name__ == "__main__":
    main()
