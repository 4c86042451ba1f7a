"""Check the prose of the documents, without a network: proselint's checks, and our own words (prose.toml).

Code, links, comments and generated parts are left out: those texts have other authors.
Prints one line for each finding.
"""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from proselint.checks import __register__
from proselint.registry import CheckRegistry
from proselint.registry.checks import Check
from proselint.registry.checks.types import Existence
from proselint.tools import LintFile

ROOT = Path(__file__).parents[1]
PLACES = ("*.md", "docs/*.md", "baseline/*.md", "data/*/*.md")
KOREAN = ".ko.md"
NO_PROSE = re.compile(
    r"<!-- begin: \w+ -->.*?<!-- end -->"  # generated
    r"|^```.*?^ *```"  # a block of code
    r"|``.+?``|`[^`]+`"  # code in a line
    r"|<!--.*?-->|\]\([^)]*\)|https?://\S+",
    re.DOTALL | re.MULTILINE,
)


def prose(text: str) -> str:
    """Return a document with everything that is no prose as dashes, each line where it was."""
    return NO_PROSE.sub(lambda found: re.sub(r"\S", "-", found[0]), text)


def registry() -> tuple[CheckRegistry, dict[str, Any]]:
    """Return proselint's registry with our words in it, and its configuration."""
    style = tomllib.loads((ROOT / ".ci/prose.toml").read_text(encoding="utf-8"))
    found = CheckRegistry()
    found.register_many(__register__)
    for word, better in style["words"].items():
        found.register(
            Check(
                check_type=Existence(items=(word,)),
                path="starter.words",
                message=f"Not this project's word. Write: {better}.",
            )
        )
    checks = {**dict.fromkeys(style["checks"], True), "starter": True}
    return found, {"max_errors": 1000, "checks": checks}


def main() -> None:
    """Check the documents, or the files that are named."""
    _, config = registry()
    paths = [Path(name) for name in sys.argv[1:]] or [
        path for place in PLACES for path in sorted(ROOT.glob(place)) if not path.name.endswith(KOREAN)
    ]
    count = 0
    for path in paths:
        text = prose(path.read_text(encoding="utf-8"))
        for result in LintFile(str(path), content=text).lint(config):
            start, end = (place - 1 for place in result.check_result.span)
            count += 1
            where = f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}:{result.pos[0]}"
            found = result.check_result
            print(f"{where}: {text[start:end].strip()!r}: {found.message}")  # noqa: T201 - findings
    sys.exit(f"{count} findings; the words are in .ci/prose.toml" if count else 0)


if __name__ == "__main__":
    main()
