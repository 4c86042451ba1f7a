"""The participant's contract: everything a plugin needs to import.

from starter import Submission, hookimpl
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starter.contract.hookspecs import Competition, Submission, hookimpl

__all__ = ["Competition", "Submission", "hookimpl"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what is asked for: `starter --help` needs none of it."""
    if name not in __all__:
        raise AttributeError(f"module 'starter' has no attribute {name!r}")
    return getattr(importlib.import_module("starter.contract.hookspecs"), name)
