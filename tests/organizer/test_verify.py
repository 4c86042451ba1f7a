"""Reports of a store that nobody has changed are proved again, whatever became of the entry."""

import shutil
from pathlib import Path

import crowd
import pytest
from conftest import ROOT, Command, drawn_image
from crowd import stored

from starter.contract.competition import CompetitionFile
from starter.contract.errors import Code, Status, problem
from starter.contract.isolation import Isolation, Level
from starter.contract.results import EvaluationResult, Reference, UsageScore
from starter.contract.submissions import SubmissionSource, discover_one
from starter.data.dataset import Dataset
from starter.data.writer import Description, Item, Split, write_dataset
from starter.evaluation.baseline import measure, write_reference
from starter.evaluation.evaluate import Evaluator
from starter.evaluation.recording import evidence_of, record_of
from starter.evaluation.records import Context
from starter.evaluation.runner.process import Runner
from starter.evaluation.verify import verify

RULES = CompetitionFile(name="Everything")
EVASIONS = ROOT / "tests" / "submissions"
SIX = crowd.GOOD.replace("nn.Linear(3, 3)", "nn.Linear(3, 6)")
SIX = SIX.replace(
    "torch.eye(3)", "torch.eye(6, 3) + torch.tensor([0, 0.0013, 0.00217])"
)  # on no grid: 32 bits
_ANSWER = "return self.head(images.mean((2, 3)))"
LATE = {
    "no_weights": ("model=Network(),", 'model=Network(), weights="none.safetensors",'),
    "two_crops": ("v2.ToImage()", "v2.CenterCrop(8), v2.CenterCrop(4), v2.ToImage()"),
    "seven_logits": ("nn.Linear(3, 6)", "nn.Linear(3, 7)"),
    "no_rule": (_ANSWER, "return self.head(torch.fft.rfft2(images).abs().mean((2, 3)))"),
    "nan_for_some": (_ANSWER, "return self.head((images.mean((2, 3)) - 0.4).sqrt())"),
    "below_the_floor": (_ANSWER, "return self.head(-images.mean((2, 3)))"),
}
"""What fails after its import, at one stage after the other: a part of the good plugin, and its change."""


@pytest.fixture(scope="module")
def six_classes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Images for the plugins of tests/submissions, which give six logits; three classes have images."""
    splits: tuple[Split, ...] = ("train", "Public", "Private", "train")
    items = (Item(f"{i:03d}.jpg", drawn_image(i % 3, i), i % 3, splits[i % 4]) for i in range(24))
    classes = ("Metal", "Paper", "Paperpack", "Plastic", "Plasticbag", "Styrofoam")
    folder = tmp_path_factory.mktemp("six") / "data"
    return write_dataset(folder, items, Description(name="six", classes=classes))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> SubmissionSource:
    """The good plugin for six classes."""
    path = tmp_path_factory.mktemp("plugin") / "good.py"
    path.write_text(SIX)
    return discover_one(path)


@pytest.fixture(scope="module")
def reference(six_classes: Dataset, good: SubmissionSource) -> Reference:
    """The good plugin, measured."""
    return measure(good, RULES, six_classes, made_by="a test", isolation=Isolation(Level.NONE))


@pytest.fixture
def place(tmp_path: Path, six_classes: Dataset, good: SubmissionSource, reference: Reference) -> Path:
    """A competition's folder, whose entries are every plugin of the tests."""
    folder = tmp_path / "competition"
    (folder / "baseline").mkdir(parents=True)
    entries = folder / "entries"
    kinds = crowd.write_crowd(entries, 3 * len(crowd.POISONS), every=3)
    for name in (name for name, kind in kinds.items() if kind == "honest"):  # of three classes
        for path in entries.glob(f"{name}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in EVASIONS.iterdir():
        shutil.copytree(path, entries / path.name)
    shutil.copy(good.path, entries)
    for name, (old, new) in LATE.items():
        assert old in SIX
        (entries / f"{name}.py").write_text(SIX.replace(old, new))
    write_reference(reference, folder / "baseline")
    text = f'name = "Everything"\ndataset = "{six_classes.root}"\n{crowd.LIMITS}'
    (folder / "competition.toml").write_text(text)
    return folder


@pytest.mark.long
def test_every_plugin_of_the_tests_is_proved_again(
    starter: Command, place: Path, six_classes: Dataset
) -> None:
    starter("batch", "entries", "--jobs", 2, "--isolation", "auto")
    statuses = {name: status for name, (status, _) in stored(place, six_classes).items()}
    starter("leaderboard", "--reports", "reports")

    lines = starter("verify", "reports").stdout.splitlines()

    assert statuses["forged_report"] is Status.INVALID
    assert {"good", "below_the_floor"} <= {name for name, status in statuses.items() if status is Status.OK}
    assert {statuses[name] for name in LATE.keys() - {"below_the_floor"}}.isdisjoint({Status.OK})
    everything = [*EVASIONS.iterdir(), *crowd.POISONS, "good", *LATE]
    assert len(lines) == len(statuses) == len(everything)
    assert {line.split()[0] for line in lines} == {"ok"}


@pytest.mark.long
def test_an_entry_that_failed_after_its_images_were_run_shows_no_figure(
    good: SubmissionSource, six_classes: Dataset, reference: Reference
) -> None:
    """Older kits ran the graph of an entry that had failed already, and kept what it answered."""
    with Evaluator(RULES, six_classes, reference=reference, isolation=Isolation(Level.NONE)) as evaluator:
        (evaluation,) = evaluator.evaluate([good], "Public")
        holds_under = Context.of(RULES, six_classes.fingerprint(), reference)
        kept = record_of(
            evaluator, evaluation, submission="sha256:0", context=holds_under, limits=RULES.limits
        )
    wrong = problem(Code.MALFORMED_GRAPH, where="report", got="extra fields")
    figures = EvaluationResult.model_fields.keys() & UsageScore.model_fields.keys()
    failed = kept.result.model_copy(
        update={name: EvaluationResult.model_fields[name].default for name in figures}
        | {"status": Status.INVALID, "error": wrong, "problems": (wrong,)}
    )
    boasting = failed.model_copy(update={"macro_f1": 0.25})

    with Runner.of(RULES.counted_as(reference), six_classes.root) as runner:
        differs = [
            [check.name for check in checks if not check.holds]
            for result in (failed, boasting)
            for checks in [
                verify(
                    kept.model_copy(update={"result": result}),
                    evidence_of(evaluation),
                    dataset=six_classes,
                    competition=RULES,
                    reference=reference,
                    runner=runner,
                )
            ]
        ]

    assert differs == [[], ["macro_f1"]]
