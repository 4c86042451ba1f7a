"""Our count and four other counters' against the figures that torchvision publishes.

One row for each architecture and resolution for which torchvision has a classification weights
entry: its `_ops` is in G multiply-accumulates, rounded to three decimals. Weights are not
downloaded. "ours" is the contraction MACs, "total" what is scored; the seconds of ours are for
counting a graph that was read, the export's have their own column. thop and FlopCounterMode run
on the meta device, fvcore and ptflops on the CPU: fvcore fails on meta tensors, and ptflops
counts linear layers twice there. Below the figure by more than its rounding is only swin_v2: it
computes its position biases from constants, which is free here and is in the figure.

    python benchmarks/macs_agreement.py --json agreement.json    about a quarter of an hour on one core
"""

import argparse
import contextlib
import gc
import importlib
import importlib.metadata
import io
import json
import logging
import os
import signal
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

import torch
import torchvision
from torch import nn

from starter.contract.errors import ParticipantError
from starter.contract.submissions import Kind, SubmissionSource
from starter.graph.analysis import trace
from starter.graph.costs.macs import count_macs
from starter.graph.reader import read_graph
from starter.plugin.export import export_model, write_graph

HERE = SubmissionSource("benchmark", Path(__file__), Kind.FILE)
GIGA = 10**9
ROUNDING = GIGA / 2000
"""Half of the last decimal of a published figure, in MACs."""
LIMITS = {"within rounding": 0.0, "within 1 %": 0.01, "within 2 %": 0.02, "within 5 %": 0.05}
PEER_SECONDS = 60
OURS, TOTAL = "ours", "total"


@dataclass(frozen=True)
class Entry:
    """One architecture at one resolution."""

    name: str
    size: int
    published: float
    """MACs."""
    weights: tuple[str, ...]
    """The weights entries that state this figure."""


@dataclass(frozen=True)
class Count:
    """What one counter said of one entry."""

    macs: float | None
    seconds: float
    failure: str = ""

    def cell(self, published: float) -> str:
        """Return the relative difference and the time, or what went wrong."""
        if self.macs is None:
            return self.failure.partition(":")[0]
        return f"{self.macs / published - 1:+.2%}, {self.seconds:.2f} s"

    def agrees(self, published: float, limit: float) -> bool:
        """Say whether the count is within a relative limit, or within the figure's rounding."""
        if self.macs is None:
            return False
        # One MAC more: the published figure itself is a decimal fraction.
        return abs(self.macs - published) <= max(limit * published, ROUNDING + 1)


def published_entries() -> list[Entry]:
    """Return every architecture and resolution with a published figure, in alphabetical order."""
    found: dict[tuple[str, int, float], list[str]] = {}
    for name in torchvision.models.list_models(module=torchvision.models):
        for weights in torchvision.models.get_model_weights(name):
            key = (name, weights.transforms().crop_size[0], weights.meta["_ops"] * GIGA)
            found.setdefault(key, []).append(weights.name)
    return [Entry(*key, tuple(weights)) for key, weights in found.items()]


def build(entry: Entry, device: str) -> nn.Module:
    """Return the network with zeros for weights: no count depends on them, and drawing takes time."""
    options = {"image_size": entry.size} if entry.name.startswith("vit_") else {}
    fillers = [name for name in dir(nn.init) if name.endswith("_") and not name.startswith("_")]
    with contextlib.ExitStack() as stack:
        for name in fillers:
            stack.enter_context(patch.object(nn.init, name, _fill_with_zeros))
        network: nn.Module = torchvision.models.get_model(entry.name, **options)
    return network.eval().to(device)


def _fill_with_zeros(tensor: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    with torch.no_grad():
        return tensor.zero_()


def count_ours(entry: Entry) -> tuple[dict[str, Count], float]:
    """Count the way that a submission is counted; return the two counts and the export's seconds."""
    network = build(entry, "cpu")
    try:
        with tempfile.TemporaryDirectory() as folder:
            graph_path, weights_path = Path(folder) / "graph", Path(folder) / "weights"
            started = time.perf_counter()
            exported = export_model(network, (3, entry.size, entry.size), HERE)
            export_seconds = time.perf_counter() - started
            write_graph(exported, HERE, graph_path, weights_path)
            graph = read_graph(graph_path, weights_path)
        started = time.perf_counter()
        report = count_macs(trace(graph, num_classes=1000))
        seconds = time.perf_counter() - started
    except ParticipantError as error:
        failed = Count(None, 0, f"fails: {error}")
        return {OURS: failed, TOTAL: failed}, 0
    return {OURS: Count(report.contraction, seconds), TOTAL: Count(report.macs, seconds)}, export_seconds


def count_thop(thop: Any, network: nn.Module, images: torch.Tensor) -> Any:
    """Return thop's MACs."""
    return thop.profile(network, inputs=(images,), verbose=False)[0]


def count_fvcore(fvcore: Any, network: nn.Module, images: torch.Tensor) -> Any:
    """Return fvcore's "flops", which are multiply-accumulates."""
    analysis = fvcore.FlopCountAnalysis(network, images)
    return analysis.unsupported_ops_warnings(enabled=False).uncalled_modules_warnings(enabled=False).total()


def count_ptflops(ptflops: Any, network: nn.Module, images: torch.Tensor) -> Any:
    """Return ptflops' MACs, from its default backend."""
    options = {"as_strings": False, "print_per_layer_stat": False, "verbose": False}
    return ptflops.get_model_complexity_info(network, tuple(images.shape[1:]), **options)[0]


def count_flop_counter_mode(flop_counter: Any, network: nn.Module, images: torch.Tensor) -> Any:
    """Return half of PyTorch's FLOPs."""
    with flop_counter.FlopCounterMode(display=False) as counter:
        network(images)
    return counter.get_total_flops() / 2


@dataclass(frozen=True)
class Peer:
    """Another counter."""

    count: Callable[[Any, nn.Module, torch.Tensor], Any]
    module: str
    """Imported before the clock starts, and given to `count`."""
    device: str


PEERS = {
    "thop": Peer(count_thop, "thop", "meta"),
    "fvcore": Peer(count_fvcore, "fvcore.nn", "cpu"),
    "ptflops": Peer(count_ptflops, "ptflops", "cpu"),
    "FlopCounterMode": Peer(count_flop_counter_mode, "torch.utils.flop_counter", "meta"),
}
COUNTERS = (OURS, TOTAL, *PEERS)


def count_with(peer: Peer, entry: Entry, limit: int) -> Count:
    """Count with another counter; a failure is a result too."""
    network = build(entry, peer.device)
    images = torch.zeros(1, 3, entry.size, entry.size, device=peer.device)
    started = time.perf_counter()
    try:
        module = importlib.import_module(peer.module)
        started = time.perf_counter()
        with _at_most(limit), _silence():
            macs = float(peer.count(module, network, images))
    except Exception as error:  # noqa: BLE001 - whatever a counter raises fills one cell
        seconds = time.perf_counter() - started
        # ptflops swallows the interruption and then fails in its own way.
        reason = f"over {limit} s" if seconds >= limit else "fails"
        return Count(None, seconds, f"{reason}: {type(error).__name__}: {error}"[:300])
    return Count(macs, time.perf_counter() - started)


def version(package: str) -> str:
    """Return the version of a package, or say that there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


@contextlib.contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    def stop(_: int, __: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def show_entry(entry: Entry, limit: int) -> dict[str, Any]:
    """Count one entry with everything, print its line, and return the raw numbers."""
    counts, export_seconds = count_ours(entry)
    gc.collect()
    for name, peer in PEERS.items():
        counts[name] = count_with(peer, entry, limit)
        gc.collect()
    macs = counts[OURS].macs
    cells = [
        entry.name,
        str(entry.size),
        f"{entry.published / GIGA:.3f}",
        "" if macs is None else f"{macs / GIGA:.6f}",
        *(counts[name].cell(entry.published) for name in COUNTERS),
        f"{export_seconds:.1f} s",
    ]
    print(_line(cells), flush=True)
    raw = {name: asdict(count) for name, count in counts.items()}
    return asdict(entry) | {"export_seconds": export_seconds, "counts": raw}


def show_summary(rows: Sequence[dict[str, Any]]) -> None:
    """Print how many entries each counter agrees with, and its median time."""
    print(f"\n{len(rows)} architectures and resolutions\n")
    print(_line(["counter", *LIMITS, "no count", "median, s"]))
    print(_line(["---"] * (len(LIMITS) + 3)))
    for name in COUNTERS:
        counts = [(Count(**row["counts"][name]), row["published"]) for row in rows]
        agreeing = [sum(c.agrees(p, limit) for c, p in counts) for limit in LIMITS.values()]
        seconds = [c.seconds for c, _ in counts if c.macs is not None]
        median = f"{statistics.median(seconds):.3f}" if seconds else ""
        print(_line([name, *map(str, agreeing), str(len(counts) - len(seconds)), median]))
    export = statistics.median(row["export_seconds"] for row in rows)
    print(f"\nmedian of the export {export:.3f} s")
    for row in rows:
        ours, published = Count(**row["counts"][OURS]), row["published"]
        if not ours.agrees(published, 0):
            print(
                f"not within rounding: {row['name']} at {row['size']}: {ours.macs}, published {published:.0f}"
            )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Count what was asked for, print the tables, and write the raw numbers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", help="torchvision's names; all resolutions of each")
    parser.add_argument("--peer-seconds", type=int, default=PEER_SECONDS, help="time limit of a peer's count")
    parser.add_argument("--json", type=Path, help="write the raw numbers to this file")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    entries = [e for e in published_entries() if not args.models or e.name in args.models]
    about = {
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        **{name: version(name) for name in ("thop", "fvcore", "ptflops")},
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }
    print(", ".join(f"{key} {value}" for key, value in about.items()) + "\n")
    header = ["model", "px", "published, G", "ours, G", *COUNTERS, "export"]
    print(_line(header))
    print(_line(["---"] * len(header)))
    rows = [show_entry(entry, args.peer_seconds) for entry in entries]
    show_summary(rows)
    if args.json:
        args.json.write_text(json.dumps({"about": about, "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
