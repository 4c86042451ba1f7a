"""What a submission finds installed: the table [environment] of competition.toml."""

from packaging.utils import canonicalize_name
from pydantic import field_validator

from starter.contract.errors import Record
from starter.contract.system.packages import requirement


class EnvironmentRules(Record):
    """What a submission finds installed; results are comparable only where the versions are the same."""

    packages: tuple[str, ...] | None = None
    """What a plugin may import beyond what the kit needs, as PEP 508 requirements; left out: no rule."""
    lock: str | None = None
    """A file that `starter env --out` has written: the versions that `starter batch` asks for."""

    @field_validator("packages")
    @classmethod
    def _each_once(cls, packages: tuple[str, ...] | None) -> tuple[str, ...] | None:
        names = [canonicalize_name(requirement(text).name) for text in packages or ()]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"named more than once: {', '.join(twice)}")
        return packages
