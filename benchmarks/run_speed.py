"""How fast the kit runs a submission: two ratios, measured in one run.

1. The runner (export, graph, vmap, fused, channels-last) against the plain eager loop of
   the same model on the same tensors, batch 32.
2. The whole of `starter score PLUGIN` against a peer that trusts everyone: timm's
   validate.py rebuilt (peer_validate.py), start-up included, on the same images.

Rounds alternate A B A B; ratios are taken pair by pair, because shared machines drift.

    python benchmarks/run_speed.py            about ten minutes on two cores
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from torch import nn

from starter.discovery import Candidate, Kind
from starter.export import export_model, write_graph
from starter.graph import read_graph
from starter.interpreter import trace
from starter.program import Program

ROOT = Path(__file__).parents[1]
BATCH = 32
RESOLUTION = 224
MODELS = (
    "resnet18",
    "mobilenetv2_100",
    "mobilenetv3_small_100",
    "efficientnet_b0",
    "mobilenetv4_conv_small",
    "ghostnet_100",
    "lcnet_050",
    "regnety_002",
    "convnextv2_atto",
)
PLUGIN = """
import timm, torch
from torchvision.transforms import v2
from starter import Submission, hookimpl

@hookimpl
def starter_submission(competition):
    torch.manual_seed(0)
    return Submission(
        model=timm.create_model("{name}", num_classes=competition.num_classes),
        transforms=[
            v2.Resize(({size}, {size})), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(competition.mean, competition.std),
        ],
    )
"""


def seconds(call: Callable[[], object]) -> float:
    """Return the wall-clock time of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def compare(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int
) -> list[tuple[float, float]]:
    """Return the times of alternating calls."""
    return [(seconds(ours), seconds(theirs)) for _ in range(rounds)]


def program_of(model: nn.Module, num_classes: int) -> Program:
    """Take a model the way that a submission goes."""
    here = Candidate("benchmark", Path(__file__), Kind.FILE)
    with tempfile.TemporaryDirectory() as folder:
        graph, weights = Path(folder) / "graph", Path(folder) / "weights"
        exported = export_model(model, (3, RESOLUTION, RESOLUTION), here)
        write_graph(exported, here, graph, weights)
        return Program(trace(read_graph(graph, weights), num_classes=num_classes), batch_size=BATCH)


def run_part(name: str, rounds: int) -> list[tuple[float, float]]:
    """Time the runner and the eager loop on one batch."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=6).eval()
    program = program_of(model, 6)
    images = torch.randn(BATCH, 3, RESOLUTION, RESOLUTION)

    def eager() -> torch.Tensor:
        with torch.inference_mode():
            logits: torch.Tensor = model(images)
            return logits

    expected, found = eager(), program(images)
    difference = ((expected - found).abs().max() / expected.abs().max().clamp(min=1e-12)).item()
    assert difference < 1e-4, f"{name}: the logits differ by {difference}"
    return compare(lambda: program(images), eager, rounds)


def score_part(name: str, rounds: int, size: int) -> list[tuple[float, float]]:
    """Time whole processes: `starter score` and the peer, on the packaged evaluation images."""
    with tempfile.TemporaryDirectory() as folder:
        plugin = Path(folder) / f"{name}.py"
        plugin.write_text(PLUGIN.format(name=name, size=size), encoding="utf-8")
        ours = [sys.executable, "-m", "starter", "score", str(plugin), "--json", f"{folder}/ours.json"]
        peer = [sys.executable, str(Path(__file__).with_name("peer_validate.py")), name, "--size", str(size)]
        times = compare(lambda: finish(ours), lambda: finish(peer), rounds)
        result = json.loads(Path(folder, "ours.json").read_text(encoding="utf-8"))["results"][0]
        assert result["status"] == "ok", result
        return times


def finish(command: list[str]) -> None:
    """Run a command to its end; its exit status must be 0."""
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)  # noqa: S603 - our own commands


def report(title: str, rows: dict[str, list[tuple[float, float]]]) -> None:
    """Print one table and the median of its ratios."""
    print(f"\n{title}\n{'model':24} {'ours, s':>9} {'peer, s':>9} {'ratio':>7}  least to most")
    medians = []
    for name, times in rows.items():
        ratios = [a / b for a, b in times]
        medians.append(statistics.median(ratios))
        ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
        print(
            f"{name:24} {ours:9.3f} {theirs:9.3f} {medians[-1]:7.2f}  {min(ratios):.2f} to {max(ratios):.2f}"
        )
    print(f"{'median of the ratios':44} {statistics.median(medians):7.2f}")


def main() -> None:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=("run", "score", "all"), default="all")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--rounds", type=int, default=5, help="pairs of part 1; part 2 takes 3")
    parser.add_argument("--size", type=int, default=112, help="resolution of part 2")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, timm {timm.__version__}, {torch.get_num_threads()} threads")
    if options.part in ("run", "all"):
        rows = {name: run_part(name, options.rounds) for name in options.models}
        report(f"runner against eager, batch {BATCH}, {RESOLUTION} px", rows)
    if options.part in ("score", "all"):
        rows = {name: score_part(name, min(3, options.rounds), options.size) for name in options.models}
        report(f"starter score against validate.py's loop, 1,208 images, {options.size} px", rows)


if __name__ == "__main__":
    main()
