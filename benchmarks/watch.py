"""Whether months of a watch stay small: memory, temporary files and the site while entries arrive.

Writes a data set of sixty drawn images, starts `starter batch --watch --html` on an empty folder, renames
tiny entries in for as long as few wait, and prints what the command, its processes and its files take. Each
entry is evaluated for real. What must grow is the store, by its results, and the folder of the entries.

    python benchmarks/watch.py                        200 entries
    python benchmarks/watch.py --entries 5000         what a long competition has
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
from batch import kit
from PIL import Image

from starter.data.writer import Description, Item, Split, write_dataset
from starter.sandbox.usage import folder_usage

CLASSES = ("Metal", "Paper", "Plastic")
TEAMS = 20
MOST_WAITING = 10
PLUGIN = """
import torch
from torch import nn
from torchvision.transforms import v2
from starter import Submission, hookimpl

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 3)
        torch.manual_seed({number})
        with torch.no_grad():
            self.head.weight.copy_(torch.eye(3) + torch.rand(3, 3) / 50)
            self.head.bias.zero_()
    def forward(self, images):
        return self.head(images.mean((2, 3)))

@hookimpl
def starter_submission(competition):
    return Submission(
        model=Network(),
        transforms=[v2.Resize((8, 8)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
    )
"""
COLUMNS = (
    "entries",
    "seconds",
    "command",
    "others",
    "files",
    "threads",
    "temporary",
    "images",
    "site",
    "store",
)
HEAD = """memory and disk in MiB; "others" are the command's other processes, and what they share counts once;
files and threads are those of the command"""


@dataclass(frozen=True)
class Sizes:
    """What a watch takes at one moment; memory and disk in MiB."""

    command: float
    others: float
    files: int
    threads: int
    temporary: float
    images: float
    site: float
    store: float

    @classmethod
    def of(cls, process: psutil.Process, place: Path) -> "Sizes":
        """Look at a watch and its folder."""
        others = 0
        for child in process.children(recursive=True):
            try:
                others += child.memory_full_info().pss
            except psutil.Error:
                continue
        kept = place / ".starter"
        return cls(
            process.memory_info().rss / 2**20,
            others / 2**20,
            process.num_fds(),
            process.num_threads(),
            mib(place / "temporary"),
            mib(kept / "images"),
            mib(place / "public"),
            sum(path.stat().st_size for path in kept.glob("results.sqlite*")) / 2**20,
        )


def mib(folder: Path) -> float:
    """Return the size of a folder's files."""
    return folder_usage(folder)[0] / 2**20 if folder.exists() else 0.0


def drawn(label: int, seed: int) -> bytes:
    """Return a JPEG whose strongest channel is its label."""
    pixels = np.random.default_rng(seed).integers(40, 120, (12, 16, 3), dtype=np.uint8)
    pixels[:, :, label] += 100
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def write_competition(place: Path) -> None:
    """Write the data, the rules and a measured baseline."""
    splits: tuple[Split, ...] = ("train", "Public", "Private", "train")
    items = (Item(f"{i:03d}.jpg", drawn(i % 3, i), i % 3, splits[i % 4]) for i in range(60))
    write_dataset(place / "data", items, Description(name="drawn", classes=CLASSES))
    (place / "baseline").mkdir()
    (place / "baseline" / "plugin.py").write_text(PLUGIN.format(number=0), encoding="utf-8")
    (place / "competition.toml").write_text('name = "A watch"\ndataset = "data"\n', encoding="utf-8")
    kit("baseline", "measure", folder=place)
    for name in ("entries", "public", "temporary"):
        (place / name).mkdir()


def hand_in(place: Path, number: int) -> None:
    """Rename one entry in."""
    team = place / "entries" / f"team{number % TEAMS:02d}"
    team.mkdir(exist_ok=True)
    partial = place / "next.py"
    partial.write_text(PLUGIN.format(number=number), encoding="utf-8")
    os.utime(partial, (time.time() - 60,) * 2)
    partial.rename(team / f"entry{number:06d}.py")


def watch(place: Path, count: int, every: float, options: list[str]) -> list[Sizes]:
    """Have so many entries evaluated; print and return what the watch takes, ten times and at the end."""
    command = [sys.executable, "-m", "starter", "batch", "entries", "--watch", "--html", "public/site"]
    environment = os.environ | {"TMPDIR": str(place / "temporary")}
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own
            [*command, "--every", str(every), *options], cwd=place, stderr=log, env=environment
        )
    looked_at = psutil.Process(process.pid)
    began, handed, found, shown = time.monotonic(), 0, [], 0
    while process.poll() is None:
        done = len(re.findall(rb"^\d+/\d+  ", (place / "log").read_bytes(), re.MULTILINE))
        while handed < min(count, done + MOST_WAITING):
            handed += 1
            hand_in(place, handed)
        if done >= shown:
            shown = done + max(1, count // 10)
            found.append(Sizes.of(looked_at, place))
            show(done, time.monotonic() - began, found[-1])
        if done >= count:
            time.sleep(2 * every)
            found.append(Sizes.of(looked_at, place))
            show(done, time.monotonic() - began, found[-1])
            process.send_signal(signal.SIGTERM)
            break
        time.sleep(every)
    if process.wait():
        sys.exit((place / "log").read_text(encoding="utf-8"))
    return found


def show(done: int, seconds: float, sizes: Sizes) -> None:
    """Print one line of the table."""
    values = (done, round(seconds), *vars(sizes).values())
    texts = (f"{v:.1f}" if isinstance(v, float) else f"{v:,}" for v in values)
    print(" ".join(f"{text:>9}" for text in texts), flush=True)


def main() -> None:
    """Run the watch, and say what has grown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=200)
    parser.add_argument("--every", type=float, default=0.5)
    parser.add_argument("--isolation", default="auto")
    parser.add_argument("--jobs", default="1")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o711)
        write_competition(place)
        print(HEAD)
        print(" ".join(f"{name:>9}" for name in COLUMNS))
        options = ["--isolation", arguments.isolation, "--jobs", arguments.jobs]
        found = watch(place, arguments.entries, arguments.every, options)
        left = [path.name for path in (place / "temporary").iterdir()]
        early, last = found[min(2, len(found) - 1)], found[-1]
        print(
            f"since the third line: command {last.command - early.command:+.1f} MiB,"
            f" others {last.others - early.others:+.1f} MiB, open files {last.files - early.files:+d},"
            f" temporary {last.temporary - early.temporary:+.1f} MiB; left at the end: {left or 'nothing'}"
        )


if __name__ == "__main__":
    main()
