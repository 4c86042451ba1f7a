"""The public module for organizers and libraries: operator costs, cost rules, counting a model.

See docs/scoring.md. Names are resolved when they are first used: importing this module does
not load torch, and an organizer's file does not load code that runs plugins.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starter.contract.costs import CostReport
    from starter.graph.cost_rules import OperatorCost, load_rules, with_rule
    from starter.graph.format import Ref
    from starter.graph.formulas import Call, Cost, CostClass
    from starter.graph.operators import OPERATORS, OperatorRule, OperatorTable
    from starter.graph.self_test import IMAGE, LAST, SelfTestGraph, check_self_test
    from starter.plugin.count import count_model

__all__ = [
    "IMAGE",
    "LAST",
    "OPERATORS",
    "Call",
    "Cost",
    "CostClass",
    "CostReport",
    "OperatorCost",
    "OperatorRule",
    "OperatorTable",
    "Ref",
    "SelfTestGraph",
    "check_self_test",
    "count_model",
    "load_rules",
    "with_rule",
]

if not TYPE_CHECKING:
    _HOMES = {
        "contract.costs": ("CostReport",),
        "graph.cost_rules": ("OperatorCost", "load_rules", "with_rule"),
        "graph.format": ("Ref",),
        "graph.formulas": ("Call", "Cost", "CostClass"),
        "graph.operators": ("OPERATORS", "OperatorRule", "OperatorTable"),
        "graph.self_test": ("IMAGE", "LAST", "SelfTestGraph", "check_self_test"),
        "plugin.count": ("count_model",),
    }

    def __getattr__(name: str) -> object:
        """Return a public name from the module that defines it."""
        home = next((module for module, names in _HOMES.items() if name in names), None)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"starter.{home}"), name)
