"""Fail with one sentence on a Python that the kit does not support, before anything is downloaded.

tox runs this first, with the environment's Python, so it must run on older and newer ones too.
"""

from __future__ import annotations

import os
import sys

OLDEST, NEWEST = (3, 11), (3, 13)
"""As `requires-python` in pyproject.toml has it."""


def complaint(version: tuple[int, ...], executable: str) -> str:
    """Return the sentence for a Python that is too old or too new, or nothing."""
    if OLDEST <= version[:2] <= NEWEST:
        return ""
    oldest, newest, found = (".".join(map(str, v)) for v in (OLDEST, NEWEST, version))
    scripts = ".venv\\Scripts\\" if os.name == "nt" else ".venv/bin/"
    return (
        f"starter needs Python {oldest} to {newest}; {executable} is Python {found}. "
        f"Type `{scripts}pip install uv`, then `{scripts}uvx --python {newest} tox -e score`."
    )


if __name__ == "__main__":
    sys.exit(complaint(sys.version_info[:3], sys.executable) or None)
