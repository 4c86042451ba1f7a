"""Put the packaged competition into the wheel, for `starter new`; an editable install reads the clone."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGED = ("competition.toml", "data/waste", "baseline", "submissions")
"""What `starter new` copies."""


class PackagedCompetition(BuildHookInterface[Any]):
    """Add the competition's files as `starter/packaged/`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files, but for an editable install; caches beside them stay out."""
        if version == "editable":
            return
        root = Path(self.root)
        for name in PACKAGED:
            source = root / name
            for path in [source] if source.is_file() else sorted(source.rglob("*")):
                if path.is_file() and not {"__pycache__", ".starter"} & set(path.parts):
                    build_data["force_include"][str(path)] = (
                        f"starter/packaged/{path.relative_to(root).as_posix()}"
                    )
