"""Names of files: which of a submission's are its own.

Standard library only: the process that reads a stranger's zip has nothing else to load.
"""

from pathlib import PurePosixPath

MANIFEST = "starter-manifest.json"
"""The member in which `starter pack` says what a zip holds."""

IGNORED = ("__MACOSX", "__pycache__", ".DS_Store", "Thumbs.db", "desktop.ini")
"""What operating systems and Python leave behind; never part of a submission."""


def is_ignored(path: PurePosixPath) -> bool:
    """Say whether a file is none of a submission's own."""
    return any(part in IGNORED for part in path.parts) or path.suffix == ".pyc"
