"""What each switch of `starter train` is worth: one change at a time, several seeds.

    python benchmarks/ablation.py submissions/separable --epochs 30 --seeds 3
    python benchmarks/ablation.py submissions/separable --epochs 30 --only teacher --teacher front/wide96
    python benchmarks/ablation.py submissions/separable --epochs 30 --seeds 0     # the table of what is there

Every run is one line of the results file, and is not run again: a killed ablation goes on
with the same command. Only runs of the same plugin, data and epochs are compared. F1 is on
all images of solution.csv, which training does not touch, by the trained module itself;
`starter score` runs its graph. "+-" is the standard deviation over the seeds; "worth" is
the mean difference from the defaults with the same seeds, with its standard error; "time"
is the median ratio to those. The plugin itself is left as it is.
"""

import argparse
import hashlib
import json
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from starter.contract.competition import load_competition
from starter.contract.submissions import Kind, SubmissionSource, discover_one
from starter.data.dataset import Dataset, Labelled, open_dataset
from starter.evaluation.scoring import macro_f1
from starter.plugin.load import load_plugin_apart
from starter.recipes.training.data import load
from starter.recipes.training.loop import train
from starter.recipes.training.settings import TrainSettings
from starter.submission import transforms

VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "--augment 0": {"augment": 0},
    "--augment 2": {"augment": 2},
    "--no-flip": {"flip": False},
    "--policy randaugment": {"policy": "randaugment"},
    "--policy trivialaugment": {"policy": "trivialaugment"},
    "--mixup 0.2": {"mixup": 0.2},
    "--cutmix 1": {"cutmix": 1},
    "--label-smoothing 0": {"label_smoothing": 0},
    "--balance none": {"balance": "none"},
    "--balance inverse": {"balance": "inverse"},
    "--balance none --sampling balanced": {"balance": "none", "sampling": "balanced"},
    "--ema-decay 0": {"ema_decay": 0},
    "--warmup 0": {"warmup": 0},
    "--weight-decay 0": {"weight_decay": 0},
    "--clip-norm 1000": {"clip_norm": 1000},
    "--optimizer sgd --lr 0.3 --weight-decay 0.0005": {"optimizer": "sgd", "lr": 0.3, "weight_decay": 5e-4},
    "--patience 10": {"patience": 10},
    "--amp bfloat16": {"amp": "bfloat16"},
    "--no-channels-last": {"channels_last": False},
}
TAUGHT: dict[str, dict[str, Any]] = {
    "--teacher": {},
    "--teacher --teacher-views 16": {"teacher_views": 16},
    "--teacher --teacher-weight 0.9": {"teacher_weight": 0.9},
    "--teacher --temperature 4": {"temperature": 4},
}


def copied(source: SubmissionSource, folder: Path) -> SubmissionSource:
    """Copy a plugin without its weights, so that the one that is measured stays as it is."""
    if source.kind is Kind.FOLDER:
        target = folder / source.name
        ignore = shutil.ignore_patterns("*.safetensors", "__pycache__")
        return discover_one(Path(shutil.copytree(source.path, target, ignore=ignore)))
    return discover_one(Path(shutil.copy(source.path, folder)))


def run_once(source: SubmissionSource, dataset: Dataset, settings: TrainSettings) -> dict[str, Any]:
    """Train a copy and run it on the evaluation images."""
    with tempfile.TemporaryDirectory(prefix="starter-ablation-") as place:
        copy = copied(source, Path(place))
        report = train(copy, dataset, settings, log=lambda _: None)
        submission = load_plugin_apart(copy, dataset.competition).submission
    rows = [Labelled(row.image_id, row.label) for row in dataset.solution()]
    images = load(dataset, rows, transforms.describe(submission.transforms)).images
    with torch.inference_mode():
        model = submission.model.eval()
        found = torch.cat([model(part.float()).argmax(1) for part in torch.split(images, 128)])
    f1 = macro_f1([row.label for row in rows], found.tolist(), dataset.info.classes).macro
    return {
        "macro_f1": f1,
        "validation_macro_f1": report.macro_f1,
        "epochs": report.runs[0].epochs,
        "seconds": report.seconds,
    }


def table(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """Return the table, one variant a row."""
    found = {name: {line["seed"]: line for line in lines if line["variant"] == name} for name in names}
    plain = found["defaults"]
    rows = ["| switch | macro F1 | worth | time | seeds |", "|---|---|---|---|---|"]
    for name in names:
        if not (runs := found[name]):
            continue
        scores = [run["macro_f1"] for run in runs.values()]
        both = sorted(runs.keys() & plain.keys())
        worth = [runs[seed]["macro_f1"] - plain[seed]["macro_f1"] for seed in both]
        text = ""
        if name != "defaults" and worth:
            text = f"{statistics.mean(worth):+.4f}"
            text += f" +- {statistics.stdev(worth) / len(worth) ** 0.5:.4f}" if len(worth) > 1 else ""
        spread = f" +- {statistics.stdev(scores):.4f}" if len(scores) > 1 else ""
        slower = [runs[seed]["seconds"] / plain[seed]["seconds"] for seed in both]
        time = f"x {statistics.median(slower):.2f}" if slower else ""
        rows.append(f"| `{name}` | {statistics.mean(scores):.4f}{spread} | {text} | {time} | {len(scores)} |")
    return "\n".join(rows)


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("plugin", type=Path)
    parser.add_argument("--data", type=Path, help="default: the competition's")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--teacher", type=Path, action="append", default=[])
    parser.add_argument("--only", action="append", default=[], help="variants whose name contains it")
    parser.add_argument("--without", action="append", default=[], help="variants whose name does not")
    parser.add_argument("--results", type=Path, default=Path("ablation.jsonl"))
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rules = load_competition(None)
    dataset = open_dataset(given.data or rules.path(rules.dataset))
    source = discover_one(given.plugin)
    teachers = tuple(given.teacher)
    for teacher in teachers:
        load_plugin_apart(discover_one(teacher), dataset.competition)  # before hours of training
    taught = {name: change | {"teachers": teachers} for name, change in TAUGHT.items()}
    variants = VARIANTS | (taught if teachers else {})
    wanted = ("defaults", *(given.only or [""]))
    variants = {name: v for name, v in variants.items() if any(part in name for part in wanted)}
    unwanted = [name for name in variants if any(part in name for part in given.without)]
    variants = {name: v for name, v in variants.items() if name == "defaults" or name not in unwanted}
    digest = hashlib.sha256(dataset.fingerprint().encode())
    for path in sorted(source.files()):
        if path.suffix == ".py":
            digest.update(path.read_bytes())
    key = {"run": digest.hexdigest()[:16], "of_epochs": given.epochs, "threads": given.threads}
    teachers_of = {name: [str(t) for t in teachers] if name in TAUGHT else [] for name in variants}
    text = given.results.read_text(encoding="utf-8") if given.results.exists() else ""
    lines = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
    lines = [
        line
        for line in lines
        if all(line[k] == v for k, v in key.items()) and line["teachers"] == teachers_of.get(line["variant"])
    ]
    known = {(line["variant"], line["seed"]) for line in lines}
    for seed in range(given.seeds):
        for name, change in variants.items():
            if (name, seed) in known:
                continue
            settings = TrainSettings(**{"epochs": given.epochs, "seed": seed} | change)
            line = key | {"variant": name, "teachers": teachers_of[name], "seed": seed}
            line |= run_once(source, dataset, settings)
            with given.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            lines.append(line)
            print(
                f"seed {seed}  {name}: macro F1 {line['macro_f1']:.4f}, {line['seconds']:.0f} s", flush=True
            )
    print(f"\n{source.name}, {dataset.info.name}, {given.epochs} epochs, {given.threads} thread(s)\n")
    print(table(lines, list(variants)))


if __name__ == "__main__":
    main()
