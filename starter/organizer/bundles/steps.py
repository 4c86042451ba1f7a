"""The two steps of a Codabench submission, run by the programs of platforms/codabench/.

`ingest` runs where participants' code runs, without an image or a label, and hands over a graph: data.
`score` runs in another container, with images and labels and no code but ours. It trusts nothing that was
handed over: Codabench lets a submission write into the same folder as `ingest`.
"""

import contextlib
import json
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, ValidationError

from starter.contract.competition import FILE_NAME, CompetitionFile, CostName, load_competition
from starter.contract.errors import Code, ParticipantError, Record, participant_error
from starter.contract.isolation import Isolation, Level, Trust
from starter.contract.protocol import MAX_REPORT, PARTS, RunnerHello
from starter.contract.results import EvaluationResult, Reference
from starter.contract.submissions import Kind, SubmissionSource
from starter.contract.system.files import write_whole
from starter.data.dataset import open_dataset, read_info
from starter.evaluation.evaluate import Evaluator, read_reference
from starter.evaluation.labelled import Usage
from starter.evaluation.measure import Images, LocalMeasurer, Measurement
from starter.evaluation.recording import evidence_of, record_of
from starter.evaluation.records import Context
from starter.evaluation.runner.claims import read_report
from starter.evaluation.runner.client import Exported, export
from starter.evaluation.scoring import Counts
from starter.evaluation.verify import write_report
from starter.organizer.bundles.kaggle import UNRANKED, claimed_costs
from starter.organizer.entries import EntrySource, staged
from starter.sandbox.choice import choose, open_sandbox
from starter.submission.content import digest

PROGRAM, CLAIMS = "program", "claims.json"
"""What `ingest` leaves in its output: a folder with the parts of the graph, and what it says of them."""

_ENTRY = "entry"
_FIGURES = ("macro_f1", "accuracy", "macs_ratio", "f1_term")


class Claims(Record):
    """What was said where participants' code runs: shown, and never decisive."""

    submission: str = Field(default="", max_length=100)
    """The hash of the submission's files."""
    isolation: Level = Level.NONE
    """How its code was locked in."""
    used: dict[str, float] = Field(default_factory=dict, max_length=20)
    """What its process used, by the names of the limits."""


@dataclass(frozen=True)
class Ingested:
    """What became of a submission where its code ran."""

    claims: Claims
    """What is handed over beside the graph."""
    isolation: Isolation
    """How its code was locked in, and why not more strictly."""


def ingest(submission: Path, facts: Path, output: Path) -> Ingested:
    """Have a submission export its graph, and write that into an output folder.

    Args:
        submission: its files, unpacked by the platform: /app/ingested_program.
        facts: competition.toml, dataset.toml and cost rules: /app/input_data.
        output: what the scoring step gets; emptied first, for the platform copies the submission into it.

    Raises:
        ParticipantError: it cannot be exported; nothing is handed over.
        HostError: this machine cannot lock it in as competition.toml asks.
    """
    rules = load_competition(facts / FILE_NAME)
    info = read_info(facts)
    _empty(output)
    isolation = choose(rules, trust=Trust.OWN)  # no label and no image is here that could be read
    with (
        tempfile.TemporaryDirectory(prefix="starter-", ignore_cleanup_errors=True) as place,
        staged(_zipped(submission, Path(place)), rules.limits) as entry,
        open_sandbox(isolation, limits=rules.limits, forks=False) as sandbox,
    ):
        if entry.problems:
            raise ParticipantError(entry.problems)
        folder = Path(place) / PROGRAM
        folder.mkdir()
        exported = export(
            entry.source, info.competition, rules.limits, folder, sandbox, stop=threading.Event()
        )
        if exported.report.problems:
            raise ParticipantError(exported.report.problems)
        claims = Claims(submission=entry.submission, isolation=isolation.level, used=exported.used)
        shutil.copytree(folder, output / PROGRAM)
        write_whole(output / CLAIMS, claims.model_dump_json(indent=2) + "\n")
    return Ingested(claims, isolation)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _zipped(folder: Path, place: Path) -> EntrySource:
    """Return what the platform has unpacked as a zip again, for the kit's own reader."""
    path = place / f"{_ENTRY}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and not file.is_symlink():
                archive.write(file, file.relative_to(folder).as_posix())
    return EntrySource(_ENTRY, path, datetime.now(UTC), below=path)


@dataclass(frozen=True)
class Scored:
    """What the scoring step shows."""

    result: EvaluationResult
    """The result, with the figures of the phase's images and the cost of each layer."""
    reference: Reference
    """The baseline's figures on the same images."""
    rules: CompetitionFile
    """The rules."""
    scores: dict[str, float]
    """What the leaderboard shows, by its columns."""


def score(handed: Path, truth: Path, output: Path, usage: Usage) -> Scored:
    """Count what was handed over, run it on the images, and write its figures.

    Args:
        handed: what `ingest` left, or somebody else: /app/input/res.
        truth: competition.toml, data set and the baseline's reference.json: /app/input/ref.
        output: scores.json, and the participant's report, which `starter verify` reads.
        usage: which images the leaderboard of this phase is of.

    Raises:
        ParticipantError: there is no graph, it fails, it is over the budget.
    """
    rules = load_competition(truth / FILE_NAME)
    dataset = open_dataset(rules.path(rules.dataset))
    reference = read_reference(rules.path(rules.baseline))
    rules = rules.counted_as(reference)
    with tempfile.TemporaryDirectory(prefix="starter-", ignore_cleanup_errors=True) as place:
        taken = _take(handed, Path(place), rules)
        parts = {part: taken.exported.folder / part for part in PARTS if part != "report"}
        content = digest({part: path for part, path in parts.items() if path.is_file()})

        def measurer(images: Images) -> _HandedOver:
            return _HandedOver(rules, images, taken)

        source = SubmissionSource(_ENTRY, Path(_ENTRY), Kind.FOLDER)
        with Evaluator(rules, dataset, reference=reference, measurer=measurer) as evaluator:
            (measured,) = evaluator.evaluate([source], "Public")
            if measured.result.problems:
                raise ParticipantError(measured.result.problems)
            figures = evaluator.score_on(measured, usage)
            context = Context.of(rules, dataset.fingerprint(), reference)
            record = record_of(evaluator, measured, submission=content, context=context, limits=rules.limits)
    if figures is None:
        raise participant_error(
            Code.MALFORMED_GRAPH,
            where="the handed over graph",
            got=f"no {', '.join(rules.score.weights)}",
        )
    plain = record.model_copy(update={"result": record.result.model_copy(update={"profile": None})})
    withheld = rules.leaderboard.withhold_predictions
    write_report(output, plain, evidence_of(measured), dataset, withhold_predictions=withheld)
    shown = {name: value for name, value in figures if name in EvaluationResult.model_fields}
    result = measured.result.model_copy(update=shown)
    scores = _leaderboard(result, rules)
    write_whole(output / "scores.json", json.dumps(scores, indent=2) + "\n")
    return Scored(result, reference.shown_on(usage), rules, scores)


def _leaderboard(result: EvaluationResult, rules: CompetitionFile) -> dict[str, float]:
    """Return the leaderboard's columns; an entry below the floor stands behind all others."""
    assert result.score is not None  # it has been scored
    counts = Counts.of(result)
    return {
        "score": result.score + (0 if result.ranked else UNRANKED),
        **{name: getattr(result, name) for name in _FIGURES},
        **{name: value for name in cost_columns(rules) if (value := getattr(counts, name)) is not None},
    }


def cost_columns(rules: CompetitionFile) -> tuple[CostName, ...]:
    """Return the costs that have a column: MACs, parameters, and those that are scored or have a budget."""
    names: list[CostName] = ["macs", "params", *claimed_costs(rules)]
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class _Taken:
    """What was handed over, copied to a folder of ours."""

    exported: Exported
    claims: Claims


def _take(handed: Path, place: Path, rules: CompetitionFile) -> _Taken:
    """Copy what was handed over, as far as it may be so large; whatever it is, it is data.

    Raises:
        ParticipantError: there is no graph, or it is larger than a submission's process may send.
    """
    folder = place / PROGRAM
    folder.mkdir()
    left = rules.limits.output_mb * 2**20
    for part in PARTS:
        path = handed / PROGRAM / part
        if path.is_symlink() or not path.is_file():
            continue
        left -= path.stat().st_size
        if left < 0:
            raise participant_error(
                Code.OUTPUT, where=part, expected=f"at most {rules.limits.output_mb} MiB", got="more"
            )
        shutil.copyfile(path, folder / part)
    report = read_report(_small(folder / "report"))
    exported = Exported(report, folder, "")
    if not exported.is_complete:
        raise participant_error(
            Code.MALFORMED_GRAPH,
            where="prediction step",
            expected="a graph",
            got="none",
            hint="The log of the prediction step says what is wrong with the submission.",
        )
    claims = Claims()
    with contextlib.suppress(ValidationError):
        claims = Claims.model_validate_json(_small(handed / CLAIMS))
    return _Taken(Exported(report, folder, "", dict(claims.used)), claims)


def _small(path: Path) -> bytes:
    """Return the beginning of a small file; nothing where there is none."""
    if path.is_symlink() or not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(MAX_REPORT)


class _HandedOver:
    """Measures the one graph that was handed over: no code of a participant's runs.

    Args:
        rules: the rules.
        images: what to run on.
        taken: the graph.
    """

    def __init__(self, rules: CompetitionFile, images: Images, taken: _Taken) -> None:
        self._taken = taken
        self._local = LocalMeasurer(rules, images, isolation=Isolation(Level.NONE), profile=True)
        self.isolation = taken.claims.isolation
        self.machine = self._local.machine

    @property
    def hello(self) -> RunnerHello:
        """What graphs are counted and run with."""
        return self._local.hello

    def measure(
        self, sources: Iterable[SubmissionSource], *, meanwhile: Callable[[], None] = lambda: None
    ) -> Iterator[Measurement]:
        """Yield the measurement of the one graph."""
        meanwhile()
        for source in sources:
            yield self._local.run(source, lambda: self._taken.exported)

    def close(self) -> None:
        """End the process that counts."""
        self._local.close()


def describe(ingested: Ingested) -> Iterator[str]:
    """Yield what the log of the prediction step says."""
    yield f"submission  {ingested.claims.submission}"
    yield f"isolation   {ingested.isolation.level}"
    for level, reason in ingested.isolation.lacks.items():
        yield f"  no {level}: {reason.splitlines()[-1]}"
    if ingested.isolation.why_root:
        yield f"  as root without capabilities: {ingested.isolation.why_root}"
