"""Problems that repeat are summed up: the first five of a kind, how many more, and a file with all."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from starter.contract.errors import Code, Problem, Status, UsageError, problem
from starter.contract.results import EvaluationResult
from starter.report.problems import show_error
from starter.report.scores import show_problems

LISTED = "starter-problems.csv"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def printed(show: Callable[[Console], None]) -> str:
    console = Console(file=io.StringIO(), width=100, highlight=False)
    show(console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def rows() -> list[dict[str, str]]:
    return list(csv.DictReader(Path(LISTED).read_text(encoding="utf-8").splitlines()))


def broken(number: int, *problems: Problem, log: str = "") -> EvaluationResult:
    return EvaluationResult(
        name=f"s{number}", path=f"submissions/s{number}.py", status=Status.CRASH, official=False,
        error=problems[0], problems=problems, log_tail=log,
    )  # fmt: skip


def no_hook(number: int) -> Problem:
    return problem(Code.NO_HOOK, where=f"s{number}.py", got=f"no hook in 's{number}.py'")


def test_three_hundred_submissions_broken_alike_are_told_in_five_and_listed_in_full() -> None:
    results = [broken(n, no_hook(n), log=f"printed by {n}") for n in range(300)]
    text = printed(lambda console: show_problems(console, results))
    assert len(text.splitlines()) < 80
    assert [f"submissions/s{n}.py: " in text for n in range(7)] == [True] * 5 + [False] * 2
    assert "printed by 4" in text
    assert "printed by 5" not in text
    assert f"... and 295 more with {Code.NO_HOOK}, " in text
    assert text.rstrip().endswith(f"all are in {LISTED}")
    assert [row["where"] for row in rows()] == [f"submissions/s{n}.py" for n in range(300)]


def test_a_few_broken_submissions_are_told_in_full_and_no_file_is_written() -> None:
    text = printed(lambda console: show_problems(console, [broken(n, no_hook(n)) for n in range(5)]))
    assert text.count(f"starter explain {Code.NO_HOOK}") == 5
    assert "more" not in text
    assert not Path(LISTED).exists()


def test_a_problem_of_another_kind_is_not_lost_among_many() -> None:
    other = problem(Code.IMPORT_FAILED, where="s150.py:1", got="SyntaxError: invalid syntax")
    results = [broken(n, other if n == 150 else no_hook(n)) for n in range(300)]
    text = printed(lambda console: show_problems(console, results))
    assert "SyntaxError: invalid syntax" in text
    assert "... and 294 more" in text


def test_many_problems_of_one_submission_are_summed_up_too() -> None:
    many = [problem(Code.NO_COST_RULE, where=f"node {n}", got=f"aten.op{n}") for n in range(200)]
    text = printed(lambda console: show_problems(console, [broken(0, *many)]))
    assert text.count(f"starter explain {Code.NO_COST_RULE}") == 5
    assert "... and 195 more" in text


def test_texts_that_differ_each_time_do_not_run_away() -> None:
    words = ["".join(chr(97 + n // 26**k % 26) for k in range(3)) for n in range(300)]
    results = [
        broken(n, problem(Code.IMPORT_FAILED, where="x.py", got=f"{word} is wrong"))
        for n, word in enumerate(words)
    ]
    text = printed(lambda console: show_problems(console, results))
    assert text.count(f"starter explain {Code.IMPORT_FAILED}") == 10
    assert "... and 290 more" in text
    assert len(rows()) == 300


def test_an_error_of_many_problems_is_summed_up_wherever_it_is_raised() -> None:
    error = UsageError(
        [problem(Code.NOT_VERIFIED, where=f"{n}/result.json: macs", got=str(n)) for n in range(40)]
    )
    text = printed(lambda console: show_error(console, error))
    assert text.count(f"starter explain {Code.NOT_VERIFIED}") == 5
    assert f"... and 35 more of this kind; all are in {LISTED}" in text
    assert len(rows()) == 40


def test_no_cell_of_the_list_is_a_formula() -> None:
    results = [broken(n, problem(Code.NO_HOOK, where="x.py", got="=1+1")) for n in range(6)]
    printed(lambda console: show_problems(console, results))
    assert {row["got"] for row in rows()} == {"'=1+1"}


def test_where_no_file_can_be_written_all_are_told() -> None:
    Path(LISTED).mkdir()
    Path(LISTED, "taken").touch()
    text = printed(lambda console: show_problems(console, [broken(n, no_hook(n)) for n in range(9)]))
    assert text.count(f"starter explain {Code.NO_HOOK}") == 9
