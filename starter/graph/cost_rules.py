"""Cost rules of an organizer: the second hook, `starter_operator_costs`.

competition.toml names the files (`operator_costs`); the runner loads them, and no
submission's process ever does. A rule prices an operator that operators.py refuses;
it cannot change a price there. Every rule brings canaries, which are counted and run
at every start like the kit's own.
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pluggy

from starter.contract.errors import Code, Problem, UsageError, problem
from starter.contract.hookspecs import PROJECT, hookspec
from starter.graph.formulas import Class, Formula
from starter.graph.operators import COST_VERSION, OPERATORS, OperatorRule, OperatorTable, kernel
from starter.graph.self_test import Canary, check_canary


@dataclass(frozen=True)
class OperatorCost:
    """The price of one operator."""

    op: str
    """As the refusal names it, for instance "aten.atan2.default"."""
    cost: Formula
    """MACs of one call for one image; see the formulas in formulas.py."""
    rule: str
    """The formula in words."""
    source: str
    """Why this is the cost: a reference or the arithmetic."""
    canaries: tuple[Canary, ...]
    """Calls of known cost, at least one."""
    kind: Class = Class.POINTWISE
    """How it is listed."""


class Hooks:
    """What an organizer can implement, and a submission cannot."""

    @hookspec
    def starter_operator_costs(self) -> Sequence[OperatorCost]:
        """Return rules for operators that have none."""
        raise NotImplementedError


def cost_version(paths: Sequence[Path]) -> str:
    """Return the version of the rule in force: the table's, and a digest of the organizer's files."""
    if not paths:
        return str(COST_VERSION)
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()
    return f"{COST_VERSION}+{digest[:12]}"


def load_rules(paths: Sequence[Path], operators: OperatorTable = OPERATORS) -> OperatorTable:
    """Return a table with the rules of an organizer's files laid over `operators`, which stays as it is.

    Raises:
        UsageError: a file or a rule is not valid, or a canary of it has another cost.
    """
    problems: list[Problem] = []
    for path in paths:
        try:
            rules = _load(path)
        except Exception as error:  # noqa: BLE001 - the file is code: it may raise anything
            problems.append(_problem(path, f"{type(error).__name__}: {error}"))
            continue
        for rule in rules:
            try:
                operators = _with_rule(operators, rule)
            except ValueError as error:
                problems.append(_problem(path, str(error)))
    if problems:
        raise UsageError(problems)
    return operators


def _load(path: Path) -> list[object]:
    spec = importlib.util.spec_from_file_location(f"starter_costs_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError("not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Hooks)
    manager.register(module, name=str(path))
    manager.check_pending()
    found = [rule for rules in manager.hook.starter_operator_costs() for rule in rules]
    if not found:
        raise ValueError("it gives no rule: implement starter_operator_costs with @hookimpl")
    return found


def _with_rule(operators: OperatorTable, rule: object) -> OperatorTable:
    """Return the table with one rule more.

    Raises:
        ValueError: what is wrong with the rule.
    """
    if not isinstance(rule, OperatorCost):
        raise ValueError(f"a {type(rule).__name__} instead of an OperatorCost")  # noqa: TRY004 - one kind for all
    known = operators.get(rule.op)
    if known is not None and known.kind is not Class.CONSTANT:
        raise ValueError(f"{rule.op} has a rule already: {known.rule}")
    try:
        kernel(rule.op)
    except (AttributeError, ValueError) as error:
        raise ValueError(f"{rule.op} is no operator of this torch") from error
    if not any(op == rule.op for canary in rule.canaries for op, _ in canary.calls):
        raise ValueError(f"{rule.op} has no canary that calls it")
    table = MappingProxyType({**operators, rule.op: OperatorRule(rule.kind, rule.cost, rule.rule)})
    for canary in rule.canaries:
        wrong = check_canary(canary, table)
        if wrong:
            raise ValueError(wrong)
    return table


def _problem(path: Path, got: str) -> Problem:
    return problem(Code.BAD_COST_RULE, where=str(path), got=got[:500])
