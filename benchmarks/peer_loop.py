"""One turn of the naive loop of batch.py: trust the plugin, run it on the images, print the macro F1.

python benchmarks/peer_loop.py PLUGIN DATA
"""

import csv
import importlib.util
import io
import sys
import zipfile
from pathlib import Path

import torch
from PIL import Image
from sklearn.metrics import f1_score
from torchvision.transforms import v2

from starter.data.dataset import open_dataset

BATCH = 32


def main() -> None:
    """Evaluate one plugin."""
    plugin, data = map(Path, sys.argv[1:])
    spec = importlib.util.spec_from_file_location("plugin", plugin)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    info = open_dataset(data)
    submission = module.starter_submission(info.competition)
    model, transform = submission.model.eval(), v2.Compose(submission.transforms)
    with (data / "solution.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    predictions: list[str] = []
    with zipfile.ZipFile(data / "images.zip") as archive, torch.inference_mode():
        for start in range(0, len(rows), BATCH):
            images = [
                transform(Image.open(io.BytesIO(archive.read(row["image_id"]))).convert("RGB"))
                for row in rows[start : start + BATCH]
            ]
            labels = model(torch.stack(images)).argmax(1).tolist()
            predictions += [info.info.classes[label] for label in labels]
    print(f1_score([row["label"] for row in rows], predictions, average="macro", zero_division=0))


if __name__ == "__main__":
    main()
