"""Run the counted graph on batches of images.

The batch-1 graph is mapped over the batch with torch.vmap, so that no image can
see its neighbours. Convolution and batch norm are fused and tensors kept
channels-last; both change only the order of the same arithmetic, and every value
must have the shape that was counted.

What an operator computes is rounded to 8 significant bits before another reads it:
in a value with more, one multiplication can carry the products of two networks.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Protocol, Self

import torch
from torch.nn.functional import scaled_dot_product_attention

from starter.contract.errors import Code, participant_error
from starter.graph.analysis import Trace, substitute
from starter.graph.format import GETITEM, INPUT, AtenValue, Node, Ref
from starter.graph.fusion import (
    ATTENTION,
    BATCH_NORM,
    CONVOLUTIONS,
    IN_PLACE,
    MAY_ALIAS,
    is_constant,
    merged_norms,
    written_in_place,
)
from starter.graph.kernels import TORCH_ERRORS, bind, kernel

_GLOBAL_POOLS = frozenset({"aten.adaptive_avg_pool2d.default", "aten._adaptive_avg_pool2d.default"})
_BATCH_ELEMENTS = 2**22
"""Of the largest value of a batch: more leaves the processor's caches, fewer make operators short."""
_BATCH_SIZES = (8, 128)
"""The fewest and the most images of a batch, unless it would not fit into memory."""
_MAX_BATCH_ELEMENTS = 2**27
_OUT_OF_PLACE = {in_place: op for op, in_place in IN_PLACE.items()}

Rounding = Callable[[torch.Tensor], torch.Tensor]
"""Rounds a floating-point tensor in place and returns it."""

Instruction = tuple[str, Callable[..., AtenValue], list[AtenValue], dict[str, AtenValue], tuple[str, ...]]
"""Result, kernel, arguments, keyword arguments, and the values not needed afterwards."""


def to_bfloat16(values: torch.Tensor) -> torch.Tensor:
    """Round in place to bfloat16's 8 significant bits, to nearest, ties to even; the dtype stays."""
    return values.copy_(values.to(torch.bfloat16))


class Program:
    """A traced graph, made ready to run.

    Args:
        trace: what the walk through the graph has found.
        batch_size: the largest number of images to run at once; None: what fits into caches.
        rounding: what is done to every value that an operator computes; None: nothing (cost version 1).

    Raises:
        ParticipantError: E602, here or in a run: torch has a shape for a call, but no way to run it.
    """

    def __init__(
        self, trace: Trace, *, batch_size: int | None = None, rounding: Rounding | None = to_bfloat16
    ) -> None:
        fewest, most = _BATCH_SIZES
        wanted = batch_size or min(most, max(fewest, _BATCH_ELEMENTS // trace.peak_elements))
        self.batch_size = max(1, min(wanted, _MAX_BATCH_ELEMENTS // trace.peak_elements))
        self._rounding = rounding
        self._constants = dict(trace.constants)
        self._output = trace.graph.file.output
        with _participants_failure():
            nodes = _planned(trace, self._constants)
        self._shapes = {step.node.name: _shape(step.call.outputs) for step in trace.steps}
        last_use = {name: i for i, node in enumerate(nodes) for name in (node.name, *node.refs())}
        last_use[self._output] = len(nodes)
        dead: dict[int, list[str]] = {}
        for name, i in last_use.items():
            if name not in self._constants:
                dead.setdefault(i, []).append(name)
        self.places = {node.name: f"{node.op} at {node.place}" for node in nodes}
        """The operator of each node that runs, and where the submission calls it, in order."""
        self._instructions: list[Instruction] = [
            (node.name, self._function(node, trace), list(node.args), node.kwargs, tuple(dead.get(i, ())))
            for i, node in enumerate(nodes)
        ]

    def __call__(
        self, images: torch.Tensor, *, after_each: Callable[[str], None] | None = None
    ) -> torch.Tensor:
        """Return logits: float32 (batch, num_classes).

        Args:
            images: float32 (batch, C, H, W), at most `batch_size` of them, where the constants are.
            after_each: called with the name of each node when its operator has been called.
        """
        batch = images.contiguous(memory_format=torch.channels_last).unsqueeze(1)
        with torch.inference_mode(), _participants_failure():
            logits: torch.Tensor = torch.vmap(partial(self._run_one, after_each))(batch)
        return logits.squeeze(1)

    def to(self, device: torch.device) -> Self:
        """Move the constants, and with them the computation, to a device."""
        self._constants = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in self._constants.items()
        }
        return self

    def _function(self, node: Node, trace: Trace) -> Callable[..., AtenValue]:
        """Return an operator's kernel, with the rounding of what it computes."""
        function, rounding = _kernel(node.op), self._rounding
        counted_as = _OUT_OF_PLACE.get(node.op, node.op)
        rule = trace.operators.get(counted_as)  # None: what an operator of the table was rewritten as
        if rounding is None or node.name == self._output or (rule is not None and rule.is_exact):
            return function
        may_alias = node.op in MAY_ALIAS

        def rounded(value: AtenValue) -> AtenValue:
            if isinstance(value, torch.Tensor):
                return rounding(value.clone() if may_alias else value) if value.is_floating_point() else value
            return type(value)(map(rounded, value))

        return lambda *args, **kwargs: rounded(function(*args, **kwargs))

    def _run_one(self, after_each: Callable[[str], None] | None, image: torch.Tensor) -> AtenValue:
        values = {**self._constants, INPUT: image}
        for name, function, args, kwargs, dead in self._instructions:
            values[name] = function(
                *substitute(args, values.__getitem__),
                **{key: substitute(value, values.__getitem__) for key, value in kwargs.items()},
            )
            if _shape(values[name]) != self._shapes[name]:
                counted = self._shapes[name]
                raise RuntimeError(f"{name!r} is {_shape(values[name])}, but was counted as {counted}")
            if after_each is not None:
                after_each(name)
            for key in dead:
                values.pop(key, None)
        return values[self._output]


@contextmanager
def _participants_failure() -> Iterator[None]:
    try:
        yield
    except TORCH_ERRORS as error:
        raise participant_error(Code.RUN_FAILED, where="forward", got=str(error)[:300]) from error


def _shape(value: AtenValue) -> tuple[int, ...]:
    """Return the shape of a value, of the first one where an operator gives several."""
    return tuple(value.shape if isinstance(value, torch.Tensor) else value[0].shape)


def _planned(trace: Trace, constants: dict[str, AtenValue]) -> list[Node]:
    """Return the image-dependent nodes as they run: merged, written in place, rewritten."""
    nodes = {step.node.name: step.node for step in trace.steps}
    replaced: dict[str, Node] = {}
    for name, convolution in merged_norms(trace).items():
        if nodes[name].op == BATCH_NORM:
            replaced[convolution] = _merge(nodes[convolution], nodes[name], constants)
        replaced[name] = _same_value(nodes[name], nodes[name].args[0].name)
    for name in written_in_place(trace):
        replaced[name] = nodes[name].model_copy(update={"op": IN_PLACE[nodes[name].op]})
    affine = {n.name for n in nodes.values() if n.op == BATCH_NORM and is_constant(n, trace)}
    for node in nodes.values():
        if node.op == GETITEM and node.args[0].name in affine and node.args[1] == 0:
            replaced.setdefault(node.name, _same_value(node, node.args[0].name))
    return [_replace(replaced.get(name, node), trace, constants) for name, node in nodes.items()]


def _merge(convolution: Node, norm: Node, constants: dict[str, AtenValue]) -> Node:
    """Scale the convolution's weights by the norm's factor; computed in float64."""
    arguments = bind(convolution.op, convolution.args, convolution.kwargs)
    weight, bias = (_constant(arguments[key], constants) for key in ("weight", "bias"))
    scale, shift = _scale_and_shift(norm, constants)
    if bias is not None:
        shift = shift + bias.double() * scale
    fused_weight = (weight.double() * scale.reshape(-1, *[1] * (weight.dim() - 1))).to(weight.dtype)
    constants[f"{convolution.name}.weight"] = _channels_last(fused_weight)
    constants[f"{convolution.name}.bias"] = shift.to(weight.dtype)
    rest = [arguments[key] for key in ("stride", "padding", "dilation", "groups")]
    args = [arguments["input"], Ref(f"{convolution.name}.weight"), Ref(f"{convolution.name}.bias"), *rest]
    return convolution.model_copy(update={"args": args, "kwargs": {}})


def _scale_and_shift(norm: Node, constants: dict[str, AtenValue]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a batch norm's factor and offset per channel, float64."""
    arguments = bind(norm.op, norm.args, norm.kwargs)
    mean = _constant(arguments["running_mean"], constants).double()
    scale = (_constant(arguments["running_var"], constants).double() + arguments["eps"]).rsqrt()
    weight, bias = (_constant(arguments[key], constants) for key in ("weight", "bias"))
    scale = scale if weight is None else scale * weight.double()
    shift = -mean * scale
    return scale, shift if bias is None else shift + bias.double()


def _replace(node: Node, trace: Trace, constants: dict[str, AtenValue]) -> Node:
    """Rewrite what channels-last memory and vmap would refuse or slow down."""
    if node.op == BATCH_NORM and is_constant(node, trace):
        return _as_affine(node, trace.shapes[node.name][0].dim(), constants)
    if node.op in _GLOBAL_POOLS and tuple(trace.shapes[node.name].shape[-2:]) == (1, 1):
        # vmap would run the pool's channels-last special case image by image; the mean is the same.
        args = [node.args[0], [-2, -1], True]
        return node.model_copy(update={"op": "aten.mean.dim", "args": args, "kwargs": {}})
    if node.op == "aten.slice_scatter.default":
        # An open end is 2**63 - 1 in the graph, which vmap cannot shift by its own axis.
        arguments = bind(node.op, node.args, node.kwargs)
        length = trace.shapes[node.name].shape[arguments["dim"]]
        arguments["end"] = length if arguments["end"] is None else min(arguments["end"], length)
        return node.model_copy(update={"args": list(arguments.values()), "kwargs": {}})
    if node.op in CONVOLUTIONS and isinstance(node.args[1], Ref) and node.args[1].name in constants:
        name = node.args[1].name
        constants[name] = _channels_last(constants[name])
    return node


def _as_affine(norm: Node, rank: int, constants: dict[str, AtenValue]) -> Node:
    """Write a batch norm that follows no convolution as shift + input * scale."""
    arguments = bind(norm.op, norm.args, norm.kwargs)
    ones = [1] * (rank - 2)
    scale, shift = _scale_and_shift(norm, constants)
    for key, value in (("scale", scale), ("shift", shift)):
        constants[f"{norm.name}.{key}"] = value.float().reshape(-1, *ones)
    args = [Ref(f"{norm.name}.shift"), arguments["input"], Ref(f"{norm.name}.scale")]
    return norm.model_copy(update={"op": "aten.addcmul.default", "args": args, "kwargs": {}})


def _same_value(node: Node, name: str) -> Node:
    return node.model_copy(update={"op": "aten.alias.default", "args": [Ref(name)], "kwargs": {}})


def _constant(value: AtenValue, constants: dict[str, AtenValue]) -> AtenValue:
    return substitute(value, constants.__getitem__)


def _channels_last(weight: torch.Tensor) -> torch.Tensor:
    return weight.contiguous(memory_format=torch.channels_last) if weight.dim() == 4 else weight


def _kernel(op: str) -> Callable[..., AtenValue]:
    return _attention if op == ATTENTION else kernel(op)


class _VmapInfo(Protocol):
    batch_size: int


class _Attention(torch.autograd.Function):
    """Attention over a mapped batch.

    torch.vmap has no rule for the fused attention kernels and would run them image by
    image. Folding the mapped axis into attention's own batch axis is the same
    arithmetic, without the loop.
    """

    @staticmethod
    def forward(*operands: AtenValue) -> AtenValue:
        query, key, value, mask, is_causal, scale, enable_gqa = operands
        return scaled_dot_product_attention(
            query, key, value, mask, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa
        )

    @staticmethod
    def setup_context(ctx: object, inputs: object, output: object) -> None:
        """Nothing is kept: there is no backward."""

    @staticmethod
    def vmap(info: _VmapInfo, in_dims: tuple[int | None, ...], *operands: AtenValue) -> tuple[AtenValue, int]:
        batch = info.batch_size
        query, key, value = (
            _leading(operand, dim, batch) for operand, dim in zip(operands[:3], in_dims[:3], strict=True)
        )
        mask = _mask(operands[3], in_dims[3], batch, query.dim())
        folded = query.dim() > 3  # (batch, 1, ..., length, head): two axes become one
        if folded:
            query, key, value = (t.flatten(0, 1) for t in (query, key, value))
        output = _Attention.apply(query, key, value, mask, *operands[4:])
        return (output.unflatten(0, (batch, -1)) if folded else output), 0


def _attention(*args: AtenValue, **kwargs: AtenValue) -> AtenValue:
    """Compute scaled dot-product attention without dropout, fast under vmap.

    Arguments as torch.nn.functional.scaled_dot_product_attention.
    """
    bound = bind(ATTENTION, args, kwargs)
    return _Attention.apply(
        *(bound[key] for key in ("query", "key", "value", "attn_mask", "is_causal", "scale", "enable_gqa"))
    )


def _leading(tensor: torch.Tensor, dim: int | None, batch: int) -> torch.Tensor:
    """Return the tensor with the mapped axis first; a constant is repeated along it without a copy."""
    return tensor.expand(batch, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _mask(mask: AtenValue, dim: int | None, batch: int, rank: int) -> AtenValue:
    """Return the mask in the shape that broadcasts against folded queries."""
    if mask is None or (dim is None and (mask.dim() < rank - 1 or mask.shape[0] == 1)):
        return mask
    mask = _leading(mask, dim, batch)
    while mask.dim() < rank:
        mask = mask.unsqueeze(1)
    return mask.flatten(0, 1) if rank > 3 else mask
