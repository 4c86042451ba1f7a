"""Cost rules of an organizer: the second hook, `starter_operator_costs`.

competition.toml names the files (`operator_costs`); the runner loads them, and no
submission's process ever does. A rule prices an operator that operators.py refuses;
it cannot change a price there. Every rule brings self tests, which are counted and run
at every start like the kit's own. Organizers import all of this from `starter.costs`.
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
from starter.graph.formulas import CostClass, Formula
from starter.graph.kernels import kernel
from starter.graph.operators import OPERATORS, OperatorRule, OperatorTable
from starter.graph.self_test import SelfTestGraph, check_self_test


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
    self_tests: tuple[SelfTestGraph, ...]
    """Calls of known cost, at least one."""
    kind: CostClass = CostClass.POINTWISE
    """How it is listed."""


class Hooks:
    """What an organizer can implement, and a submission cannot."""

    @hookspec
    def starter_operator_costs(self) -> Sequence[OperatorCost]:
        """Return rules for operators that have none."""
        raise NotImplementedError


def rule_in_force(version: int, paths: Sequence[Path]) -> str:
    """Return the name of the cost rule in force: a version, with a digest of the organizer's files."""
    if not paths:
        return str(version)
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()
    return f"{version}+{digest[:12]}"


def load_rules(paths: Sequence[Path], operators: OperatorTable = OPERATORS) -> OperatorTable:
    """Return a table with the rules of an organizer's files laid over `operators`, which stays as it is.

    Raises:
        UsageError: a file or a rule is not valid, or a self test of it fails.
    """
    problems: list[Problem] = []
    for path in paths:
        try:
            rules = _load(path)
        except ImportError as error:
            ours = (error.name or "").partition(".")[0] == "starter"
            address = "; import from starter.costs what docs/scoring.md lists" if ours else ""
            problems.append(_problem(path, f"{type(error).__name__}: {error}{address}"))
            continue
        except Exception as error:  # noqa: BLE001 - the file is code: it may raise anything
            problems.append(_problem(path, f"{type(error).__name__}: {error}"))
            continue
        for rule in rules:
            try:
                operators = with_rule(rule, operators)
            except ValueError as error:
                problems.append(_problem(path, str(error)))
    if problems:
        raise UsageError(problems)
    return operators


def _load(path: Path) -> list[OperatorCost]:
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
        raise ValueError("it provides no rule: implement starter_operator_costs with @hookimpl")
    strange = next((rule for rule in found if not isinstance(rule, OperatorCost)), None)
    if strange is not None:
        raise TypeError(f"a {type(strange).__name__} instead of an OperatorCost")
    return found


def with_rule(rule: OperatorCost, operators: OperatorTable = OPERATORS) -> OperatorTable:
    """Return a table with one rule laid over `operators`, which stays as it is.

    Raises:
        ValueError: what is wrong with the rule.
    """
    known = operators.get(rule.op)
    if known is not None and known.kind is not CostClass.CONSTANT:
        raise ValueError(f"{rule.op} already has a rule: {known.rule}")
    try:
        kernel(rule.op)
    except (AttributeError, ValueError) as error:
        raise ValueError(f"{rule.op} is not an operator of this torch") from error
    if not any(op == rule.op for test in rule.self_tests for op, _ in test.calls):
        raise ValueError(f"{rule.op} has no self test that calls it")
    table = MappingProxyType({**operators, rule.op: OperatorRule(rule.kind, rule.cost, rule.rule)})
    for test in rule.self_tests:
        wrong = check_self_test(test, table)
        if wrong:
            raise ValueError(wrong)
    return table


def _problem(path: Path, got: str) -> Problem:
    return problem(Code.BAD_COST_RULE, where=str(path), got=got[:500])
