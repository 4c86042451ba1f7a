"""Which parameters of a test a usual run takes; the others are slow or long."""

from collections.abc import Iterable
from typing import Any

import pytest


def usually(*quick: Any, of: Iterable[Any]) -> list[Any]:
    """Return the parameters `of` a test, each that is not among `quick` marked long."""
    return [v if v in quick else long(*(v if isinstance(v, tuple) else (v,))) for v in of]


def slow(*values: Any) -> Any:
    """Return the values of one parameter, as pytest.param, marked slow."""
    return pytest.param(*values, marks=pytest.mark.slow)


def long(*values: Any) -> Any:
    """Return the values of one parameter, as pytest.param, marked long."""
    return pytest.param(*values, marks=pytest.mark.long)
