"""What people see of results: the table, the lines, the score spelled out, and no tricks of strangers."""

import io
from typing import Any

import pytest
from rich.console import Console

from starter.contract.competition import ScoreRules
from starter.contract.costs import NodeCost, SpeedReport
from starter.contract.errors import Code, Status, problem
from starter.contract.results import EvaluationResult, Reference
from starter.contract.text import clean, inline
from starter.evaluation.scoring import Counts, compute_score
from starter.report.scores import show_costs, show_scores
from starter.report.terminal import describe

REFERENCE = Reference(
    name="baseline",
    macs=14_032_000,
    contraction_macs=14_000_000,
    pointwise_macs=30_000,
    reduction_macs=2_000,
    thop_macs=14_000_000,
    params=1_524_006,
    macro_f1=0.8,
    macro_f1_by_usage={"Public": 0.8, "Private": 0.8},
    dataset="waste 1",
    dataset_fingerprint="sha256:0",
    cost_version="1",
    versions={},
    made_by="starter baseline measure",
)


def scored(name: str, macs: int, f1: float, **changes: Any) -> EvaluationResult:
    terms = compute_score(macs, f1, baseline_macs=REFERENCE.macs, baseline_f1=0.8, rules=ScoreRules())
    fields: dict[str, Any] = {
        "path": f"/submissions/{name}",
        "status": Status.OK,
        "official": True,
        "isolation": "lockdown",
        "macs": macs,
        "contraction_macs": macs,
        "pointwise_macs": 0,
        "reduction_macs": 0,
        "thop_macs": 442_528,
        "params": 98_304,
        "macro_f1": f1,
        "accuracy": f1,
        "num_images": 1200,
        "input_shape": (3, 48, 48),
        "ranked": terms.ranked,
        **terms._asdict(),
    }
    return EvaluationResult(name=name, **(fields | changes))


def failed(name: str, code: Code, status: Status, **changes: Any) -> EvaluationResult:
    found = problem(code, where="plugin.py:3", got=changes.pop("got", "what was found"))
    return EvaluationResult(
        name=name,
        path=f"/submissions/{name}",
        status=status,
        official=True,
        isolation="lockdown",
        error=found,
        problems=(found,),
        **changes,
    )


def shown(
    *results: EvaluationResult, width: int = 0, rules: ScoreRules | None = None, baseline: str = "/baseline"
) -> str:
    """Return what is printed: on a terminal of `width` columns, or into a pipe for 0."""
    console = Console(
        file=io.StringIO(), width=width or 80, force_terminal=width > 0, color_system=None, highlight=False
    )
    show_scores(console, results, REFERENCE, rules or ScoreRules(), baseline=baseline)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_reward_is_spelled_out_term_by_term() -> None:
    """14,032,000 / 4 MACs and F1 0.88 against 0.8: 0.25 + 0.5 * (1 - 1.1) = 0.25 - 0.05."""
    text = shown(scored("small", 3_508_000, 0.88))
    line = "3,508,000 / 14,032,000 MACs + 0.5 x (1 - 0.8800/0.8000) = 0.2500 - 0.0500 = 0.2000"
    assert f"small: {line}\n" in text
    assert "reward" in text


def test_a_penalty_is_spelled_out_term_by_term() -> None:
    """F1 0.6 against 0.8: 0.25 + (1 - 0.75) = 0.5."""
    text = shown(scored("small", 3_508_000, 0.6))
    assert "MACs + 1 x (1 - 0.6000/0.8000) = 0.2500 + 0.2500 = 0.5000\n" in text
    assert "penalty" in text


def by(rules: ScoreRules, macs: int, params: int, f1: float) -> str:
    """Return what is printed of an entry with the baseline's time x 0.5, by other rules."""
    speed = SpeedReport(ratio=0.5, batches=(), device="cpu", clock="wall clock", core=None, seed=1)
    counts = Counts(macs, None, None, params=params, speed=speed.ratio)
    costs = counts.over(Counts.of(REFERENCE), rules)
    assert costs is not None
    terms = compute_score(costs, f1, baseline_macs=1, baseline_f1=0.8, rules=rules)
    own = scored("small", macs, f1, params=params, speed=speed, **terms._asdict())
    return shown(own, rules=rules)


def test_each_preset_prints_its_formula_and_the_sum() -> None:
    """A quarter of the MACs and half of the params: 7.3891 x (...) as worked in the comments."""
    quarter, half = 3_508_000, 762_003
    ranks = by(ScoreRules(preset="rank-average"), quarter, half, 0.88)
    assert (
        "\nscore = (rank by MACs + rank by params + rank by F1) / 3, among every team's best entry\n" in ranks
    )
    assert "= 0.7500 - 0.1000 = 0.6500\n" in ranks  # 0.25 + 0.5 + (1 - 1.1)
    assert "F1 is not below the baseline's: reward; places on the board follow the mean of ranks\n" in ranks
    budget = by(ScoreRules(preset="budget"), quarter, half, 0.6)
    assert "\nscore = F1 term\n" in budget
    assert "small: 1 x (1 - 0.6000/0.8000) = 0.2500\n" in budget
    assert "+0.01 F1 is worth 0.0125 of the score, and a lower cost nothing" in budget  # 0.01 / 0.8
    assert "relative to baseline: macro-F1 0.8000  MACs 14,032,000  score 0.0000" in budget


def test_ntires_sum_is_spelled_out_with_what_a_percent_is_worth() -> None:
    text = by(ScoreRules(preset="ntire"), 3_508_000, 762_003, 0.6)
    assert (
        "\nscore = 0.8 x exp(2 x time / the baseline's) + 0.1 x exp(2 x MACs / 14,032,000)"
        " + 0.1 x exp(2 x params / 1,524,006)\n"
    ) in text
    assert (
        "small: 0.8 x exp(2 x 0.5 / 1.0 of the baseline's time) + 0.1 x exp(2 x 3,508,000 / 14,032,000 MACs)"
        " + 0.1 x exp(2 x 762,003 / 1,524,006 params) = 2.6113\n"  # 0.8 e + 0.1 sqrt(e) + 0.1 e
    ) in text
    assert "F1 0.6000 reaches the floor of 0.5: ranked by costs alone" in text
    assert (
        "1 % off a cost is worth 0.0216 (of the baseline's time), 0.0008 (MACs), 0.0027 (params) of the score"
    ) in text
    assert "score 7.3891  (from reference.json" in text


def test_an_entry_below_the_floor_is_unranked_and_says_why() -> None:
    text = shown(scored("constant", 10, 0.1))
    assert "F1 0.1000 is below the floor of 0.5: unranked" in text
    assert text.splitlines()[0].endswith("  unranked")
    assert text.endswith("1 submission: 1 unranked\n")


def test_the_last_line_counts_what_became_of_all() -> None:
    text = shown(
        scored("baseline", 14_032_000, 0.8),
        scored("a", 10, 0.9),
        scored("b", 20, 0.9),
        failed("c", Code.NO_HOOK, Status.INVALID),
    )
    assert text.endswith("\n4 submissions: 3 ranked, 1 failed\n")


def test_a_baseline_that_is_not_evaluated_stands_below_the_rows() -> None:
    own = scored("mine", 10, 0.9)
    assert "relative to baseline: macro-F1 0.8000  MACs 14,032,000  score 1.0000" in shown(own)

    evaluated = shown(own, scored("baseline", 14_032_000, 0.8), baseline="/submissions/baseline")
    assert "relative to" not in evaluated
    assert "baseline (reference)  ok" in evaluated


def test_a_row_that_takes_the_baselines_name_is_told_from_it() -> None:
    real = scored("baseline", 14_032_000, 0.8, path="/competition/baseline")
    text = shown(real, scored("baseline", 10, 0.9), baseline="/competition/baseline")
    assert "baseline (reference)  ok  macro-F1 0.8000" in text
    assert "baseline (/submissions/baseline)  ok  macro-F1 0.9000" in text


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_a_table_drops_columns_rather_than_figures(width: int) -> None:
    text = shown(scored("my_first_model", 4_657_123, 0.88), scored("b", 14_032_000, 0.8), width=width)
    table = text[: text.index("relative to")].splitlines()
    assert max(map(len, table)) <= width
    assert "4,657,123" in table[1]
    assert len(table) == 3, "a row takes one line"
    assert ("thop sees" in table[0]) == (width >= 100)
    assert "thop sees 442,528" in text


def test_a_terminal_wraps_between_words_and_a_pipe_gets_whole_lines() -> None:
    got = "six words that are not broken " * 8
    narrow = shown(failed("a", Code.NO_HOOK, Status.INVALID, got=got), width=60)
    assert max(map(len, narrow[narrow.index("/submissions/a") :].splitlines())) <= 60
    assert " ".join(narrow.split()).count(got.strip()) == 1
    assert f"  got    {got.strip()}\n" in shown(failed("a", Code.NO_HOOK, Status.INVALID, got=got))


@pytest.mark.parametrize("width", [0, 100])
def test_no_text_of_a_stranger_reaches_the_terminal_as_a_command_or_markup(width: int) -> None:
    name = "[red]x[/red]\x1b[2J\nbaseline  ok  macro-F1 1.0000"
    bad = failed(name, Code.CRASH, Status.CRASH, got="a\nforged: line\x07", log_tail="\x1b]0;title\x07 log")
    text = shown(scored(f"ok{name}", 10, 0.9), bad, width=width)

    assert not {c for c in text if not c.isprintable()} - {"\n"}
    assert "[red]x[/red]" in text.replace("\n", "")
    assert not any(line.startswith(("baseline", "forged")) for line in text.splitlines())


def test_texts_are_cleaned_of_control_characters() -> None:
    assert "\x1b" not in clean("\x1b[2Jwiped")
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in clean("a\N{RIGHT-TO-LEFT OVERRIDE}b")
    assert clean("two\nlines") == "two\nlines"
    assert inline("two\nlines") == "two lines"


def test_a_problem_says_what_where_why_and_how_to_mend_it() -> None:
    found = problem(Code.NO_COST_RULE, where="node 'sort', written at plugin.py:31", got="aten.sort")
    lines = describe(found, "submissions/sorts.py").splitlines()
    assert lines[0].startswith("submissions/sorts.py: ")
    assert [line.split()[0] for line in lines[1:]] == ["where", "got", "why", "fix", "code"]
    assert lines[-1].endswith("E501: starter explain E501")


def test_the_end_of_the_log_is_shown_where_the_process_died_and_only_there() -> None:
    log = "\n".join(f"line {i}" for i in range(40))
    assert "line 39" in shown(failed("dies", Code.CRASH, Status.CRASH, log_tail=log))
    assert "line 27" not in shown(failed("dies", Code.CRASH, Status.CRASH, log_tail=log))
    assert "line 39" not in shown(failed("odd", Code.NO_HOOK, Status.INVALID, log_tail=log))


def test_a_smoke_run_is_not_official() -> None:
    assert "Not official: a smoke run on 120 images" in shown(
        scored("a", 10, 0.9, official=False, isolation="lockdown", num_images=120)
    )
    assert "ot official" not in shown(scored("a", 10, 0.9))


def test_a_score_without_isolation_is_not_official() -> None:
    text = shown(scored("a", 10, 0.9, official=False, isolation="none", num_images=1208))
    assert "Not official: scored without isolation." in text


def test_scores_by_thops_count_say_that_it_can_be_fooled() -> None:
    rules = ScoreRules(counter="thop")
    text = shown(scored("a", 10, 0.9), rules=rules)
    assert "442,528 / 14,000,000 MACs as thop sees them" in text
    assert "can be fooled" in text


def test_what_thop_cannot_count_has_no_score_where_thop_is_scored() -> None:
    terms = dict.fromkeys(("score", "macs_ratio", "f1_term", "branch"))
    result = scored("a", 10, 0.9, thop_macs=None, ranked=False, **terms)
    text = shown(result, rules=ScoreRules(counter="thop"))
    assert "a: no score: competition.toml scores by thop" in text
    assert text.endswith("1 submission: 1 unranked\n")


def test_an_absent_class_is_named() -> None:
    assert "no image of Metal, which count as F1 0" in shown(scored("a", 10, 0.9, absent_classes=("Metal",)))


def test_validation_shows_the_cost_by_class_and_no_score() -> None:
    result = scored("a", 4_657_000, 0.9, macro_f1=None, score=None, ranked=False)
    console = Console(file=io.StringIO(), width=80)
    show_costs(console, [result, failed("b", Code.NO_HOOK, Status.INVALID)])
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "input           3 x 48 x 48 float32" in text
    assert "contraction     4,657,000" in text
    assert text.endswith("\n2 submissions: 1 ok, 1 failed\n")


def layer(module: str, macs: int) -> NodeCost:
    return NodeCost(
        name="n", op="aten.relu.default", module=module, source="plugin.py:1", shape=(1, 3),
        contraction=macs, pointwise=0, reduction=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("f1", "text"),
    [
        # 0.01 / 0.8 of the baseline's 14,032,000 MACs, and half of that where F1 is rewarded
        (0.6, "+0.01 F1 is worth 175,400 MACs; F1 is 0.1000 above the floor and 0.2000 below the baseline's"),
        (0.9, "+0.01 F1 is worth 87,700 MACs; F1 is 0.4000 above the floor and 0.1000 above the baseline's"),
        (0.4, "F1 counts from the floor up; F1 is 0.1000 below the floor and 0.4000 below the baseline's"),
    ],
)
def test_what_f1_is_worth_in_macs_is_said(f1: float, text: str) -> None:
    assert text in shown(scored("mine", 1_000_000, f1))


def test_the_three_modules_with_the_most_macs_are_named() -> None:
    layers = (layer("stem", 10), layer("head", 20), layer("stem", 30), layer("neck", 15), layer("", 25))
    assert "most MACs: stem 40%, plugin.py:1 25%, head 20%" in shown(scored("mine", 100, 0.9, layers=layers))
