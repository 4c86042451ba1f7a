"""The self test, and the rules that an organizer adds."""

from pathlib import Path

import pytest
import torch
from tracing import Forward, graph_of, to_logits

from starter.contract.competition import Limits
from starter.contract.errors import Code, ParticipantError, UsageError
from starter.evaluation.runner.process import Runner
from starter.graph import cost_rules
from starter.graph.analysis import trace
from starter.graph.costs.macs import count_macs
from starter.graph.formulas import Cost, CostClass
from starter.graph.operators import OPERATORS, OperatorTable, operator_table
from starter.graph.self_test import IMAGE, SELF_TESTS, SelfTestGraph, check_self_test

RULE = """
from starter import hookimpl
from starter.costs import IMAGE, Cost, OperatorCost, SelfTestGraph

@hookimpl
def starter_operator_costs():
    return [
        OperatorCost(
            op="aten.atan2.default",
            cost=lambda call: Cost(pointwise=2 * call.size),
            rule="2 n",
            source="a division and an arc tangent for each output element",
            self_tests=(
                SelfTestGraph((3, 4, 4), [("aten.atan2.default", [IMAGE, IMAGE])], Cost(pointwise=2 * 48)),
            ),
        )
    ]
"""


def rule_file(folder: Path, *changes: tuple[str, str]) -> Path:
    text = RULE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "costs.py"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        cost_rules.load_rules([path])
    (found,) = caught.value.problems
    assert (found.code, found.where) == (Code.BAD_COST_RULE, str(path))
    return found.got


@pytest.mark.parametrize("test", SELF_TESTS, ids=lambda test: test.name)
def test_the_kit_passes_its_own_self_test(test: SelfTestGraph) -> None:
    assert check_self_test(test) is None


def test_every_class_of_cost_has_a_self_test() -> None:
    called = {OPERATORS[op].kind for test in SELF_TESTS for op, _ in test.calls}
    assert called == set(CostClass) - {CostClass.CONSTANT}


def test_a_changed_price_is_found_by_the_self_test() -> None:
    changed = {**OPERATORS, "aten.gelu.default": OPERATORS["aten.alias.default"]}
    wrong = [w for test in SELF_TESTS if (w := check_self_test(test, changed))]
    (text,) = wrong
    assert "pointwise=96, reduction=0) counted, Cost(contraction=0, pointwise=144" in text


def test_a_rule_prices_an_operator_that_was_refused(tmp_path: Path) -> None:
    test = SelfTestGraph((3, 4, 4), [("aten.atan2.default", [IMAGE, IMAGE])], Cost(pointwise=96))
    assert "E501" in (check_self_test(test) or "")

    table = cost_rules.load_rules([rule_file(tmp_path)])

    assert check_self_test(test, table) is None


@pytest.mark.slow
def test_the_runner_loads_the_rules_and_its_cost_version_says_so(tmp_path: Path) -> None:
    path = rule_file(tmp_path)
    with Runner(Limits(), threads=1, cost_rules=[path]) as runner:
        version = runner.hello.cost_version

    assert version == cost_rules.rule_in_force(2, [path])
    assert version.startswith("2+")


@pytest.mark.slow
def test_a_wrong_rule_stops_the_runner_as_a_usage_error(tmp_path: Path) -> None:
    path = rule_file(tmp_path, ("pointwise=2 * 48", "pointwise=48"))
    with Runner(Limits(), threads=1, cost_rules=[path]) as runner, pytest.raises(UsageError) as caught:
        runner.hello  # noqa: B018 - asking is what raises
    assert caught.value.problems[0].code is Code.BAD_COST_RULE


@pytest.mark.parametrize(
    ("old", "new", "got"),
    [
        ("pointwise=2 * 48", "pointwise=48", "counted"),
        ("aten.atan2.default", "aten.relu.default", "already has a rule: n"),
        ("aten.atan2.default", "aten.no_such.default", "is not an operator of this torch"),
        ('op="aten.atan2.default"', 'op="aten.hypot.default"', "has no self test that calls it"),
        ("@hookimpl", "", "it provides no rule"),
        ("return [", "return [1,", "a int instead of an OperatorCost"),
        ("from starter import hookimpl", "import no_such_package", "ModuleNotFoundError"),
    ],
)
def test_what_is_wrong_with_a_rule_is_said(tmp_path: Path, old: str, new: str, got: str) -> None:
    assert got in refusal(rule_file(tmp_path, (old, new)))


@pytest.mark.parametrize(
    "old",
    [
        "from starter.canaries import IMAGE, Canary",
        "from starter.cost_rules import OperatorCost",
        "from starter.operators import Cost",
        "from starter.graph.self_test import Canary",
        "from starter.costs import Canary",
    ],
)
def test_a_rule_file_with_old_imports_is_told_the_new_address(tmp_path: Path, old: str) -> None:
    got = refusal(rule_file(tmp_path, ("from starter.costs import", f"{old}\nfrom starter.costs import")))
    assert got.endswith("; import from starter.costs what docs/scoring.md lists")


def test_a_refused_rule_leaves_the_table_as_it_was(tmp_path: Path) -> None:
    before = OPERATORS["aten.atan2.default"]
    refusal(rule_file(tmp_path, ("pointwise=2 * 48", "pointwise=48")))
    assert OPERATORS["aten.atan2.default"] is before


def test_two_tables_live_in_one_process_without_seeing_each_other(tmp_path: Path) -> None:
    """One competition prices an arc tangent at 2 n, the other at 5 n; the kit's own table refuses it."""
    (tmp_path / "other").mkdir()
    two = cost_rules.load_rules([rule_file(tmp_path)])
    five = cost_rules.load_rules(
        [rule_file(tmp_path / "other", ("2 * call.size", "5 * call.size"), ("2 * 48", "5 * 48"))]
    )
    graph = graph_of(Forward(lambda _, x: to_logits(torch.atan2(x, x))), (3, 4, 4))

    def macs(operators: OperatorTable) -> int:
        return count_macs(trace(graph, num_classes=6, operators=operators)).macs

    assert (macs(two), macs(five), macs(two)) == (2 * 48, 5 * 48, 2 * 48)
    with pytest.raises(ParticipantError, match="E501"):
        macs(OPERATORS)


def test_a_table_cannot_be_changed(tmp_path: Path) -> None:
    for table in (OPERATORS, cost_rules.load_rules([rule_file(tmp_path)])):
        with pytest.raises(TypeError, match="does not support item assignment"):
            table["aten.gelu.default"] = table["aten.alias.default"]


def test_an_operator_with_two_rules_is_no_table() -> None:
    first, second = OPERATORS["aten.relu.default"], OPERATORS["aten.glu.default"]
    with pytest.raises(ValueError, match=r"aten\.relu\.default has two rules: 'n' and '2 n'"):
        operator_table([("aten.relu.default", first), ("aten.relu.default", second)])
