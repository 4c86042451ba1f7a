"""Graphs of known cost, counted and run at every start of the runner.

A counter that gives another number than the arithmetic below is not this kit's:
a broken table, a torch whose shapes or kernels changed. Then nothing is scored.
An organizer's rule (cost_rules.py) brings graphs of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from starter.contract.errors import ParticipantError
from starter.graph.analysis import trace
from starter.graph.costs.macs import count_macs
from starter.graph.executor import Program, to_bfloat16
from starter.graph.format import INPUT, AtenValue, Graph, GraphFile, Node, Ref, TensorSpec
from starter.graph.formulas import Cost
from starter.graph.operators import OPERATORS, OperatorTable

IMAGE = Ref(INPUT)
"""The argument that is the image."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class SelfTestGraph:
    """Calls on one image whose cost is known by arithmetic."""

    image: tuple[int, int, int]
    """(C, H, W) of the image."""
    calls: Sequence[tuple[str, Sequence[AtenValue]]]
    """Operator and arguments, each call's value being an argument of the next: `LAST` or `IMAGE`."""
    cost: Cost
    """MACs for one image, by class."""
    tensors: Sequence[Shape] = ()
    """Shapes of constant tensors; the arguments name them `Ref("t0")`, `Ref("t1")`, ..."""

    @property
    def name(self) -> str:
        """The operators."""
        return ", ".join(op for op, _ in self.calls)


LAST = Ref("last")
"""The argument that is the value of the call before."""

_WEIGHT, _BIAS = Ref("t0"), Ref("t1")

SELF_TESTS: tuple[SelfTestGraph, ...] = (
    # 3 x 3 kernel over 2 channels at each of 5 x 4 x 4 outputs; a constant bias is free
    SelfTestGraph((2, 4, 4), [("aten.conv2d.default", [IMAGE, _WEIGHT, _BIAS, [1, 1], [1, 1]])],
                         Cost(contraction=5 * 4 * 4 * 3 * 3 * 2), [(5, 2, 3, 3), (5,)]),
    # depthwise: one channel for each output; stride 2 leaves 2 x 2 positions
    SelfTestGraph((4, 5, 5), [("aten.conv2d.default", [IMAGE, _WEIGHT, None, [2, 2], [0, 0], [1, 1], 4])],
                         Cost(contraction=4 * 2 * 2 * 3 * 3 * 1), [(4, 1, 3, 3)]),
    # each of 3 x 4 x 4 inputs meets the kernel of 2 x 2 for 5 output channels
    SelfTestGraph((3, 4, 4), [("aten.conv_transpose2d.input", [IMAGE, _WEIGHT, None, [2, 2]])],
                         Cost(contraction=3 * 4 * 4 * 5 * 2 * 2), [(3, 5, 2, 2)]),
    SelfTestGraph((2, 3, 7), [("aten.linear.default", [IMAGE, _WEIGHT, _BIAS])],
                         Cost(contraction=2 * 3 * 5 * 7), [(5, 7), (5,)]),
    SelfTestGraph((2, 3, 7), [("aten.matmul.default", [IMAGE, _WEIGHT])],
                         Cost(contraction=2 * 3 * 5 * 7), [(7, 5)]),
    SelfTestGraph((2, 3, 7), [("aten.einsum.default", ["abcd,de->abce", [IMAGE, _WEIGHT]])],
                         Cost(contraction=2 * 3 * 7 * 5), [(7, 5)]),
    # 2 heads, 6 queries and keys, head size 4: scores and sums; softmax reads the scores three times
    SelfTestGraph((2, 6, 4), [("aten.scaled_dot_product_attention.default", [IMAGE, IMAGE, IMAGE])],
                         Cost(contraction=2 * (2 * 6 * 6 * 4), reduction=3 * 2 * 6 * 6)),
    SelfTestGraph((3, 4, 4), [("aten.mul.Tensor", [IMAGE, IMAGE]), ("aten.gelu.default", [LAST]),
                                     ("aten.add.Tensor", [LAST, IMAGE])], Cost(pointwise=3 * (3 * 4 * 4))),
    SelfTestGraph((3, 4, 4), [("aten._native_batch_norm_legit_no_training.default",
                                      [IMAGE, *[Ref(f"t{i}") for i in range(4)], 0.1, 1e-5]),
                                     ("getitem", [LAST, 0])],
                         Cost(pointwise=3 * 4 * 4), [(3,)] * 4),
    SelfTestGraph((3, 4, 4), [("aten.softmax.int", [IMAGE, 1])], Cost(reduction=3 * (3 * 4 * 4))),
    SelfTestGraph((3, 4, 4), [("aten.layer_norm.default", [IMAGE, [4, 4]])], Cost(reduction=3 * (3 * 4 * 4))),
    SelfTestGraph((3, 4, 4), [("aten.mean.dim", [IMAGE, [2, 3]])], Cost(reduction=3 * 4 * 4)),
    SelfTestGraph((3, 7, 7), [("aten.max_pool2d.default", [IMAGE, [3, 3], [2, 2]])],
                         Cost(reduction=3 * 3 * 3 * (3 * 3))),
    # 8 rows onto 3: 0-2, 2-5 and 5-7, that is 10 reads along each side
    SelfTestGraph((3, 8, 8), [("aten.adaptive_avg_pool2d.default", [IMAGE, [3, 3]])],
                         Cost(reduction=3 * 10 * 10)),
    SelfTestGraph((3, 4, 4), [("aten.upsample_bilinear2d.vec", [IMAGE, [8, 8], False, None])],
                         Cost(pointwise=4 * (3 * 8 * 8))),
    SelfTestGraph((3, 4, 4), [("aten.permute.default", [IMAGE, [0, 2, 3, 1]]),
                                     ("aten.alias.default", [LAST])],
                         Cost()),
)  # fmt: skip
"""One or more of each class; the arithmetic is written out."""


def check_self_test(test: SelfTestGraph, operators: OperatorTable = OPERATORS) -> str | None:
    """Count and run one graph; return what is wrong with it, or None.

    Its run must be the same bit for bit a second time, what it computes must be rounded, and an
    image that is not a number must leave the others in its batch as they were.
    """
    try:
        walk = trace(_graph(test), num_classes=None, operators=operators)
        found = count_macs(walk)
        program = Program(walk)
        images = to_bfloat16(torch.rand(4, *test.image, generator=torch.Generator().manual_seed(0)))
        first, again = program(images), program(images)
        images[0] = torch.nan
        beside = program(images)
    except (ParticipantError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        return f"{test.name}: {error}"
    cost = Cost(found.contraction, found.pointwise, found.reduction)
    if cost != test.cost:
        return f"{test.name}: {cost} counted, {test.cost} expected"
    if not torch.equal(first, to_bfloat16(first.clone())):
        return f"{test.name}: its result is not rounded"
    if not torch.equal(first, again):
        return f"{test.name}: a second run gives different bits"
    if not torch.equal(first[1:], beside[1:]):
        return f"{test.name}: images in a batch are not independent"
    return None


def _graph(test: SelfTestGraph) -> Graph:
    names = {LAST.name: INPUT}
    nodes = []
    for i, (op, args) in enumerate(test.calls):
        nodes.append(Node(name=f"n{i}", op=op, args=_renamed(args, names), kwargs={}))
        names[LAST.name] = f"n{i}"
    nodes.append(Node(name="read", op="aten.alias.default", args=[Ref(names[LAST.name])], kwargs={}))
    specs = tuple(TensorSpec(name=f"t{i}", key=f"t{i}", kind="buffer") for i in range(len(test.tensors)))
    random = torch.Generator().manual_seed(0)
    weights = {f"t{i}": torch.rand(*shape, generator=random) for i, shape in enumerate(test.tensors)}
    file = GraphFile(input_shape=(1, *test.image), tensors=specs, nodes=tuple(nodes), output="read")
    return Graph(file, weights)


def _renamed(value: AtenValue, names: dict[str, str]) -> AtenValue:
    if isinstance(value, list | tuple):
        return [_renamed(item, names) for item in value]
    return Ref(names.get(value.name, value.name)) if isinstance(value, Ref) else value
