"""See that a pull request changes nothing but its own team's folder, and list the entries that it submits.

    git diff --name-only --no-renames -z HEAD^1 HEAD | python own_folder.py AUTHOR teams.csv

evaluate.yml asks about what git says, comment.py about what GitHub says. Standard library only.
"""

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

FOLDER = "submissions"
MOST_ENTRIES = 5
"""How many entries one pull request may change: each of them is evaluated again on each push."""

MOST_FILES = 3000
"""GitHub lists no more files of a pull request: beyond, nobody can say what else it changes."""

FILES = (".py", ".zip", ".safetensors")
"""What an entry is that has no folder of its own, and its weights."""


def refusal(paths: Sequence[str], author: str, teams: str) -> str:
    """Say why a pull request is refused; nothing if it is not.

    Args:
        paths: all files that it adds, changes or removes, relative to the repository.
        author: the GitHub name of who opened it.
        teams: the text of teams.csv on main, with the columns team and member.
    """
    outside = [path for path in paths if not _is_in_a_team(path)]
    if outside:
        return (
            f"It changes {_listed(outside)}. A pull request may change files in {FOLDER}/TEAM/ alone: "
            "restore the rest with git checkout origin/main -- PATH, or git rm what you added."
        )
    if len(paths) >= MOST_FILES:
        return f"It changes {len(paths)} files. A pull request may change fewer than {MOST_FILES}."
    names = sorted({path.split("/")[1] for path in paths})
    if len(names) != 1:
        found = f"the folders of {len(names)} teams, {_listed(names)}" if names else "nothing"
        return f"It changes {found}. Open one pull request for each team."
    team, members = names[0], _members(teams, names[0])
    if author.casefold() not in members:
        return (
            f"The folder {FOLDER}/{team}/ does not belong to {author}. Submit under {FOLDER}/{author}/, "
            f"or ask the organizer for a line in teams.csv: {team},{author}"
        )
    if len(entry_names(paths)) > MOST_ENTRIES:
        return f"It changes {len(entry_names(paths))} entries. Submit at most {MOST_ENTRIES} at once."
    return ""


def entry_names(paths: Sequence[str]) -> list[str]:
    """Return the names of the entries that files of one team belong to; a README beside them is none."""
    ways = [path.split("/")[2:] for path in paths]
    folders = {way[0] for way in ways if len(way) > 1}
    files = [PurePosixPath(way[0]) for way in ways if len(way) == 1]
    return sorted(folders | {path.stem for path in files if path.suffix.lower() in FILES})


def _is_in_a_team(path: str) -> bool:
    parts = path.split("/")
    return len(parts) > 2 and parts[0] == FOLDER and not parts[1].startswith(".") and path.isprintable()


def _members(teams: str, team: str) -> set[str]:
    """Return whose a team's folder is: those whom teams.csv lists, or else whoever it is named after."""
    rows = csv.DictReader(io.StringIO(teams))
    listed = {str(row["member"]).casefold() for row in rows if row["team"] == team}
    return listed or {team.casefold()}


def _listed(names: Sequence[str]) -> str:
    """Quote names so that a log shows them on one line and takes them for no command."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(ascii(name) for name in names[:5]) + more


def _entries(paths: Sequence[str]) -> list[str]:
    """Return the entries that are still there, as paths."""
    folder = Path(FOLDER, paths[0].split("/")[1])
    found = []
    for name in entry_names(paths):
        shapes = (folder / name / "plugin.py", folder / f"{name}.py", folder / f"{name}.zip")
        there = [path.parent if path.name == "plugin.py" else path for path in shapes if path.is_file()]
        found += [path.as_posix() for path in there]
    return found


def main() -> None:
    """Read paths that end with NUL; print the entries, or an error that GitHub shows in the pull request."""
    author, teams = sys.argv[1:]
    paths = [path for path in sys.stdin.buffer.read().decode(errors="replace").split("\0") if path]
    if why := refusal(paths, author, Path(teams).read_text(encoding="utf-8")):
        sys.stderr.write(f"::error title=This pull request is refused::{why}\n")
        sys.exit(1)
    sys.stdout.write("".join(f"{path}\n" for path in _entries(paths)))


if __name__ == "__main__":
    main()
