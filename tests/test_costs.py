"""`starter.costs`, the address for organizers and libraries, is light and as docs/scoring.md shows it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from starter import costs

SCORING = (Path(__file__).parents[1] / "docs/scoring.md").read_text(encoding="utf-8")


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_the_rule_file_of_the_document_is_valid(tmp_path: Path) -> None:
    (text,) = re.findall(r"```python\n(.*?starter_operator_costs.*?)```", SCORING, re.DOTALL)
    (tmp_path / "costs.py").write_text(text, encoding="utf-8")

    table = costs.load_rules([tmp_path / "costs.py"])

    assert (table["aten.atan2.default"].rule, table["aten.relu.default"].rule) == ("2 n", "n")


def test_every_public_name_is_found_and_stands_in_the_document() -> None:
    table = SCORING.split("## From Python")[1].split("\n## ")[0].split("| name |")[1]
    assert set(re.findall(r"`(\w+)`", table)) == set(costs.__all__)
    assert all(getattr(costs, name) is not None for name in costs.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Canary'"):
        getattr(costs, "Canary")  # noqa: B009 - mypy knows that it is not there


def test_importing_it_loads_no_torch() -> None:
    assert "starter.costs" not in modules_after("import starter")
    assert not {"torch", "starter.graph", "starter.plugin"} & modules_after("import starter.costs")


@pytest.mark.slow
def test_a_rule_file_loads_no_code_that_runs_plugins() -> None:
    loaded = modules_after("from starter.costs import IMAGE, Cost, OperatorCost, SelfTestGraph")
    assert "starter.graph.cost_rules" in loaded
    assert "starter.plugin" not in loaded
