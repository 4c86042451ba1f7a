"""Images per second of `starter train` against a plain PyTorch loop, on the same model, images and cores.

    python benchmarks/train.py submissions/separable --epochs 5 --rounds 3

The plain loop is what a tutorial shows: torchvision's ImageFolder and DataLoader with as
many workers as there are cores, transforms of the same kind on PIL images, AdamW and cross
entropy. It decodes each image in each epoch. Both sides are timed from the start to the
end: decoding everything once, worker start-up, and on the kit's side the averaged weights,
gradient clipping and a checkpoint after each epoch are all in it. The sides take turns.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from starter.contract.system.processors import available, waiting

os.environ.update(waiting(os.environ))  # before torch is loaded: as the kit's own processes

import torch
from ablation import copied
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from starter.contract.competition import load_competition
from starter.contract.submissions import SubmissionSource, discover_one
from starter.data.dataset import Dataset, open_dataset
from starter.plugin.load import load_plugin_apart
from starter.recipes.training.loop import train
from starter.recipes.training.settings import TrainSettings
from starter.submission import pipeline, transforms

BATCH = 64


def write_folder(dataset: Dataset, folder: Path) -> Path:
    """Write the training images as ImageFolder wants them: one folder for each class."""
    for name in dataset.info.classes:
        (folder / name).mkdir(parents=True)
    for i, row in enumerate(dataset.train()):
        name = f"{i:06d}{Path(row.image_id).suffix}"
        (folder / dataset.info.classes[row.label] / name).write_bytes(dataset.images.read(row.image_id))
    return folder


def plain_loop(model: nn.Module, images: Path, side: int, dataset: Dataset, epochs: int) -> float:
    """Train the tutorial's way; return images per second."""
    started = time.perf_counter()
    augmented = v2.Compose(
        [
            v2.RGB(),
            v2.Resize((side, side)),
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(12, translate=(0.1, 0.1), scale=(0.8, 1.3)),
            v2.ColorJitter(brightness=0.2, contrast=0.2),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(dataset.info.mean, dataset.info.std),
            v2.RandomErasing(0.25, scale=(0.002, 0.06)),
        ]
    )
    workers = available().threads
    loader = DataLoader(
        ImageFolder(str(images), augmented), BATCH, shuffle=True, num_workers=workers, drop_last=True
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    loss_function = nn.CrossEntropyLoss(label_smoothing=0.1)
    model.train()
    seen = 0
    for _ in range(epochs):
        for batch, labels in loader:
            loss = loss_function(model(batch), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(labels)
    return seen / (time.perf_counter() - started)


def recipe(source: SubmissionSource, dataset: Dataset, epochs: int) -> float:
    """Train with the kit; return images per second."""
    settings = TrainSettings(epochs=epochs, batch_size=BATCH, validation_share=0)
    return train(source, dataset, settings, log=lambda _: None).images_per_second


def main() -> None:
    """Let both sides take turns and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("plugin", type=Path)
    parser.add_argument("--data", type=Path, help="default: the competition's")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=available().threads)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rules = load_competition(None)
    dataset = open_dataset(given.data or rules.path(rules.dataset))
    original = discover_one(given.plugin)
    load = os.getloadavg()[0]
    print(f"torch {torch.__version__}, {os.cpu_count()} cores, {given.threads} threads, load {load:.1f}")
    print(f"{original.name}, {len(dataset.train()):,} images, batch {BATCH}, {given.epochs} epochs\n")
    print("round  recipe, images/s  plain loop, images/s  ratio")
    ratios = []
    with tempfile.TemporaryDirectory(prefix="starter-train-") as place:
        images = write_folder(dataset, Path(place) / "images")
        source = copied(original, Path(place))
        for number in range(given.rounds):
            ours = recipe(source, dataset, given.epochs)
            submission = load_plugin_apart(source, dataset.competition, load_weights=False).submission
            side = pipeline.input_shape(transforms.describe(submission.transforms))[1]
            plain = plain_loop(submission.model, images, side, dataset, given.epochs)
            ratios.append(ours / plain)
            print(f"{number + 1:5d}  {ours:16,.0f}  {plain:20,.0f}  {ratios[-1]:5.2f}", flush=True)
    print(f"\nmedian of the ratios {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
