"""A submission as it was counted: its graph as data, the images that test it, and the kit's own answers.

The submission's code runs in its own process, as for a score; this module starts from the graph.
"""

import shutil
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from starter.contract.competition import CompetitionFile
from starter.contract.errors import CATALOGUE, HostError, ParticipantError, Status
from starter.contract.isolation import Isolation
from starter.contract.submissions import Kind, SubmissionSource
from starter.data.dataset import Dataset
from starter.evaluation.measure import Images, LocalMeasurer, Measurement
from starter.evaluation.runner.image_batches import image_batches
from starter.graph.analysis import Trace, trace
from starter.graph.cost_rules import load_rules
from starter.graph.executor import Program
from starter.graph.reader import read_graph
from starter.submission import transform_records
from starter.submission.transform_records import TransformRecord

MOST_IMAGES = 64
"""Most evaluation images that test an exported file."""

Logits = np.ndarray[Any, np.dtype[np.float32]]
"""float32 (images, num_classes)."""


@dataclass(frozen=True)
class Counted:
    """One submission, counted and run."""

    name: str
    """The submission's name."""
    classes: tuple[str, ...]
    """The names of the logits, in order."""
    walk: Trace
    """The graph."""
    transforms: tuple[TransformRecord, ...]
    """The transforms that turn an image into its input."""
    macs: int
    """Of one image."""
    cost_version: str
    """The cost rule by which it was counted and run."""
    images: torch.Tensor
    """The first evaluation images: float32 (images, C, H, W)."""
    official: Logits
    """The runner's logits for them, as for a score."""
    plain: Logits
    """The same graph's logits in float32, with no value rounded."""


def count(
    source: SubmissionSource, rules: CompetitionFile, dataset: Dataset, isolation: Isolation
) -> Counted:
    """Export, count and run a submission on a few evaluation images, without reading a label.

    Raises:
        ParticipantError: the submission is not valid.
        HostError: one of the kit's processes does not start, or broke.
        UsageError: image files are broken.
    """
    ids = tuple(dataset.test_ids()[:MOST_IMAGES])
    with tempfile.TemporaryDirectory(prefix="starter-", ignore_cleanup_errors=True) as place:
        graph, weights = (Path(place) / name for name in ("graph", "weights"))
        found, cost_version = _measured(source, rules, dataset, isolation, ids, (graph, weights))
        operators = load_rules([rules.path(name) for name in rules.operator_costs])
        walk = trace(read_graph(graph, weights), num_classes=len(dataset.info.classes), operators=operators)
    records = transform_records.load(found.transforms.decode())
    program = Program(walk, rounding=None)
    images = torch.cat(list(image_batches(dataset.root, ids, records, program.batch_size)))
    assert found.reply.cost is not None
    assert found.logits is not None
    return Counted(
        name=source.name,
        classes=dataset.info.classes,
        walk=walk,
        transforms=tuple(records),
        macs=found.reply.cost.macs,
        cost_version=cost_version,
        images=images,
        official=found.logits,
        plain=torch.cat([program(part) for part in torch.split(images, program.batch_size)]).numpy(),
    )


def _measured(
    source: SubmissionSource,
    rules: CompetitionFile,
    dataset: Dataset,
    isolation: Isolation,
    ids: tuple[str, ...],
    kept: tuple[Path, Path],
) -> tuple[Measurement, str]:
    """Return the runner's reply and its cost rule; copies of the graph and its weights go to `kept`."""
    images = Images(dataset.root.resolve(), ids, dataset.competition)
    readable = [source.folder] if source.kind is Kind.ENTRY_POINT else []
    measurer = LocalMeasurer(rules, images, isolation=isolation)
    try:
        with measurer.sandbox(forks=False, readable=readable) as sandbox:
            exported = measurer.export(source, sandbox, threading.Event())
        if exported.is_complete:
            for path in kept:
                shutil.copyfile(exported.folder / path.name, path)
        found = measurer.run(source, lambda: exported)
        if found.problems:
            is_ours = CATALOGUE[found.problems[0].code].status is Status.HOST_ERROR
            raise (HostError if is_ours else ParticipantError)(found.problems)
        return found, measurer.hello.cost_version
    finally:
        measurer.close()
