"""What a submission's process may import, seen from the side that trusts nobody.

The process is told which installed modules it is not to find (contract/system/hiding.py), so their import
fails as it does where they are not installed. What it reports then becomes the error that names the rule.
"""

import importlib.metadata
import re
from collections.abc import Sequence

from starter.contract.errors import Code, Problem, problem
from starter.contract.hookspecs import ENTRY_POINT_GROUP
from starter.contract.submissions import Kind, SubmissionSource
from starter.contract.system.packages import NOT_INSTALLED, hidden_modules, installed_version, requirement
from starter.contract.text import typed

_NOT_FOUND = re.compile(r"ModuleNotFoundError: No module named '(\w+)[\w.]*'")
"""The text and not the exception: it comes from the import of the plugin, its hook or its forward()."""


def hidden_from(source: SubmissionSource, packages: Sequence[str] | None) -> tuple[str, ...]:
    """Return the installed modules that a submission is not to find.

    Args:
        source: a submission that is an installed package itself may import itself.
        packages: what the competition allows beyond the kit's own; None: no rule.
    """
    if packages is None:
        return ()
    own: set[str] = set()
    if source.kind is Kind.ENTRY_POINT:
        found = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP, name=source.name)
        own = {point.module.partition(".")[0] for point in found}
    return tuple(sorted(hidden_modules(tuple(packages)).keys() - own))


def explained(found: Problem, packages: Sequence[str] | None) -> Problem:
    """Return a problem of a submission's; where a module was not found, with what the competition allows."""
    missing = _NOT_FOUND.match(found.got)
    if packages is None or missing is None:
        return found
    module = missing[1]
    for text in packages:
        if requirement(text).name.replace("-", "_").lower() == module.lower():
            return found.model_copy(update={"hint": f"Install it: {typed('pip', 'install', text)}"})
    owner = hidden_modules(tuple(packages)).get(module)
    version = installed_version(owner) if owner else NOT_INSTALLED
    there = f"the package {owner} {version} is installed here, but not allowed" if owner else "no such module"
    return problem(
        Code.PACKAGE_NOT_ALLOWED,
        where=found.where,
        expected=f"Python's modules, those of the kit (torch, torchvision, numpy, ...){_besides(packages)}",
        got=f"import {module}: {there}",
    )


def _besides(packages: Sequence[str]) -> str:
    return f" and those of {', '.join(packages)}" if packages else ""
