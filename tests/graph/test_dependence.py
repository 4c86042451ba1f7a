"""What a call costs follows which of its arguments depend on the image: every row, every choice of them."""

import itertools
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kernel_fuzzer import IMAGE, Builder, Operand, sound_call
from recount import assert_priced_as_run

from starter.contract.costs import CostReport
from starter.contract.errors import Code, ParticipantError
from starter.graph.analysis import Trace, trace
from starter.graph.costs.macs import count_macs
from starter.graph.executor import Program
from starter.graph.format import GETITEM
from starter.graph.formulas import CostClass
from starter.graph.kernels import declared_arguments, kernel
from starter.graph.operators import OPERATORS
from starter.graph.reader import read_graph

ROWS = [op for op, rule in OPERATORS.items() if rule.kind is not CostClass.CONSTANT and op != GETITEM]


def operands_of(op: str) -> list[str]:
    """Return the arguments of a sound call that hold tensors."""
    named = zip(declared_arguments(op), sound_call(op).args, strict=False)
    return [a.name for a, value in named if isinstance(value, Operand) or _tensors(value)]


def _tensors(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, Operand) for item in value)


def arguments(builder: Builder, op: str, dependent: frozenset[str]) -> list[Any]:
    """Make the arguments of a sound call, some of them from the image."""
    made = []
    for declared, value in zip(declared_arguments(op), sound_call(op).args, strict=False):
        depends = declared.name in dependent
        items = value if isinstance(value, list) else [value]
        placed = [
            item._replace(
                depends=depends, dtype="float32" if depends and item.dtype == "int64" else item.dtype
            )
            if isinstance(item, Operand)
            else item
            for item in items
        ]
        made.append(builder.value(placed if isinstance(value, list) else placed[0]))
    return made


def traced(builder: Builder, output: Any) -> tuple[Trace, CostReport]:
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "graph", Path(folder) / "weights"
        for path, data in zip(paths, builder.files(output), strict=True):
            path.write_bytes(data)
        walk = trace(read_graph(*paths), num_classes=None)
    return walk, count_macs(walk)


def cost_of_call(op: str, dependent: frozenset[str]) -> int:
    """Price a sound call, and hold that its run does no more than is counted."""
    builder = Builder(random.Random(0), extreme=False)
    args = arguments(builder, op, dependent)
    keywords = {a: builder.value(value) for a, value in sound_call(op).kwargs.items()}
    made = call = builder.add(op, *args, **keywords)
    returns = kernel(op)._schema.returns  # type: ignore[attr-defined]
    if len(returns) > 1 or "List" in str(returns[0].type):
        made = builder.add(GETITEM, made, 0)
    walk, report = traced(builder, builder.add("aten.flatten.using_ints", made, 0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's advice on speed
        assert_priced_as_run(walk, report, torch.rand(1, *IMAGE[1:]))
    (node,) = (node for node in report.nodes if node.name == call["ref"])
    return node.contraction + node.pointwise + node.reduction


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.parametrize("op", ROWS)
def test_no_row_changes_the_image_that_others_read_after_it(op: str) -> None:
    """What is computed is rounded in place; an operator may return its operand's own memory."""
    builder = Builder(random.Random(0), extreme=False)
    indices = OPERATORS[op].indices
    args = arguments(builder, op, frozenset(operands_of(op)).difference(indices))
    builder.add(op, *args, **sound_call(op).kwargs)
    walk, _ = traced(builder, builder.add("aten.flatten.using_ints", {"ref": "image"}, 0))
    images = torch.rand(2, *IMAGE[1:]).contiguous(memory_format=torch.channels_last)
    before = images.clone()
    Program(walk)(images)
    assert torch.equal(images, before)


def choices(names: list[str]) -> Iterator[frozenset[str]]:
    sizes = range(1, len(names) + 1)
    return map(frozenset, itertools.chain.from_iterable(itertools.combinations(names, n) for n in sizes))


@pytest.mark.parametrize("op", ROWS)
def test_whatever_depends_on_the_image_is_priced_as_it_runs_or_refused_by_name(op: str) -> None:
    """More arguments from the image never make a call cheaper."""
    rule, costs = OPERATORS[op], {}
    assert rule.operands is not None
    for dependent in choices(operands_of(op)):
        if dependent.intersection(rule.indices) or not dependent <= set(rule.operands):
            with pytest.raises(ParticipantError) as refused:
                cost_of_call(op, dependent)
            (found,) = refused.value.problems
            assert found.code in {Code.COMPUTED_INDEX, Code.NO_COST_RULE}
            assert any(repr(name) in found.got for name in dependent)
        else:
            costs[dependent] = cost_of_call(op, dependent)
    assert costs
    for fewer, more in itertools.permutations(costs, 2):
        assert not fewer < more or costs[fewer] <= costs[more], (sorted(fewer), sorted(more))


def _per_channel(builder: Builder, value: Any) -> Any:
    return builder.add("aten.view.default", value, [1, -1, 1, 1])


def batch_norm_written_out(builder: Builder, *args: Any) -> Any:
    values, *channels = args[:5]
    weight, bias, mean, variance = (_per_channel(builder, value) for value in channels)
    centred = builder.add("aten.sub.Tensor", values, mean)
    root = builder.add("aten.rsqrt.default", builder.add("aten.add.Scalar", variance, 1e-5))
    return builder.add("aten.addcmul.default", bias, builder.add("aten.mul.Tensor", centred, root), weight)


def affine_after(op: str, *, channels: bool) -> Callable[..., Any]:
    """Return a norm without weight and bias, then a product and a sum."""

    def written_out(builder: Builder, *args: Any) -> Any:
        names = [a.name for a in declared_arguments(op)]
        bare = [
            None if name in {"weight", "bias"} else value for name, value in zip(names, args, strict=False)
        ]
        made = builder.add(op, *bare)
        if op.startswith("aten.native"):
            made = builder.add(GETITEM, made, 0)
        for name, operator in (("weight", "aten.mul.Tensor"), ("bias", "aten.add.Tensor")):
            if name in names:
                given = args[names.index(name)]
                made = builder.add(operator, made, _per_channel(builder, given) if channels else given)
        return made

    return written_out


def clamp_written_out(builder: Builder, values: Any, least: Any, most: Any) -> Any:
    return builder.add("aten.minimum.default", builder.add("aten.maximum.default", values, least), most)


def lerp_written_out(builder: Builder, start: Any, end: Any, weight: Any) -> Any:
    difference = builder.add("aten.sub.Tensor", end, start)
    if isinstance(weight, float):
        return builder.add("aten.add.Tensor", start, difference, alpha=weight)
    return builder.add("aten.addcmul.default", start, difference, weight)


def power_written_out(builder: Builder, base: Any, exponent: Any) -> Any:
    logarithm = builder.add("aten.log.default", builder.add("aten.abs.default", base))
    power = builder.add("aten.exp.default", builder.add("aten.mul.Tensor", logarithm, exponent))
    return builder.add("aten.mul.Tensor", power, builder.add("aten.sign.default", base))


WRITTEN_OUT: dict[str, Callable[..., Any]] = {
    "aten._native_batch_norm_legit_no_training.default": batch_norm_written_out,
    "aten.clamp.Tensor": clamp_written_out,
    "aten.lerp.Scalar": lerp_written_out,
    "aten.lerp.Tensor": lerp_written_out,
    "aten.pow.Tensor_Tensor": power_written_out,
    **{
        f"aten.{name}.default": affine_after(f"aten.{name}.default", channels=channels)
        for name, channels in {
            "layer_norm": False,
            "native_layer_norm": False,
            "rms_norm": False,
            "group_norm": True,
            "native_group_norm": True,
            "instance_norm": True,
        }.items()
    },
}
"""The same values by other rows of the table."""


@pytest.mark.parametrize("op", WRITTEN_OUT)
def test_a_call_costs_no_less_than_the_same_written_out(op: str) -> None:
    """Where several arguments depend on the image; a function of one may be one operation."""
    for dependent in choices(operands_of(op)):
        if len(dependent) > 1:
            builder = Builder(random.Random(0), extreme=False)
            made = WRITTEN_OUT[op](builder, *arguments(builder, op, dependent))
            _, report = traced(builder, builder.add("aten.flatten.using_ints", made, 0))
            assert cost_of_call(op, dependent) >= report.macs, sorted(dependent)


def test_running_statistics_of_an_instance_norm_must_be_constant() -> None:
    """Its formula prices none: it is named, with what to do."""
    builder = Builder(random.Random(0), extreme=False)
    image, channels = Operand(depends=True), Operand((4,), depends=True)
    values = [builder.value(value) for value in (image, None, None, channels, channels)]
    made = builder.add("aten.instance_norm.default", *values, False, 0.1, 1e-5, True)
    with pytest.raises(ParticipantError) as refused:
        traced(builder, made)
    (found,) = refused.value.problems
    assert found.code is Code.NO_COST_RULE
    assert found.got == "aten.instance_norm.default, whose argument 'running_mean' depends on the image"
    assert "'running_mean' constant" in found.hint
