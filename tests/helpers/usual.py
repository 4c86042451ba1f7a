"""Which parameters of a test a usual run takes; the others are slow."""

from collections.abc import Iterable
from typing import Any

import pytest


def usually(*quick: Any, of: Iterable[Any]) -> list[Any]:
    """Return the parameters `of` a test, each that is not among `quick` marked slow."""
    return [value if value in quick else slow(value) for value in of]


def slow(value: Any) -> Any:
    """Return one parameter, or a tuple of several, marked slow."""
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow)
