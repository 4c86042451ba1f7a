"""The peer of run_speed.py: timm's validate.py, rebuilt on the packaged evaluation images.

Kept from it: create_model, create_loader with its defaults (batch 256, at most 4 workers,
one for each core), channels-first eager forward under inference_mode,
cross-entropy and top-1/top-5 accuracy by AverageMeter for each batch. Left out: mixed
precision, torchscript, distribution, test-time pooling and the log file. Added: macro F1,
which is what the kit reports.
"""

import argparse
import io
import os
import zipfile
from pathlib import Path

import torch
from PIL import Image
from sklearn.metrics import f1_score
from timm.data.loader import create_loader
from timm.models import create_model
from timm.utils.metrics import AverageMeter, accuracy
from torch import nn

from starter.dataset import open_dataset

DATA = Path(__file__).parents[1] / "data" / "waste"


class Images(torch.utils.data.Dataset[tuple[object, int]]):
    """The evaluation images and labels, decoded when they are asked for."""

    def __init__(self) -> None:
        self.rows = open_dataset(DATA).solution()
        self.zip: zipfile.ZipFile | None = None
        self.transform: nn.Module | None = None  # set by create_loader

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[object, int]:
        self.zip = self.zip or zipfile.ZipFile(DATA / "images.zip")  # one handle in each worker
        row = self.rows[index]
        image: object = Image.open(io.BytesIO(self.zip.read(row.image_id))).convert("RGB")
        return (self.transform(image) if self.transform else image), row.label


def main() -> None:
    """Evaluate one model and print what validate.py prints, and the macro F1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--size", type=int, default=112)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = create_model(options.model, num_classes=6).eval()
    loader = create_loader(
        Images(),  # type: ignore[arg-type] # it takes any map-style data set
        input_size=(3, options.size, options.size),
        batch_size=256,
        use_prefetcher=False,
        num_workers=min(4, os.cpu_count() or 1),
        crop_pct=1.0,
        pin_memory=False,
        device=torch.device("cpu"),
    )
    criterion = nn.CrossEntropyLoss()
    losses, top1, top5 = AverageMeter(), AverageMeter(), AverageMeter()
    predictions, labels = [], []
    with torch.inference_mode():
        for images, target in loader:
            output = model(images)
            losses.update(criterion(output, target).item(), len(target))
            for meter, value in zip((top1, top5), accuracy(output, target, topk=(1, 5)), strict=True):
                meter.update(value.item(), len(target))
            predictions += output.argmax(1).tolist()
            labels += target.tolist()
    macro = f1_score(labels, predictions, average="macro", zero_division=0)
    print(f"loss {losses.avg:.4f}  top-1 {top1.avg:.3f}  top-5 {top5.avg:.3f}  macro F1 {macro:.4f}")


if __name__ == "__main__":
    main()
