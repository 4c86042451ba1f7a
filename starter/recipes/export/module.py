"""A traced graph as a torch module for any batch size, from which the files are exported.

The counted graph has a batch of one, and its sizes are literal numbers. This module follows every value
at a second batch size, without data, to find its batch axis. Sizes that contain the batch become -1, and
constants that meet images are repeated for each image. An operator that cannot be followed is refused with
its place; the logits show whether the rest is equivalent (parity.py).
"""

import math
from dataclasses import dataclass

import torch
from torch import fx, nn

from starter.graph.analysis import Step, Trace, substitute
from starter.graph.format import INPUT, AtenValue, Node, Ref
from starter.graph.formulas import tensors_of
from starter.graph.fusion import ATTENTION
from starter.graph.kernels import TORCH_ERRORS, bind, kernel

_PROBE = 7
"""The second batch size."""
_META = torch.device("meta")
_SIZED = frozenset(
    {"aten.view.default", "aten._unsafe_view.default", "aten.reshape.default", "aten.unflatten.int"}
)
"""Operators with literal sizes that keep the order of the elements."""
_ORDERED = frozenset(
    {*_SIZED, "aten.flatten.using_ints", "aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims"}
)
"""Those, and others that can be written as a reshape."""
_ONNX_RANK = 4
"""The only number of axes for which torch's ONNX exporter writes scaled dot-product attention."""
_RESHAPE = "aten.reshape.default"
_EXPAND = "aten.expand.default"


class BatchError(Exception):
    """A graph that cannot be followed at another batch size; names the operator and its place."""


@dataclass(frozen=True)
class Batch:
    """The position of the batch in a tensor."""

    axis: int
    """The axis that grows with the batch."""
    outside: int = 1
    """The factor before the batch in that axis: 3 if (3, batch) became one axis."""


ROWS = Batch(0)
"""One row for each image."""


@dataclass(frozen=True)
class _Value:
    """A value that depends on the image."""

    node: fx.Node
    """The fx node that computes it."""
    probe: AtenValue
    """Its value at the second batch size: a tensor without data, or several."""
    batch: Batch
    """The position of the batch; of several tensors, in the first."""


def module_of(walk: Trace, *, batched: bool) -> fx.GraphModule:
    """Return the graph as a module: float32 (batch, C, H, W) to float32 logits (batch, num_classes).

    Args:
        walk: the counted graph; unused values are left out.
        batched: whether it takes any batch; otherwise it takes one image, with the counted operators.

    Raises:
        BatchError: it cannot be followed at another batch size.
    """
    writer = _Writer(walk, batched=batched)
    for step in walk.steps:
        writer.add(step)
    return writer.finish()


class _Writer:
    """Writes the steps of a trace into an fx graph, one after another."""

    def __init__(self, walk: Trace, *, batched: bool) -> None:
        self._walk, self._batched = walk, batched
        self._graph, self._root = fx.Graph(), nn.Module()
        self._fetched: dict[str, AtenValue] = {}
        image = self._graph.placeholder(INPUT)
        probe = torch.empty(_PROBE, *walk.graph.file.input_shape[1:], device=_META)
        self._values = {INPUT: _Value(image, probe, ROWS)}
        self._size = self._graph.call_function(torch.ops.aten.sym_size.int, (image, 0))

    def add(self, step: Step) -> None:
        """Write one step.

        Raises:
            BatchError: it cannot be followed at another batch size.
        """
        node = step.node
        self._values[node.name] = self._followed(node) if self._batched else self._written(node)

    def finish(self) -> fx.GraphModule:
        """Return the module.

        Raises:
            BatchError: the logits are not one row for each image.
        """
        output = self._values[self._walk.graph.file.output]
        if output.batch != ROWS:
            raise BatchError("the output is not one row for each image")
        self._graph.output(output.node)
        self._graph.eliminate_dead_code()
        module = fx.GraphModule(self._root, self._graph)
        module.eval()
        return module

    def _followed(self, node: Node) -> _Value:
        """Write an operator unchanged, with repeated constants, or as a reshape: whichever works first."""
        found = None
        if node.op not in _SIZED:
            found = self._tried(node) or self._tried(self._with_repeated(node))
        if found is None and node.op in _ORDERED:
            found = self._reshaped(node)
        if found is None and node.op == _EXPAND:
            found = self._expanded(node)
        if found is None:
            raise BatchError(f"{node.op} at {node.place}")
        return found

    def _tried(self, node: Node) -> _Value | None:
        """Write an operator, unless it fails at the second batch size or loses the batch there."""
        probe = self._probed(node)
        batch = self._batch(node, probe)
        return self._written(node, probe, batch) if batch else None

    def _written(self, node: Node, probe: AtenValue = None, batch: Batch = ROWS) -> _Value:
        args, kwargs = substitute(list(node.args), self._node), substitute(node.kwargs, self._node)
        rank = tensors_of(self._walk.shapes[node.name])[0].dim()
        call = _attention if node.op == ATTENTION and rank != _ONNX_RANK else kernel(node.op)
        return _Value(self._graph.call_function(call, tuple(args), kwargs), probe, batch)

    def _probed(self, node: Node) -> AtenValue:
        """Call an operator at the second batch size; None if torch raises an error."""
        args, kwargs = substitute(list(node.args), self._probe), substitute(node.kwargs, self._probe)
        try:
            with torch.no_grad():
                return kernel(node.op)(*args, **kwargs)
        except (*TORCH_ERRORS, NotImplementedError):
            return None

    def _batch(self, node: Node, probe: AtenValue) -> Batch | None:
        """Return the position of the batch in a result (of several, the first); None if not in one axis."""
        counted, probed = tensors_of(self._walk.shapes[node.name]), tensors_of(probe)
        source = next(self._values[name] for name in node.refs() if name in self._values)
        return _batch_between(counted[0], probed[0], source.batch.outside) if probed else None

    def _reshaped(self, node: Node) -> _Value | None:
        """Write an operator that keeps the order of the elements as a reshape to its counted sizes."""
        source = self._values[node.args[0].name]
        before, sizes = self._shape_of(node.args[0]), list(self._walk.shapes[node.name].shape)
        batch = _moved(before, source.batch, sizes)
        if batch is None:
            return None
        sizes[batch.axis] = -1
        written = node.model_copy(update={"op": _RESHAPE, "args": [node.args[0], sizes], "kwargs": {}})
        return self._written(written, self._probed(written), batch)

    def _expanded(self, node: Node) -> _Value | None:
        source = self._values[node.args[0].name]
        sizes = list(self._walk.shapes[node.name].shape)
        axis = source.batch.axis + len(sizes) - len(self._shape_of(node.args[0]))
        sizes[axis] = -1
        return self._tried(node.model_copy(update={"args": [node.args[0], sizes]}))

    def _with_repeated(self, node: Node) -> Node:
        """Return a node whose constants repeat their values for each image, along the batch axis."""
        image = next(name for name in node.refs() if name in self._values)
        axis, rank = self._values[image].batch.axis, len(self._shape_of(Ref(image)))
        names = {name for name in node.refs() if name not in self._values}
        repeated = {name: Ref(self._repeated(name, axis, rank)) for name in sorted(names)}

        def lookup(name: str) -> Ref:
            return repeated.get(name, Ref(name))

        args, kwargs = substitute(list(node.args), lookup), substitute(node.kwargs, lookup)
        return node.model_copy(update={"args": args, "kwargs": kwargs})

    def _repeated(self, name: str, axis: int, rank: int) -> str:
        """Return the name of a constant repeated along an axis; its own name if its rank differs."""
        constant = self._walk.constants[name]
        if not isinstance(constant, torch.Tensor) or constant.dim() != rank:
            return name
        new = f"{name} along {axis}"
        if new not in self._values:
            times: list[AtenValue] = [1] * rank
            probe = constant.to(_META).repeat(*times[:axis], _PROBE, *times[axis + 1 :])
            times[axis] = self._size
            written = self._graph.call_function(torch.ops.aten.repeat.default, (self._node(name), times))
            self._values[new] = _Value(written, probe, Batch(axis))
        return new

    def _node(self, name: str) -> AtenValue:
        """Return the fx node of a value; a constant becomes a buffer when it is first read."""
        if name in self._values:
            return self._values[name].node
        if name not in self._fetched:
            self._fetched[name] = self._fetch(self._walk.constants[name])
        return self._fetched[name]

    def _fetch(self, constant: AtenValue) -> AtenValue:
        if isinstance(constant, list | tuple):
            return [self._fetch(item) for item in constant]
        if not isinstance(constant, torch.Tensor):
            return constant
        name = f"constant_{len(list(self._root.buffers()))}"
        self._root.register_buffer(name, constant.detach())
        return self._graph.get_attr(name)

    def _probe(self, name: str) -> AtenValue:
        if name in self._values:
            return self._values[name].probe
        return _without_data(self._walk.constants[name])

    def _shape_of(self, ref: Ref) -> torch.Size:
        return tensors_of(self._walk.shapes[ref.name])[0].shape


def _attention(*args: AtenValue, **kwargs: AtenValue) -> torch.Tensor:
    """Compute scaled dot-product attention on four axes, as ONNX has it.

    Arguments as torch.nn.functional.scaled_dot_product_attention.
    """
    bound = bind(ATTENTION, args, kwargs)
    query, value, mask = bound["query"], bound["value"], bound["attn_mask"]
    if mask is not None and query.dim() > _ONNX_RANK:  # it may have fewer axes than the query
        bound["attn_mask"] = mask.expand(*query.shape[:-2], -1, -1).flatten(0, -_ONNX_RANK)
    for name in ("query", "key", "value"):
        while bound[name].dim() < _ONNX_RANK:
            bound[name] = bound[name].unsqueeze(0)
        bound[name] = bound[name].flatten(0, -_ONNX_RANK)
    result: torch.Tensor = kernel(ATTENTION)(**bound)
    return result.reshape(*query.shape[:-1], value.shape[-1])


def _without_data(value: AtenValue) -> AtenValue:
    if isinstance(value, torch.Tensor):
        return value.to(_META)
    return [_without_data(item) for item in value] if isinstance(value, list | tuple) else value


def _batch_between(one: torch.Tensor, many: torch.Tensor, outside: int) -> Batch | None:
    """Return the position of the batch, from a value for one image and one for `_PROBE` images."""
    if one.dim() != many.dim():
        return None
    longer = [axis for axis in range(one.dim()) if one.shape[axis] != many.shape[axis]]
    if len(longer) != 1 or many.shape[longer[0]] != _PROBE * one.shape[longer[0]]:
        return None
    return Batch(longer[0], outside if one.shape[longer[0]] % outside == 0 else 1)


def _moved(before: torch.Size, batch: Batch, sizes: list[int]) -> Batch | None:
    """Return the position of the batch after a reshape, from the sizes for one image; None if it is split.

    An axis that the batch shares keeps its size for one image: the last one holds features.

    >>> _moved(torch.Size([1, 64, 7, 7]), Batch(0), [1, 3136])
    Batch(axis=0, outside=1)
    >>> _moved(torch.Size([49, 1, 4, 16]), Batch(1), [49, 64])
    Batch(axis=0, outside=49)
    """
    outside, passed = math.prod(before[: batch.axis]) * batch.outside, 1
    for axis, size in enumerate(sizes):
        inside_last = 0 < axis == len(sizes) - 1 and batch.axis < len(before) - 1
        if outside == passed and inside_last and size > 1:
            return Batch(axis - 1, sizes[axis - 1])
        if outside == passed:
            return Batch(axis)
        if outside < passed * size and outside % passed == 0 and size % (outside // passed) == 0:
            return Batch(axis, outside // passed)
        passed *= size
    return None
