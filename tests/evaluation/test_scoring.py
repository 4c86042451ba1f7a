"""The score, the F1 it stands on and the order of the entries, with the arithmetic in view."""

import itertools
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.metrics import f1_score

from starter.contract.competition import Budget, ScoreRules, load_competition
from starter.contract.errors import Code, Status, UsageError
from starter.contract.results import EvaluationResult, Reference
from starter.evaluation.scoring import (
    Counts,
    Score,
    check_reference,
    compute_score,
    macro_f1,
    mean_ranks,
    rank,
)

RULES = ScoreRules()
CLASSES = ("Metal", "Paper", "Plastic")


def organizers(macs_millions: float, f1: float, rules: ScoreRules = RULES) -> Score:
    """Score an entry against the original competition's baseline: 553 M MACs, F1 0.7."""
    macs = round(macs_millions * 1e6)
    return compute_score(macs, f1, baseline_macs=553_000_000, baseline_f1=0.7, rules=rules)


@pytest.mark.parametrize(
    ("macs_millions", "f1", "published"), [(350, 0.4, 1.63), (650, 0.8, 1.11), (650, 0.4, 2.18)]
)
def test_the_organizers_own_table_is_reproduced(macs_millions: float, f1: float, published: float) -> None:
    """Their table rounds each term before it adds: 650 / 553 = 1.18, 0.5 (1 - 0.8 / 0.7) = -0.07."""
    score = organizers(macs_millions, f1)
    assert round(round(score.macs_ratio, 2) + round(score.f1_term, 2), 2) == published


def test_the_baseline_scores_one_against_itself() -> None:
    assert organizers(553, 0.7) == Score(1.0, 1.0, 0.0, "reward")


def test_a_score_is_the_sum_of_its_terms() -> None:
    score = organizers(276.5, 0.6)
    assert score.macs_ratio == 0.5
    assert score.f1_term == 1 - 0.6 / 0.7
    assert score.score == 0.5 + (1 - 0.6 / 0.7)
    assert score.branch == "penalty"


def test_the_term_is_continuous_at_the_baselines_f1() -> None:
    just_below, at, just_above = (organizers(553, f1).f1_term for f1 in (0.7 - 1e-9, 0.7, 0.7 + 1e-9))
    assert at == 0
    assert just_below == pytest.approx(0, abs=2e-9)
    assert just_above == pytest.approx(0, abs=2e-9)
    assert just_above < at < just_below


def test_missing_f1_weighs_twice_as_much_as_gained_f1() -> None:
    lost, gained = organizers(553, 0.63).f1_term, organizers(553, 0.77).f1_term
    assert lost == pytest.approx(0.1)
    assert gained == pytest.approx(-0.05)


def test_the_term_jumps_to_one_below_the_floor() -> None:
    """At the floor: 1 - 0.5 / 0.7 = 2 / 7; the smallest step below it costs 5 / 7 more."""
    at, below = organizers(553, 0.5), organizers(553, np.nextafter(0.5, 0))
    assert at.f1_term == pytest.approx(2 / 7)
    assert (at.branch, at.ranked) == ("penalty", True)
    assert (below.f1_term, below.branch, below.ranked) == (1.0, "below_floor", False)


def test_a_constant_answer_cannot_tie_the_baseline() -> None:
    """No MACs and F1 0 give the baseline's own score, 0 + 1, but no rank."""
    nothing = organizers(0, 0.0)
    assert nothing.score == organizers(553, 0.7).score
    assert not nothing.ranked


def test_a_negative_score_is_legal() -> None:
    """0 MACs (only movement) at F1 1: 0 + 0.5 (1 - 1 / 0.7)."""
    score = organizers(0, 1.0)
    assert score.score == pytest.approx(-3 / 14)
    assert score.ranked


def test_the_constants_are_the_competitions() -> None:
    rules = ScoreRules(f1_floor=0.2, penalty=3.0, reward=2.0)
    assert organizers(553, 0.35, rules).f1_term == pytest.approx(3.0 * 0.5)
    assert organizers(553, 1.0, rules).f1_term == pytest.approx(2.0 * (1 - 1 / 0.7))
    assert organizers(553, 0.19, rules).f1_term == 1.0


F1_VALUES = st.floats(0, 1)


@given(F1_VALUES, F1_VALUES, st.integers(0, 10**12), st.integers(0, 10**12))
def test_more_f1_or_fewer_macs_never_hurt(f1: float, other: float, macs: int, more: int) -> None:
    low, high = sorted((f1, other))
    assert organizers(macs / 1e6, high).score <= organizers(macs / 1e6, low).score
    assert organizers(macs / 1e6, f1).score <= organizers((macs + more) / 1e6, f1).score


def test_macro_f1_is_the_mean_over_classes() -> None:
    """Metal: 1 of 2 found, no false alarm: 2/3. Paper: found, one false alarm: 2/3. Plastic: 1."""
    found = macro_f1([0, 0, 1, 2], [0, 1, 1, 2], CLASSES)
    assert found.per_class == pytest.approx({"Metal": 2 / 3, "Paper": 2 / 3, "Plastic": 1.0})
    assert found.macro == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert found.absent == ()


def test_an_absent_class_counts_zero_and_is_named() -> None:
    found = macro_f1([0, 1, 1], [0, 1, 1], CLASSES)
    assert found.per_class == {"Metal": 1.0, "Paper": 1.0, "Plastic": 0.0}
    assert found.macro == pytest.approx(2 / 3)
    assert found.absent == ("Plastic",)


def test_a_class_that_is_only_predicted_is_absent_too() -> None:
    assert macro_f1([0, 1], [0, 2], CLASSES).absent == ("Plastic",)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40))
def test_macro_f1_equals_scikit_learns_macro_average(pairs: list[tuple[int, int]]) -> None:
    labels, predictions = zip(*pairs, strict=True)
    theirs = f1_score(labels, predictions, labels=[0, 1, 2], average="macro", zero_division=0.0)
    assert macro_f1(labels, predictions, CLASSES).macro == pytest.approx(theirs, abs=1e-12)


def reference(**changes: Any) -> Reference:
    """Return a sound reference, changed where the test says so."""
    fields: dict[str, Any] = {
        "name": "baseline", "macs": 553_000_000, "contraction_macs": 553_000_000, "pointwise_macs": 0,
        "reduction_macs": 0, "thop_macs": 550_000_000, "params": 10, "macro_f1": 0.7, "macro_f1_by_usage": {},
        "dataset": "waste 1", "dataset_fingerprint": "abc", "cost_version": "1", "versions": {},
        "made_by": "",
    }  # fmt: skip
    return Reference(**(fields | changes))


def checked(found: Reference, rules: ScoreRules = RULES) -> None:
    check_reference(found, rules=rules, dataset_fingerprint="abc", cost_version="1", where="reference.json")


def test_a_sound_reference_is_taken() -> None:
    checked(reference())
    checked(reference(), ScoreRules(counter="thop"))
    checked(reference(macro_f1=0.5))  # the floor itself is enough


@pytest.mark.parametrize(
    ("changes", "rules", "code", "got"),
    [
        ({"dataset_fingerprint": "xyz"}, RULES, Code.STALE_REFERENCE, "xyz (waste 1)"),
        ({"cost_version": "2"}, RULES, Code.STALE_REFERENCE, "2"),
        ({"macro_f1": 0.4999}, RULES, Code.BASELINE_BELOW_FLOOR, "0.4999"),
        ({"macro_f1": 0.0}, ScoreRules(f1_floor=0), Code.BASELINE_BELOW_FLOOR, "0.0000"),
        ({"macs": 0}, RULES, Code.BASELINE_FREE, "macs = 0"),
        ({"thop_macs": 0}, ScoreRules(counter="thop"), Code.BASELINE_FREE, "thop = 0"),
        ({"thop_macs": None}, ScoreRules(counter="thop"), Code.BASELINE_FREE, "thop = None"),
    ],
)
def test_a_reference_that_no_score_may_stand_on_is_refused(
    changes: dict[str, Any], rules: ScoreRules, code: Code, got: str
) -> None:
    with pytest.raises(UsageError) as refused:
        checked(reference(**changes), rules)
    (found,) = refused.value.problems
    assert (found.code, found.got, found.where) == (code, got, "reference.json")
    assert found.hint.startswith(("starter ", "Train it: starter ", "Choose a baseline"))


def test_another_count_matters_only_where_it_is_chosen() -> None:
    checked(reference(thop_macs=None))
    counts, baseline = Counts(macs=10, ptflops=8, thop=7), Counts(macs=20, ptflops=20, thop=20)
    assert counts.over(baseline, RULES) == 0.5
    assert counts.over(baseline, ScoreRules(counter="thop")) == 0.35
    assert counts.over(baseline, ScoreRules(counter="ptflops")) == 0.4
    assert counts._replace(thop=None).over(baseline, ScoreRules(counter="thop")) is None


def test_several_costs_are_weighed_each_over_the_baselines() -> None:
    rules = ScoreRules(cost={"macs": 0.5, "weight_bytes": 0.25, "peak_memory_bytes": 0.25})
    counts = Counts(10, None, None, weight_bytes=300, peak_memory_bytes=50)
    baseline = Counts(20, None, None, weight_bytes=400, peak_memory_bytes=200)
    assert counts.over(baseline, rules) == 0.5 * 0.5 + 0.25 * 0.75 + 0.25 * 0.25
    assert counts._replace(weight_bytes=None).over(baseline, rules) is None


def test_a_cost_over_the_budget_is_named_with_the_limit() -> None:
    """DCASE's limits: 30 M MACs and 128 kB of weights."""
    budget = Budget(macs=30_000_000, weight_bytes=128_000)
    assert not Counts(30_000_000, None, None, weight_bytes=128_000).exceeding(budget)
    assert Counts(29, None, None, weight_bytes=128_001).exceeding(budget) == [
        ("weight_bytes", 128_000, 128_001)
    ]
    assert not Counts(29, None, None).exceeding(budget)  # what was not counted is another problem


@pytest.mark.parametrize("limits", ["", "[budget]\n"])
def test_a_budget_without_a_limit_is_refused(tmp_path: Path, limits: str) -> None:
    rules = tmp_path / "competition.toml"
    rules.write_text(f'name = "x"\n[score]\npreset = "budget"\n{limits}')
    with pytest.raises(UsageError) as refused:
        load_competition(rules)
    (found,) = refused.value.problems
    assert (found.code, found.where) == (Code.BAD_COMPETITION, f"{rules}: budget")
    assert "needs a limit, such as macs = 30_000_000" in found.expected
    rules.write_text(rules.read_text().removesuffix("[budget]\n") + "[budget]\nmacs = 5\n")
    assert load_competition(rules).score.weights == {}


NTIRE = ScoreRules(preset="ntire", f1_floor=0.7)


def test_ntires_baseline_scores_e_squared() -> None:
    own = Counts(9, 9, 9, params=9, speed=1.0)
    score = compute_score(own.over(own, NTIRE) or 0, 0.8, baseline_macs=1, baseline_f1=0.8, rules=NTIRE)
    assert score == Score(pytest.approx(7.3891, abs=5e-5), pytest.approx(7.3891, abs=5e-5), 0.0, "reward")


@pytest.mark.parametrize(
    ("rules", "worked"),
    [
        (NTIRE, 0.8 * 2.718281828 + 0.1 * 1.648721271 + 0.1 * 1.221402758),  # 2026: e^1, e^0.5, e^0.2
        (
            ScoreRules(preset="ntire", cost={"speed": 0.7, "macs": 0.15, "params": 0.15}),  # 2025
            0.7 * 2.718281828 + 0.15 * 1.648721271 + 0.15 * 1.221402758,
        ),
    ],
)
def test_ntires_formula_weighs_the_exponentials_of_ratios(rules: ScoreRules, worked: float) -> None:
    """Half of the time, a quarter of the MACs, a tenth of the params."""
    counts, baseline = Counts(5, 5, 5, params=1, speed=0.5), Counts(20, 20, 20, params=10, speed=1.0)
    assert counts.over(baseline, rules) == pytest.approx(worked)
    enormous = counts._replace(macs=10**9).over(baseline, rules)
    assert enormous is not None
    assert np.isfinite(enormous)


def test_ntire_ranks_by_cost_alone_from_the_floor_on() -> None:
    scores = [
        compute_score(3.0, f1, baseline_macs=1, baseline_f1=0.8, rules=NTIRE) for f1 in (0.69, 0.7, 0.9)
    ]
    assert [(s.score, s.f1_term, s.ranked) for s in scores] == [
        (3.0, 0.0, False),
        (3.0, 0.0, True),
        (3.0, 0.0, True),
    ]


def test_within_a_budget_f1_alone_decides() -> None:
    """F1 0.88 against 0.8: 1 - 1.1; 0.6 against 0.8: 1 - 0.75."""
    rules = ScoreRules(preset="budget")
    counts = Counts(5, 5, 5)
    costs = counts.over(Counts(20, 20, 20), rules)
    assert costs == 0
    scores = [compute_score(0, f1, baseline_macs=1, baseline_f1=0.8, rules=rules).score for f1 in (0.88, 0.6)]
    assert scores == pytest.approx([-0.1, 0.25])


def test_ranks_are_averaged_over_costs_and_f1() -> None:
    """MACs 1, 2, 3; params 2, 1, 1 (two share ranks 1 and 2); F1 0.7, 0.9, 0.8: (1 + 3 + 3) / 3, ..."""
    criteria = [[1, 2, 3], [2, 1, 1], [-0.7, -0.9, -0.8]]
    assert mean_ranks(criteria, [1, 1, 1]).tolist() == pytest.approx([7 / 3, 4.5 / 3, 6.5 / 3])
    assert mean_ranks(criteria, [2, 0.5, 1]).tolist() == pytest.approx([6.5 / 3.5, 5.75 / 3.5, 8.75 / 3.5])


@pytest.mark.parametrize("name", ["boostcamp-2021", "ntire", "rank-average", "budget"])
def test_a_preset_is_the_same_after_it_was_written(name: Any) -> None:
    rules = ScoreRules(preset=name)
    assert ScoreRules.model_validate_json(rules.model_dump_json()) == rules


def test_the_originals_preset_is_its_counter_and_its_constants() -> None:
    rules = ScoreRules(preset="boostcamp-2021")
    assert (rules.weights, rules.f1_floor, rules.penalty, rules.reward) == ({"ptflops": 1.0}, 0.5, 1.0, 0.5)
    assert compute_score(1_083_210, 0.6149, **(ORIGINAL | {"rules": rules})).score == pytest.approx(
        0.3431, abs=1.01e-4
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"preset": "boostcamp-2021", "counter": "macs"}, "sets counter to ptflops"),
        ({"preset": "ntire", "penalty": 1.0}, "sets penalty to 0.0"),
        ({"preset": "budget", "cost": {"macs": 1.0}}, "sets cost to {}"),
        ({"preset": "ntire-2030"}, "Input should be 'boostcamp-2021', 'ntire', 'rank-average' or 'budget'"),
    ],
)
def test_a_preset_and_a_field_that_contradict_each_other_are_refused(
    given: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValidationError, match=re.escape(says)):
        ScoreRules.model_validate(given)


def test_time_is_a_cost_over_the_baselines_which_is_1() -> None:
    """Half of the MACs and three quarters of the time: 0.5 x 0.5 + 0.5 x 0.75."""
    rules = ScoreRules(cost={"macs": 0.5, "speed": 0.5})
    counts, baseline = Counts(10, None, None, speed=0.75), Counts.of(reference(macs=20))
    assert counts.over(baseline, rules) == 0.625
    assert counts._replace(speed=None).over(baseline, rules) is None  # timed by the organizer only


def test_a_time_over_the_budget_is_named_by_what_the_budget_calls_it() -> None:
    budget = Budget(latency_ratio=0.5)
    assert Counts(1, None, None, speed=0.51).exceeding(budget) == [("latency_ratio", 0.5, 0.51)]
    assert not Counts(1, None, None, speed=0.5).exceeding(budget)
    assert not Counts(1, None, None).exceeding(budget)


ORIGINAL = {"baseline_macs": 13_878_369, "baseline_f1": 0.8367, "rules": ScoreRules(counter="ptflops")}


@pytest.mark.parametrize(
    ("macs", "f1", "published"),
    [(1_862_490, 0.5176, 0.5156), (1_862_490, 0.4892, 1.1342), (1_083_210, 0.6149, 0.3431)],
)
def test_the_published_rows_of_the_original_competition_come_out(
    macs: int, f1: float, published: float
) -> None:
    assert compute_score(macs, f1, **ORIGINAL).score == pytest.approx(published, abs=1.01e-4)


def test_a_reference_of_an_earlier_kit_is_measured_again_for_ptflops() -> None:
    rules = ScoreRules(counter="ptflops")
    with pytest.raises(UsageError) as refused:
        checked(reference(), rules)
    (found,) = refused.value.problems
    assert (found.code, found.expected) == (Code.STALE_REFERENCE, "a count of ptflops")
    assert found.hint.startswith("starter baseline measure")
    checked(reference(ptflops_macs=7), rules)


def entry(name: str, score: float | None = None, *, ranked: bool = False, **more: Any) -> EvaluationResult:
    fields = {"macs": 100, "macro_f1": 0.7} | more
    return EvaluationResult(
        name=name,
        path=name,
        status=Status.OK,
        official=True,
        isolation="lockdown",
        score=score,
        ranked=ranked,
        **fields,
    )


ORDERED = [
    entry("lowest score", -0.1, ranked=True),
    entry("fewer macs", 1.0, ranked=True, macs=90, macro_f1=0.6),
    entry("higher f1", 1.0, ranked=True, macro_f1=0.8),
    entry("a name", 1.0, ranked=True),
    entry("b name", 1.0, ranked=True),
    entry("unranked", 0.5),
    entry("unranked, worse", 1.9),
    entry("failed a", macs=None, macro_f1=None),
    entry("failed b", macs=None, macro_f1=None),
]


def test_the_order_is_total_and_does_not_depend_on_where_entries_started() -> None:
    """Score, then MACs, F1 and name; then the unranked; then what has no score."""
    shuffler = random.Random(0)
    for _ in range(50):
        assert rank(shuffler.sample(ORDERED, len(ORDERED))) == ORDERED


def test_every_pair_is_in_the_same_order_as_the_whole() -> None:
    for first, second in itertools.combinations(ORDERED, 2):
        assert rank([second, first]) == [first, second]
