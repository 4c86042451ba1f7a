"""What five counters see of each way round the count: the folders of tests/submissions.

Ours is the scored MACs of the exported graph, or the code of its refusal. thop, fvcore,
ptflops and torch's FlopCounterMode (FLOPs / 2) count the module that the plugin returns,
in a process of its own, on an image of zeros, as they are used everywhere. A count is
right when it is not below what the network really does, or when the plugin is refused. Two
products in one are lost when the kit runs the graph: "rounded away".

    python benchmarks/evasion.py                     about five minutes on two cores
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from starter.contract.competition import CompetitionFile, Limits
from starter.contract.errors import ParticipantError
from starter.contract.hookspecs import Competition
from starter.contract.submissions import Kind, SubmissionSource, discover_one
from starter.contract.system.processors import available
from starter.evaluation.runner.client import export
from starter.sandbox.choice import choose, open_sandbox

FOLDER = Path(__file__).parents[1] / "tests" / "submissions"
SHAPE = (3, 32, 32)
SECONDS = 120
PEERS = ("thop", "fvcore", "ptflops", "FlopCounterMode")
COMPETITION = Competition(
    num_classes=6, class_names=tuple("abcdef"), mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)
)


def ours(name: str) -> int | str:
    """Take a plugin the way of a submission; return its MACs or the code of its refusal."""
    from starter.graph.analysis import trace
    from starter.graph.costs.macs import count_macs
    from starter.graph.reader import read_graph
    from starter.submission.pipeline import input_shape
    from starter.submission.transform_records import load

    isolation = choose(CompetitionFile(name="evasion"))
    with (
        tempfile.TemporaryDirectory() as folder,
        open_sandbox(isolation, limits=Limits(), forks=False) as sandbox,
    ):
        exported = export(discover_one(FOLDER / name), COMPETITION, Limits(), Path(folder), sandbox)
        if exported.report.problems:
            return str(exported.report.problems[0].code)
        try:
            graph = read_graph(exported.folder / "graph", exported.folder / "weights")
            macs = count_macs(trace(graph, num_classes=6)).macs
        except ParticipantError as error:
            return str(error.problems[0].code)
        fed = input_shape(load((exported.folder / "transforms").read_text(encoding="utf-8")))
        return macs if graph.file.input_shape[1:] == fed else "E505"


def peers(name: str) -> dict[str, int | str]:
    """Count the module of a plugin with each peer, in a process of its own: it may do anything."""
    command = [sys.executable, "-W", "ignore", __file__, "--peers-of", name]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    try:
        run = subprocess.run(  # noqa: S603 - ourselves
            command, capture_output=True, text=True, check=False, timeout=SECONDS, env=environment
        )
        found: dict[str, int | str] = json.loads(run.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, IndexError, json.JSONDecodeError):
        return dict.fromkeys(PEERS, "no module")
    return found


def count_with_peers(name: str) -> dict[str, int | str]:
    """Load a plugin here and count its module with each peer."""
    import torch

    from starter.plugin.load import load_plugin

    counts: dict[str, int | str] = {}
    for peer in PEERS:
        with contextlib.redirect_stdout(sys.stderr):
            try:
                plugin = load_plugin(
                    SubmissionSource(name, FOLDER / name, Kind.FOLDER), COMPETITION, strict=False
                )
                model = plugin.submission.model.eval()
                with torch.no_grad():
                    counts[peer] = int(_COUNTERS[peer](model, torch.zeros(1, *SHAPE)))
            except Exception:  # noqa: BLE001 - a stranger's module in a counter that was not made for it
                counts[peer] = "fails"
    return counts


def _thop(model: Any, images: Any) -> float:
    import thop

    return float(thop.profile(model, inputs=(images,), verbose=False)[0])


def _fvcore(model: Any, images: Any) -> float:
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(model, images)
    return float(analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total())


def _ptflops(model: Any, _: Any) -> float:
    from ptflops import get_model_complexity_info

    macs, _params = get_model_complexity_info(
        model, SHAPE, as_strings=False, print_per_layer_stat=False, verbose=False
    )
    return float(macs)


def _flop_counter(model: Any, images: Any) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        model(images)
    return float(counter.get_total_flops()) / 2


_COUNTERS: dict[str, Callable[[Any, Any], float]] = {
    "thop": _thop,
    "fvcore": _fvcore,
    "ptflops": _ptflops,
    "FlopCounterMode": _flop_counter,
}


def is_right(counter: str, count: int | str, verdict: dict[str, Any]) -> bool:
    """Say whether a count is not below what is really done; what must be refused has no right count."""
    if isinstance(count, str):
        return count not in {"fails", "no module"}
    if "rounded_away" in verdict:
        return counter == "ours"
    return "multiplications" in verdict and count >= verdict["multiplications"]


def show(names: Sequence[str]) -> None:
    """Print the table, row by row."""
    print(f"| evasion | really | ours | {' | '.join(PEERS)} |")
    print(f"|---|{'--:|' * (2 + len(PEERS))}")
    right = dict.fromkeys(("ours", *PEERS), 0)
    with ThreadPoolExecutor(available().threads) as pool:
        rows = pool.map(lambda name: {"ours": ours(name)} | peers(name), names)
    for name, counts in zip(names, rows, strict=True):
        verdict = tomllib.loads((FOLDER / name / "verdict.toml").read_text(encoding="utf-8"))
        for counter, count in counts.items():
            right[counter] += is_right(counter, count, verdict)
        really = "rounded away" if "rounded_away" in verdict else "refused"
        really = f"{verdict['multiplications']:,}" if "multiplications" in verdict else really
        cells = [c if isinstance(c, str) else f"{c:,}" for c in counts.values()]
        print(f"| {name} | {really} | {' | '.join(cells)} |", flush=True)
    print(f"| **right, of {len(names)}** | | {' | '.join(str(n) for n in right.values())} |")


def main() -> None:
    """Print the table, or as our own child the peers' counts of one plugin."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--names", nargs="+", help="folders of tests/submissions; default: all")
    parser.add_argument("--peers-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peers_of:
        print(json.dumps(count_with_peers(args.peers_of)))
    else:
        show(args.names or sorted(path.name for path in FOLDER.iterdir()))


if __name__ == "__main__":
    main()
