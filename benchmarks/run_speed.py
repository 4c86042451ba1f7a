"""How fast the kit evaluates a submission, measured against two peers.

Part 1: the runner (exported graph, vmap, merged batch norms, channels-last) against the plain
eager loop: model.eval() under inference_mode on the same float32 NCHW tensor, same threads.
Part 2: the whole of `starter score PLUGIN --json -` against timm's validate.py rebuilt
(peer_validate.py), both as fresh processes from start to end, on the same images, weights,
resolution and interpolation; the two must find nearly the same macro F1.

Rounds alternate, ours first; a ratio is ours over peer of one round, so below 1 the kit is
faster. Ratios are taken round by round because shared machines drift; run it on a quiet one.

    python benchmarks/run_speed.py --json speed.json      about a quarter of an hour on two cores
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from starter.contract.system.processors import PASSIVE, waiting

os.environ.update(waiting(os.environ))  # before torch is loaded: as the kit's own processes

import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.data.config import resolve_data_config
from torch import nn

from starter.contract.submissions import Kind, SubmissionSource
from starter.data.dataset import Dataset, open_dataset
from starter.graph.analysis import trace
from starter.graph.executor import Program, Rounding, to_bfloat16
from starter.graph.reader import read_graph
from starter.plugin.export import export_model, write_graph

ROOT = Path(__file__).parents[1]
BATCH = 32
NUM_CLASSES = 6
MOST_DIFFERENCE = 1e-3
MOST_F1_DIFFERENCE = 0.02
"""The kit rounds what operators compute, the peer does not: near ties of untrained networks turn."""
RUNNER_MODELS = (
    "torchvision/resnet18", "torchvision/mobilenet_v2", "torchvision/mobilenet_v3_small",
    "torchvision/shufflenet_v2_x0_5", "torchvision/efficientnet_b0", "torchvision/squeezenet1_1",
    "timm/mobilenetv4_conv_small", "timm/ghostnet_100", "timm/lcnet_050", "timm/convnextv2_atto",
)  # fmt: skip
SCORE_MODELS = ("timm/resnet18", "timm/mobilenetv3_small_100", *RUNNER_MODELS[-4:])
PLUGIN = """
import timm, torch
from torchvision.transforms import v2
from starter import Submission, hookimpl

@hookimpl
def starter_submission(competition):
    return Submission(
        model=timm.create_model("{name}", num_classes=competition.num_classes),
        transforms=[
            v2.Resize(({size}, {size})), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(competition.mean, competition.std),
        ],
    )
"""


@dataclass(frozen=True)
class Row:
    """One model's times in seconds, and how far the two results are apart."""

    model: str
    ours: list[float]
    peer: list[float]
    difference: float
    """Part 1: largest difference of a logit, over the largest logit. Part 2: difference of macro F1."""

    @property
    def ratios(self) -> list[float]:
        """Ours over peer, round by round."""
        return [a / b for a, b in zip(self.ours, self.peer, strict=True)]


def seconds(call: Callable[[], object]) -> float:
    """Return the wall-clock time of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def alternate(
    ours: Callable[[], object], peer: Callable[[], object], rounds: int
) -> tuple[list[float], list[float]]:
    """Time the two in turns; return the times of each."""
    pairs = [(seconds(ours), seconds(peer)) for _ in range(rounds)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def build(model: str) -> tuple[nn.Module, int]:
    """Return a network with fresh weights (seed 0) and its usual resolution.

    Batch norms take their statistics from one batch, as if trained: with the initial ones
    merging them would be no test, and activations of deep networks fade to denormal numbers.
    """
    torch.manual_seed(0)
    library, _, name = model.partition("/")
    if library == "timm":
        network: nn.Module = timm.create_model(name, num_classes=NUM_CLASSES)
        size = int(resolve_data_config(model=network)["input_size"][-1])
    else:
        network = torchvision.models.get_model(name, num_classes=NUM_CLASSES)
        size = torchvision.models.get_model_weights(name).DEFAULT.transforms().crop_size[0]
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(BATCH, 3, size, size))
    return network.eval(), size


def program_of(network: nn.Module, size: int, rounding: Rounding | None) -> Program:
    """Take a network the way that a submission goes, in this process."""
    here = SubmissionSource("benchmark", Path(__file__), Kind.FILE)
    with tempfile.TemporaryDirectory() as folder:
        graph, weights = Path(folder) / "graph", Path(folder) / "weights"
        write_graph(export_model(network, (3, size, size), here), here, graph, weights)
        return Program(trace(read_graph(graph, weights), num_classes=NUM_CLASSES), rounding=rounding)


def runner_row(model: str, rounds: int) -> Row:
    """Part 1 for one model; one call of each is not counted.

    The runner rounds each computed value, as the cost rule says; its logits are compared without.
    """
    network, size = build(model)
    images = torch.randn(4 * BATCH, 3, size, size)
    exact, rounded = (program_of(network, size, rounding) for rounding in (None, to_bfloat16))

    def ours(program: Program) -> torch.Tensor:
        return torch.cat([program(part) for part in images.split(program.batch_size)])

    @torch.inference_mode()
    def eager() -> torch.Tensor:
        return torch.cat([network(part) for part in images.split(BATCH)])

    expected, found = eager(), ours(exact)
    ours(rounded)
    difference = ((expected - found).abs().max() / expected.abs().max()).item()
    return Row(model, *alternate(lambda: ours(rounded), eager, rounds), difference)


def finish(command: Sequence[str]) -> str:
    """Run a command to its end and return what it printed; its exit status must be 0.

    How threads wait is its own affair: the kit says it, the peer's users do not.
    """
    environment = {name: value for name, value in os.environ.items() if PASSIVE.get(name) != value}
    done = subprocess.run(  # noqa: S603 - our own
        command, cwd=ROOT, check=False, capture_output=True, text=True, env=environment
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}\nexit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def write_folder(dataset: Dataset, folder: Path) -> None:
    """Write the evaluation images as folder/validation/CLASS/IMAGE, which validate.py reads."""
    for row in dataset.solution():
        target = folder / "validation" / dataset.info.classes[row.label] / row.image_id
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(dataset.images.read(row.image_id))


def peer_command(name: str, folder: Path, dataset: Dataset, args: argparse.Namespace) -> list[str]:
    """Return the peer's command line: the plugin's weights and transforms, in validate.py's words."""
    mean, std = (" ".join(map(str, v)) for v in (dataset.info.mean, dataset.info.std))
    flags = (
        f"--model {name} --num-classes {NUM_CLASSES} --img-size {args.size} --mean {mean} --std {std} "
        f"--crop-pct 1.0 --crop-mode squash --interpolation bilinear --workers {args.peer_workers} "
        "--metrics-avg macro --device cpu"
    )
    checkpoint = str(folder / f"{name}.safetensors")
    return [
        sys.executable,
        str(args.peer),
        str(folder / "images"),
        "--checkpoint",
        checkpoint,
        *flags.split(),
    ]


def score_row(model: str, folder: Path, dataset: Dataset, args: argparse.Namespace) -> Row:
    """Part 2 for one model; one run of each, not counted, fills the disk cache and gives the F1."""
    name = model.removeprefix("timm/")
    save_file(build(model)[0].state_dict(), folder / f"{name}.safetensors")
    plugin = folder / f"{name}.py"
    plugin.write_text(PLUGIN.format(name=name, size=args.size), encoding="utf-8")
    ours = [sys.executable, "-m", "starter", "score", str(plugin), "--json", "-"]
    peer = peer_command(name, folder, dataset, args)
    found = json.loads(finish(ours))["results"][0]["macro_f1"]
    expected = json.loads(finish(peer).partition("--result\n")[2])["macro_f1_score"] / 100
    times = alternate(lambda: finish(ours), lambda: finish(peer), args.rounds)
    return Row(model, *times, abs(found - expected))


def show(title: str, peer: str, difference: str, most: float, rows: Iterable[Row]) -> list[Row]:
    """Print one table, row by row as they are measured; return its rows."""
    print(f"\n{title}\n{'model':32} {'ours, s':>8} {peer:>8} {'ratio':>6}  {'least to most':14} {difference}")
    shown = []
    for row in rows:
        ours, theirs, ratio = (statistics.median(v) for v in (row.ours, row.peer, row.ratios))
        spread = f"{min(row.ratios):.2f} to {max(row.ratios):.2f}"
        line = f"{row.model:32} {ours:8.3f} {theirs:8.3f} {ratio:6.2f}  {spread:14} {row.difference:.1e}"
        print(line, flush=True)
        if row.difference > most:
            sys.exit(f"{row.model}: the results differ by {row.difference:.1e}, so the times mean nothing")
        shown.append(row)
    medians = [statistics.median(row.ratios) for row in shown]
    print(f"{'median of the ratios':50} {statistics.median(medians):6.2f}")
    return shown


def score_rows(models: Sequence[str], args: argparse.Namespace) -> list[Row]:
    """Measure part 2 and print it."""
    dataset = open_dataset(ROOT / "data" / "waste")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_folder(dataset, folder / "images")
        title = f"starter score against validate.py: {len(dataset.solution())} images, {args.size} px"
        title += f", peer with {args.peer_workers} workers, {args.rounds} rounds"
        rows = (score_row(m, folder, dataset, args) for m in models)
        return show(title, "peer, s", "F1 differs by", MOST_F1_DIFFERENCE, rows)


def main() -> None:
    """Measure what was asked for, print the tables, and write the times as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", choices=("1", "2", "all"), default="all")
    parser.add_argument("--models", nargs="+", help="timm/NAME or torchvision/NAME; part 2 takes timm's only")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=112, help="resolution of part 2")
    parser.add_argument("--peer", type=Path, default=Path(__file__).with_name("peer_validate.py"))
    parser.add_argument("--peer-workers", type=int, default=4, help="validate.py's default is 4")
    parser.add_argument("--json", type=Path, help="write all times to this file")
    args = parser.parse_args()
    about = {
        "torch": torch.__version__, "torchvision": torchvision.__version__, "timm": timm.__version__,
        "threads": torch.get_num_threads(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    parts: dict[str, list[Row]] = {}
    if args.part in ("1", "all"):
        rows = (runner_row(m, args.rounds) for m in args.models or RUNNER_MODELS)
        title = f"runner against the eager loop: batch {BATCH}, usual resolution, {args.rounds} rounds"
        parts["runner"] = show(title, "eager, s", "logits differ by", MOST_DIFFERENCE, rows)
    if args.part in ("2", "all"):
        models = [m for m in args.models or SCORE_MODELS if m.startswith("timm/")]
        parts["score"] = score_rows(models, args) if models else []
    if args.json:
        record = {"about": about} | {part: [asdict(r) for r in rows] for part, rows in parts.items()}
        args.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
