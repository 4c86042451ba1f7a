"""The baseline's figures: measured, compared, and refused where no score may stand on them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import GOOD
from usual import slow

from starter.contract.competition import CompetitionFile
from starter.contract.errors import Code, ParticipantError, StarterError, UsageError
from starter.contract.results import Reference
from starter.contract.submissions import discover_one
from starter.data.dataset import Dataset
from starter.evaluation.baseline import EXACT, F1_TOLERANCE, changes, check, measure, write_reference
from starter.evaluation.evaluate import read_reference

RULES = CompetitionFile(name="test")
WHERE = Path("baseline/reference.json")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, easy_dataset: Dataset) -> Reference:
    plugin = tmp_path_factory.mktemp("baseline") / "plugin.py"
    plugin.write_text(GOOD, encoding="utf-8")
    return measure(discover_one(plugin), RULES, easy_dataset, made_by="a test")


def refused(reference: Reference, **differences: object) -> StarterError:
    with pytest.raises(UsageError) as refusal:
        check(reference, reference.model_copy(update=differences), WHERE)
    return refusal.value


def test_a_reference_holds_every_figure_that_scores_stand_on(
    reference: Reference, easy_dataset: Dataset
) -> None:
    assert reference.macs == 201
    assert (reference.contraction_macs, reference.reduction_macs) == (3 * 3, 3 * 8 * 8)
    assert reference.params == 3 * 3 + 3
    assert reference.macro_f1 == 1.0
    assert reference.macro_f1_by_usage == {"Public": 1.0, "Private": 1.0}
    assert reference.dataset_fingerprint == easy_dataset.fingerprint()
    assert {"python", "torch", "torchvision"} <= reference.versions.keys()


def test_a_reference_is_read_as_it_was_written(reference: Reference, tmp_path: Path) -> None:
    assert write_reference(reference, tmp_path) == tmp_path / "reference.json"
    assert read_reference(tmp_path) == reference
    assert [p.name for p in tmp_path.iterdir()] == ["reference.json"]


def test_an_equal_measurement_passes(reference: Reference) -> None:
    check(reference, reference, WHERE)


def test_each_differing_figure_is_a_problem_of_its_own(reference: Reference) -> None:
    problems = refused(reference, macs=202, thop_macs=None, cost_version="99").problems
    assert {p.code for p in problems} == {Code.BASELINE_DIFFERS}
    assert [p.where for p in problems] == [f"{WHERE}: {n}" for n in ("macs", "thop_macs", "cost_version")]
    assert (problems[0].expected, problems[0].got) == ("201", "202")


@pytest.mark.parametrize("name", EXACT)
def test_no_exact_figure_may_differ(reference: Reference, name: str) -> None:
    (found,) = refused(reference, **{name: -1}).problems
    assert found.where.endswith(name)


def test_f1_may_differ_as_much_as_processors_do(reference: Reference) -> None:
    check(reference, reference.model_copy(update={"macro_f1": 1 - 0.9 * F1_TOLERANCE}), WHERE)
    (found,) = refused(reference, macro_f1=1 - 1.1 * F1_TOLERANCE).problems
    assert found.where.endswith("macro_f1")


def test_what_a_new_measurement_changed_is_listed(reference: Reference) -> None:
    assert changes(reference, reference) == []
    assert changes(reference, reference.model_copy(update={"macs": 202})) == [("macs", "201", "202")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "code"),
    [
        # The same answer for each image: of three equal classes one has F1 1/2, the others 0.
        (("torch.eye(3)", "torch.zeros(3, 3)"), Code.BASELINE_BELOW_FLOOR),
        # One pixel's channels are the logits: nothing is computed, and the answers are right.
        slow(("self.head(images.mean((2, 3)))", "images[:, :, 4, 4]"), Code.BASELINE_FREE),
    ],
)
def test_a_baseline_that_no_score_can_stand_on_is_refused(
    write_plugin: Callable[..., Path], easy_dataset: Dataset, change: tuple[str, str], code: Code
) -> None:
    source = discover_one(write_plugin("baseline", change))
    with pytest.raises(UsageError) as refusal:
        measure(source, RULES, easy_dataset, made_by="a test")
    assert [p.code for p in refusal.value.problems] == [code]


@pytest.mark.long
def test_a_baseline_that_cannot_be_evaluated_is_its_authors_to_mend(
    write_plugin: Callable[..., Path], easy_dataset: Dataset
) -> None:
    source = discover_one(write_plugin("baseline", ("@hookimpl", "")))
    with pytest.raises(ParticipantError) as refusal:
        measure(source, RULES, easy_dataset, made_by="a test")
    assert [p.code for p in refusal.value.problems] == [Code.NO_HOOK]
