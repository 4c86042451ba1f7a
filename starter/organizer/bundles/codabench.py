"""Write the bundle of a Codabench competition: one zip that the platform makes a competition of.

The programs in it are thin; what they do is steps.py, from the kit in the Docker image that the bundle names.
"""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jinja2
from PIL import Image

from starter.contract.competition import CompetitionFile
from starter.contract.results import Reference
from starter.contract.system.files import atomic_write, write_whole
from starter.data.dataset import Dataset
from starter.data.writer import refuse_existing
from starter.evaluation.baseline import write_reference
from starter.evaluation.labelled import Usage
from starter.evaluation.scoring import Counts
from starter.organizer.bundles.kaggle import UNRANKED
from starter.organizer.bundles.public import (
    BASELINE,
    DATA,
    check,
    copy_baseline,
    refuse_ranks,
    write_info,
    write_local_data,
    write_rules,
    write_whole_data,
)
from starter.organizer.bundles.steps import cost_columns
from starter.submission.packing import choose, write_zip

_ANY_NUMBER = 100_000
"""Where Codabench wants a limit and the competition has none."""

_SLACK_SECONDS = 120
"""To start Python and torch, beside the kit's own limits."""

_TILE, _ACROSS = 75, 4
_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Phase:
    """A phase of the competition, with its task."""

    name: str
    usage: Usage
    """Which images its leaderboard is of."""
    description: str
    start: str
    """UTC."""
    end: str = ""
    """UTC; empty: none."""

    @property
    def program(self) -> str:
        """The folder of its scoring program."""
        return f"scoring_program_{self.usage.lower()}"

    @property
    def task(self) -> str:
        """The name of its task."""
        return f"{self.usage} images"


@dataclass(frozen=True)
class Column:
    """A column of the leaderboard."""

    key: str
    """Its name in scores.json."""
    title: str
    sorting: str
    """asc where lower is better, else desc."""
    precision: int
    """Digits behind the point."""


def write(
    target: Path,
    rules: CompetitionFile,
    dataset: Dataset,
    reference: Reference,
    *,
    image: str,
    start: datetime,
    end: datetime,
) -> dict[str, int]:
    """Write the bundle, whole or not at all.

    Args:
        target: the new zip.
        rules: the competition's rules.
        dataset: its data, with the labels.
        reference: the baseline's figures.
        image: the Docker image with the kit, as `docker pull` takes it.
        start: when the first phase begins, UTC.
        end: when it ends and the final phase begins, UTC.

    Returns:
        dict: bytes of each part of the bundle, before compression.

    Raises:
        UsageError: U450, the platform cannot express the rules; U106, `target` exists.
    """
    refuse_existing(target)
    rules = rules.counted_as(reference)
    refuse_ranks(rules, "Codabench")
    check(rules, dataset, reference, "Codabench")
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="starter-") as place, atomic_write(target) as partial:
        folder = Path(place)
        phases = _phases(start, end)
        _write_programs(folder, phases)
        _write_data(folder, rules, dataset, reference)
        _write_texts(folder, rules, dataset, reference, phases, image)
        (folder / "logo.png").write_bytes(_logo(dataset))
        return _zip(folder, partial)


def _phases(start: datetime, end: datetime) -> tuple[Phase, Phase]:
    first, last = (f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}" for at in (start, end))
    return (
        Phase("Development", "Public", "Scores on the Public images.", first, last),
        Phase("Final", "Private", "The submissions on the board again, on the Private images.", last),
    )


def _write_programs(folder: Path, phases: tuple[Phase, ...]) -> None:
    names = {"ingestion_program": ("ingestion_program", "")}
    names |= {phase.program: ("scoring_program", phase.usage) for phase in phases}
    for name, (template, usage) in names.items():
        (folder / name).mkdir()
        for file in _templates().joinpath(template).iterdir():
            if file.is_file():
                text = file.read_text(encoding="utf-8").replace("{{ usage }}", usage)
                write_whole(folder / name / file.name, text)


def _write_data(folder: Path, rules: CompetitionFile, dataset: Dataset, reference: Reference) -> None:
    """Write what each step and the participants get; the labels are in reference_data alone."""
    facts, truth, kit = (folder / name for name in ("input_data", "reference_data", "starting_kit"))
    write_rules(facts, rules)
    write_info(facts, dataset.info)
    write_rules(truth, rules)
    write_whole_data(truth / DATA, dataset)
    (truth / BASELINE).mkdir()
    write_reference(reference, truth / BASELINE)
    write_local_data(folder / "public_data", dataset)
    write_rules(kit, rules)
    baseline = copy_baseline(rules, kit / BASELINE)
    (folder / "solutions").mkdir()
    for packed in (kit / "baseline.zip", folder / "solutions" / "baseline.zip"):
        write_zip(baseline, choose(baseline, rules.limits), packed, rules.limits)


def _write_texts(
    folder: Path,
    rules: CompetitionFile,
    dataset: Dataset,
    reference: Reference,
    phases: tuple[Phase, ...],
    image: str,
) -> None:
    limits, solution = rules.limits, dataset.solution()
    values: dict[str, Any] = {
        "name": rules.name,
        "description": f"Image classification, {len(dataset.info.classes)} classes: macro F1 against cost.",
        "image": image,
        "phases": phases,
        "columns": columns(rules),
        "seconds": round(max(limits.wall_seconds, limits.evaluate_seconds) + _SLACK_SECONDS),
        "max_per_day": rules.leaderboard.max_per_day or _ANY_NUMBER,
        "max_submissions": rules.leaderboard.max_total or _ANY_NUMBER,
        "score": rules.score,
        "formula": _formula(rules, reference),
        "budget": rules.budget.model_dump(exclude_none=True),
        "baseline_f1": reference.f1_on("Public"),
        "unranked": UNRANKED,
        "classes": dataset.info.classes,
        "licence": dataset.info.licence,
        "source": dataset.info.source,
        "num_train": len(dataset.train()),
        "num_test": len(solution),
        "num_public": sum(row.usage == "Public" for row in solution),
    }
    environment = jinja2.Environment(  # noqa: S701 - Markdown and YAML, where tojson quotes
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    (folder / "pages").mkdir()
    texts = {"competition.yaml": "competition.yaml", "starting_kit.md": "starting_kit/README.md"}
    texts |= {f"pages/{page}.md": f"pages/{page}.md" for page in ("overview", "evaluation", "data", "terms")}
    for source, written in texts.items():
        template = environment.from_string(_templates().joinpath(source).read_text(encoding="utf-8"))
        write_whole(folder / written, template.render(values))


def columns(rules: CompetitionFile) -> list[Column]:
    """Return the leaderboard's columns; the first is what ranks."""
    return [
        Column("score", "Score", "asc", 4),
        Column("macro_f1", "Macro F1", "desc", 4),
        Column("accuracy", "Accuracy", "desc", 4),
        Column("macs_ratio", "Cost / baseline", "asc", 4),
        Column("f1_term", "F1 term", "asc", 4),
        *(Column(name, name.replace("_", " "), "asc", 0) for name in cost_columns(rules)),
    ]


def _formula(rules: CompetitionFile, reference: Reference) -> str:
    """Return the costs that are scored, each with what follows it; empty where none is."""
    counts, terms = Counts.of(reference), []
    for name, weight in rules.score.weights.items():
        ratio = f"{name} / {getattr(counts, name):,}"
        term = f"exp(2 x {ratio})" if rules.score.exponential else ratio
        terms.append(f"{'' if weight == 1 else f'{weight:g} x '}{term} + ")
    return "".join(terms)


def _logo(dataset: Dataset) -> bytes:
    """Return a mosaic of training images, as a PNG file."""
    picture = Image.new("RGB", (_TILE * _ACROSS, _TILE * _ACROSS), "white")
    for place, row in enumerate(dataset.train()[: _ACROSS**2]):
        tile = dataset.images.open(row.image_id).resize((_TILE, _TILE))
        picture.paste(tile, (place % _ACROSS * _TILE, place // _ACROSS * _TILE))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _templates() -> Any:
    return files("starter.organizer.bundles").joinpath("platforms", "codabench")


def _zip(folder: Path, target: Path) -> dict[str, int]:
    """Zip a folder, with competition.yaml at the top; return the bytes of each part."""
    sizes: dict[str, int] = {}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in _files(folder):
            name = path.relative_to(folder)
            member = zipfile.ZipInfo(name.as_posix(), _TIME)
            member.external_attr = 0o100644 << 16
            archive.writestr(member, path.read_bytes(), zipfile.ZIP_DEFLATED)
            sizes[name.parts[0]] = sizes.get(name.parts[0], 0) + path.stat().st_size
    return sizes


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*") if path.is_file())
