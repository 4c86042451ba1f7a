"""Whatever a hostile worker sends back is refused as its author's, or counted as it runs."""

from pathlib import Path

import pytest
from fuzzing import MODELS, Mutant, assert_refused_or_priced, exported, mutants, single_calls
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FUZZ = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.large_base_example,
    ],
)


@pytest.mark.parametrize("name", MODELS)
def test_what_the_kit_exports_is_counted_as_it_runs(name: str, tmp_path: Path) -> None:
    assert assert_refused_or_priced(tmp_path, exported(name))


@pytest.mark.slow
@settings(FUZZ, max_examples=600)
@given(mutant=mutants())
def test_a_spoilt_answer_is_refused_or_counted_as_it_runs(tmp_path: Path, mutant: Mutant) -> None:
    assert_refused_or_priced(tmp_path, mutant)


@pytest.mark.slow
@settings(FUZZ, max_examples=1000)
@given(mutant=single_calls())
def test_any_call_on_any_value_is_refused_or_counted_as_it_runs(tmp_path: Path, mutant: Mutant) -> None:
    assert_refused_or_priced(tmp_path, mutant)


@settings(FUZZ, max_examples=60)
@given(graph=st.binary(max_size=200), weights=st.binary(max_size=200))
def test_random_bytes_are_refused(tmp_path: Path, graph: bytes, weights: bytes) -> None:
    assert not assert_refused_or_priced(tmp_path, Mutant(graph, weights))
