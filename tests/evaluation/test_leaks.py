"""An entry that tries to send out pixels: its author's copy is the same, whatever the images show."""

import io
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from conftest import CLASSES, GOOD, drawn_image
from PIL import Image

from starter.contract.competition import CompetitionFile, Limits
from starter.contract.errors import Code
from starter.contract.isolation import Isolation, Level
from starter.contract.results import Reference
from starter.contract.submissions import discover
from starter.data.dataset import Dataset
from starter.data.writer import Description, Item, Split, write_dataset
from starter.evaluation.evaluate import Evaluator
from starter.evaluation.recording import evidence_of, record_of
from starter.evaluation.records import Context
from starter.evaluation.verify import write_report

FORWARD = "return self.head(images.mean((2, 3)))"
NEVER = datetime(2026, 1, 1, tzinfo=UTC)
PIXEL = "pixel = images[:, 0, 3, 3].reshape(-1, 1)\n        "
ENTRIES = {
    # the first class wins, and by how much says what the pixel is
    "probabilities": "return torch.cat([1 + pixel, pixel * 0, pixel * 0], 1)",
    "message": "return torch.cat([torch.log(pixel - 5), pixel, pixel], 1)",
    # numbers so small that processors take many times as long for them, where the pixel is dark
    "time": (
        "small = self.head((images * (pixel.reshape(-1, 1, 1, 1) * 1e-38)).mean((2, 3)))\n"
        "        return torch.cat([1 + 0 * small[:, :1], pixel * 0, pixel * 0], 1)"
    ),
}


def written(folder: Path, *, inverted: bool) -> Dataset:
    """Write images whose labels are the same and whose pixels are not."""
    splits: tuple[Split, ...] = ("train", "Public", "Private", "Public")
    items = []
    for number in range(16):
        image = drawn_image(number % 3, number)
        if inverted:
            buffer = io.BytesIO()
            Image.fromarray(255 - np.asarray(Image.open(io.BytesIO(image)))).save(buffer, "JPEG")
            image = buffer.getvalue()
        items.append(Item(f"{number:03d}.jpg", image, number % 3, splits[number % 4]))
    return write_dataset(folder, items, Description(name="easy", classes=CLASSES))


def copies(dataset: Dataset, folder: Path, reference: Reference, *, withhold: bool) -> dict[str, str]:
    """Return everything that each entry's author gets, but when it was made and what process time it took."""
    rules = CompetitionFile(name="test", limits=Limits(memory_mb=3000))
    reference = reference.model_copy(update={"dataset_fingerprint": dataset.fingerprint()})
    holds = Context(data="", baseline="", rules="", cost_version="")
    found = {}
    with Evaluator(rules, dataset, reference=reference, isolation=Isolation(Level.NONE)) as evaluator:
        for measured in evaluator.evaluate(discover([folder]), "Public"):
            name = measured.result.name
            record = record_of(evaluator, measured, submission=name, context=holds, limits=rules.limits)
            same = record.model_copy(update={"evaluated_at": NEVER, "used": {}})
            place = folder.parent / dataset.root.name / f"{name}{withhold}"
            write_report(place, same, evidence_of(measured), dataset, withhold_predictions=withhold)
            found[name] = "\n".join(f"{p.name}: {p.read_bytes()!r}" for p in sorted(place.iterdir()))
    return found


@pytest.mark.long
def test_no_value_of_an_image_is_in_what_an_author_gets(tmp_path: Path, reference: Reference) -> None:
    folder = tmp_path / "entries"
    folder.mkdir()
    for name, forward in ENTRIES.items():
        assert FORWARD in GOOD
        (folder / f"{name}.py").write_text(GOOD.replace(FORWARD, PIXEL + forward))
    plain, inverted = (written(tmp_path / str(number), inverted=bool(number)) for number in range(2))

    withheld = [copies(dataset, folder, reference, withhold=True) for dataset in (plain, inverted)]
    told = [copies(dataset, folder, reference, withhold=False) for dataset in (plain, inverted)]

    assert withheld[0] == withheld[1]
    assert Code.NON_FINITE_LOGITS in withheld[0]["message"]
    assert told[0]["message"] == told[1]["message"]
    assert told[0]["probabilities"] != told[1]["probabilities"]  # the entry does try
    assert "macro_f1" in withheld[0]["probabilities"]
