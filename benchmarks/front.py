"""Train eight networks of one family, from under half a million to 55 million MACs; draw their Pareto front.

    python benchmarks/front.py front --png docs/front.png
    python benchmarks/front.py front --only taught64 --only taught80

Each is `submissions/separable` at another resolution and with other widths, a plugin in
the given folder. `wide96` is trained first, for it teaches the others. What is trained is
not trained again: a killed run goes on with the same command. The commands are printed, so
that each can be typed by hand. F1 is on all evaluation images, by `starter score`.
All eight take two to three hours on one thread.
"""

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from starter.evaluation.scoring import pareto_front

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "submissions" / "separable"
TEACHER = "wide96"
ALL_IMAGES = ("--ema-decay", "0.998", "--validation-share", "0")
VIEWS = (*ALL_IMAGES, "--teacher", TEACHER, "--teacher-views", "24")
TAUGHT = (*VIEWS, "--teacher-weight", "0.9")
STUDENT = (*TAUGHT, "--augment", "0.7", "--weight-decay", "0.02")
NARROW = (12, 24, 56, 112)


@dataclass(frozen=True)
class Member:
    """A network of the family and how it is trained."""

    side: int
    widths: tuple[int, int, int, int]
    epochs: int
    switches: tuple[str, ...]
    """Of `starter train`."""


MEMBERS = {
    TEACHER: Member(96, (32, 64, 128, 208), 140, (*ALL_IMAGES, "--mixup", "0.2")),
    "taught32": Member(32, NARROW, 700, STUDENT),
    "taught40": Member(40, NARROW, 700, STUDENT),
    "taught48": Member(48, NARROW, 700, STUDENT),
    "taught64": Member(64, NARROW, 700, STUDENT),
    "taught80": Member(80, NARROW, 500, STUDENT),
    "taught96": Member(96, (16, 32, 72, 144), 160, TAUGHT),
    "wide128": Member(128, (44, 88, 176, 288), 110, (*VIEWS, "--teacher-weight", "0.5", "--mixup", "0.2")),
}


def build(member: Member, folder: Path) -> None:
    """Write the plugin without weights, all at once."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    docstring = f'"""submissions/separable at {member.side} pixels, written by benchmarks/front.py."""'
    for path in SOURCE.glob("*.py"):
        text = path.read_text(encoding="utf-8").replace("(64, 64)", f"({member.side}, {member.side})")
        text = text.replace("(batch, 3, 64, 64)", f"(batch, 3, {member.side}, {member.side})")
        text = re.sub(r"^WIDTHS = .*$", f"WIDTHS = {member.widths}", text, flags=re.MULTILINE)
        text = re.sub(r'name="[^"]*"', f'name="{folder.name}"', text)
        if path.name == "plugin.py":
            text = re.sub(r'\A""".*?"""', docstring, text, flags=re.DOTALL)
        (partial / path.name).write_text(text, encoding="utf-8")
    partial.rename(folder)


def is_trained(folder: Path) -> bool:
    """Return whether a plugin has weights, and not those of a run that was stopped."""
    checkpoints = (folder.parent / ".starter" / folder.name).glob("seed-*.pt")
    return (folder / "weights.safetensors").exists() and not list(checkpoints)


def train(name: str, place: Path) -> None:
    """Train a member where it is not trained."""
    member, folder = MEMBERS[name], place / name
    if not folder.exists():
        build(member, folder)
    if is_trained(folder):
        return
    switches = [str(place / TEACHER) if word == TEACHER else word for word in member.switches]
    command = ["starter", "train", str(folder), "--epochs", str(member.epochs), *switches, "--resume"]
    print(shlex.join(command), flush=True)
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own
    print(f"  {time.monotonic() - started:,.0f} s", flush=True)


def scored(places: list[Path]) -> list[dict[str, Any]]:
    """Return what `starter score` finds, by rising MACs."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "scores.json"
        command = ["-m", "starter", "score", *map(str, places), "--json", str(report)]
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own
        found: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["results"]
    return sorted(found, key=lambda result: result["macs"])


def table(results: list[dict[str, Any]]) -> str:
    """Return one row for each network."""
    rows = ["| network | pixels | widths | MACs | macro F1 | score |", "|---|---|---|---|---|---|"]
    for r in results:
        member = MEMBERS[r["name"]]
        widths = ", ".join(map(str, member.widths))
        numbers = f"{r['macs']:,} | {r['macro_f1']:.4f} | {r['score']:.4f}"
        rows.append(f"| {r['name']} | {member.side} | {widths} | {numbers} |")
    return "\n".join(rows)


def draw(results: list[dict[str, Any]], reference: dict[str, Any], path: Path) -> None:
    """Draw MACs against macro F1, the front as steps, and the packaged baseline."""
    points = [(r["macs"] / 1e6, r["macro_f1"]) for r in results]
    figure = Figure(figsize=(9, 4.6), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    best = [points[i] for i in pareto_front(points)]
    axes.step(*zip(*best, strict=True), where="post", color="#2563eb", alpha=0.4)
    axes.scatter(*zip(*points, strict=True), color="#2563eb", zorder=3, label="the separable family")
    for result, (macs, f1) in zip(results, points, strict=True):
        axes.annotate(result["name"], (macs, f1), (6, -13), textcoords="offset points", fontsize=8)
    own = (reference["macs"] / 1e6, reference["macro_f1"])
    axes.scatter(*own, color="#b45309", marker="D", zorder=3, label="the baseline")
    axes.set_xscale("log")
    axes.margins(x=0.08, y=0.1)
    ticks = [0.5, 1, 2, 5, 10, 20, 50]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("MACs of one image, millions")
    axes.set_ylabel("macro F1, evaluation images")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, metadata={"Software": None})


def main() -> None:
    """Train what is missing, then print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", action="append", choices=list(MEMBERS), help="these networks")
    parser.add_argument("--png", type=Path)
    given = parser.parse_args()
    place = given.folder.resolve()
    place.mkdir(parents=True, exist_ok=True)
    wanted = {TEACHER, *(given.only or MEMBERS)}
    for name in MEMBERS:
        if name in wanted:
            train(name, place)
    results = scored([place / name for name in MEMBERS if is_trained(place / name)])
    print(f"\n{table(results)}")
    points = [(r["macs"], r["macro_f1"]) for r in results]
    print(f"\n{len(pareto_front(points))} of {len(points)} are on the Pareto front")
    if given.png:
        reference = json.loads((ROOT / "baseline" / "reference.json").read_text(encoding="utf-8"))
        draw(results, reference, given.png)


if __name__ == "__main__":
    main()
