"""The participant's contract: everything a plugin needs to import.

from starter import Submission, hookimpl
"""

from starter.contract.hookspecs import Competition, Submission, hookimpl

__all__ = ["Competition", "Submission", "hookimpl"]
__version__ = "0.1.0"
