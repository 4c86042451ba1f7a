"""`starter.evaluate`: from a plugin to its row, in Python."""

from collections.abc import Callable
from pathlib import Path

import crowd
import pytest

import starter
from starter.contract.errors import Status


@pytest.mark.slow
def test_a_plugin_is_evaluated_in_three_lines(place: Path, write_plugin: Callable[..., Path]) -> None:
    path = write_plugin("<b>good")
    path = path.rename(path.with_name("good.py"))
    row = starter.evaluate(path, competition=place / "competition.toml")

    assert row.status is Status.OK
    assert (row.macs, row.macro_f1, row.official) == (201, 1.0, False)  # scored without isolation
    assert repr(row) == f"good  ok  macro-F1 1.0000  MACs 201  score {row.score:.4f}  not official"
    html = row._repr_html_()
    assert html.count("<td>") == html.count("<th>") == 9
    assert f"<td>{row.score:.4f}</td>" in html
    assert "201 / 201 MACs" in html


@pytest.mark.long
def test_a_plugin_that_fails_is_a_row_with_what_to_do(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text(crowd.GOOD.replace("nn.Linear(3, 3)", "nn.Linear(3, '<b>')"))
    row = starter.evaluate(path, competition=place / "competition.toml", smoke=True)

    assert row.status is Status.INVALID
    assert row.problems[0].code in repr(row)
    assert "  fix    " in row.explanation
    assert "<b>" not in row._repr_html_()
