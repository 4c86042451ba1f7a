"""Turn a model into a graph file: the last thing that runs in the submission's process.

torch.export traces the model at batch size 1; its graph becomes our own JSON, its
weights a safetensors file that is written tensor by tensor (graph/reader.py reads both).
A refusal here names the participant's own line; the refusals that count are made
again by the reader, on our side.
"""

import contextlib
import inspect
import re
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx import Node as FxNode
from torch.fx.proxy import TracerBase

from starter.contract.errors import Code, ParticipantError, Problem, participant_error, problem
from starter.contract.submissions import SubmissionSource
from starter.graph.format import (
    GETITEM,
    INPUT,
    AtenValue,
    GraphFile,
    Node,
    Ref,
    TensorSpec,
    encode,
    memory_of,
    weights_header,
)
from starter.graph.operators import hint
from starter.plugin import refusals
from starter.plugin.decompositions import decompositions, quickly
from starter.plugin.folding import FoldedConstant, fold, name_of
from starter.plugin.prepare import prepared
from starter.plugin.refusals import own_line

_TORCH = Path(torch.__file__).parent
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_KINDS = {
    InputKind.PARAMETER: "parameter",
    InputKind.BUFFER: "buffer",
    InputKind.CONSTANT_TENSOR: "constant",
}
_DROPPED_ARGUMENTS = frozenset({"device", "layout", "pin_memory", "memory_format", "non_blocking"})
_RANDOM = re.compile(r"aten\.(rand|normal|bernoulli|multinomial|native_dropout|poisson|exponential|uniform)")


def export_model(
    model: torch.nn.Module, input_shape: tuple[int, int, int], source: SubmissionSource
) -> ExportedProgram:
    """Trace the model with torch.export, operators kept whole.

    Raises:
        ParticipantError: the model cannot be traced, or its graph is not a pure function.
    """
    model = prepared(model)
    example = (torch.zeros(1, *input_shape, dtype=torch.float32),)
    try:
        with torch.no_grad(), _quiet(), _own_frames(source):
            model.eval()
            traced = torch.export.export(model, example, strict=False)
            _check_quantization(traced, source)
            with quickly():
                exported: ExportedProgram = traced.run_decompositions(decompositions())
    except ParticipantError:
        raise
    except Exception as error:
        cause, got = refusals.of_export(error, model)
        where = own_line(error, source)
        if where == source.path.name:
            where = _forward(model, source)
        raise ParticipantError([cause.problem(where=where, got=got)]) from error
    problems = _graph_problems(exported, source)
    observer = refusals.observers(model)
    if problems and observer:
        problems = [refusals.OBSERVED.problem(where=_forward(model, source), got=observer)]
    if problems:
        raise ParticipantError(problems)
    return exported


@dataclass(frozen=True)
class PackedGraph:
    """A graph and its weights, ready to be written; the weights are still the model's own memory."""

    graph: bytes
    """graph.json."""
    weights_header: bytes
    """The head of weights.safetensors: the length of its JSON, and the JSON."""
    tensors: tuple[NDArray[np.uint8], ...]
    """The bytes that follow, uint8 (bytes of the tensor,), in the order of the header."""

    @property
    def weights_size(self) -> int:
        """How long weights.safetensors becomes, bytes."""
        return len(self.weights_header) + sum(tensor.nbytes for tensor in self.tensors)

    def write_weights(self, file: IO[bytes]) -> None:
        """Write weights.safetensors, without a second copy of it in memory."""
        file.write(self.weights_header)
        for tensor in self.tensors:
            file.write(tensor.data)


def pack_graph(exported: ExportedProgram, source: SubmissionSource) -> PackedGraph:
    """Return the graph as JSON and its tensors as the parts of a safetensors file.

    Raises:
        ParticipantError: an argument or a type of tensor has no place in a graph.
    """
    values = {**exported.state_dict, **exported.constants}
    folded = fold(exported)
    output = _output(exported)
    live = _live(output, folded)
    specs: list[TensorSpec] = []
    tensors: dict[str, torch.Tensor] = {}
    names: dict[str, str] = {}

    def store(node: str, key: str, kind: str, value: torch.Tensor) -> None:
        names[node] = f"t{len(specs)}"
        specs.append(TensorSpec.model_validate({"name": names[node], "key": key, "kind": kind}))
        tensors[key] = value.detach().cpu().contiguous()

    for spec in exported.graph_signature.input_specs:
        if spec.kind is InputKind.USER_INPUT:
            names[spec.arg.name] = INPUT
        elif spec.arg.name in live:
            store(spec.arg.name, str(spec.target), _KINDS[spec.kind], values[str(spec.target)])
    for node, constant in folded.items():
        kind = "parameter" if constant.is_parameter else "constant"
        store(node, _unused(f"folded.{node}", values), kind, constant.value)
    computed = (n for n in exported.graph.nodes if n.name in live and n.name not in folded)
    nodes = tuple(_node(n, names, source) for n in computed if _computes(n))
    file = GraphFile(
        input_shape=tuple(_input(exported).meta["val"].shape),
        tensors=tuple(specs),
        nodes=nodes,
        output=names.get(output.name, output.name),
    )
    in_order = dict(sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])))
    flat = tuple(memory_of(tensor) for tensor in in_order.values())
    return PackedGraph(file.model_dump_json().encode(), weights_header(in_order), flat)


def write_graph(exported: ExportedProgram, source: SubmissionSource, graph: Path, weights: Path) -> None:
    """Write the graph as JSON and its tensors as safetensors."""
    packed = pack_graph(exported, source)
    graph.write_bytes(packed.graph)
    with weights.open("wb") as file:
        packed.write_weights(file)


def _input(exported: ExportedProgram) -> FxNode:
    name = exported.graph_signature.user_inputs[0]
    found: FxNode = next(n for n in exported.graph.nodes if n.name == name)
    return found


def _output(exported: ExportedProgram) -> FxNode:
    """Return the node whose value is the logits."""
    name = next(s.arg.name for s in exported.graph_signature.output_specs if s.kind is OutputKind.USER_OUTPUT)
    found: FxNode = next(n for n in exported.graph.nodes if n.name == name)
    return found


def _live(output: FxNode, folded: Mapping[str, FoldedConstant]) -> set[str]:
    """Return the names of the nodes that the output needs; what a folded constant was made of is none."""
    found, waiting = set(), [output]
    while waiting:
        node = waiting.pop()
        if node.name not in found:
            found.add(node.name)
            waiting += [] if node.name in folded else node.all_input_nodes
    return found


def _unused(key: str, keys: Mapping[str, object]) -> str:
    while key in keys:
        key += "_"
    return key


def _computes(fx_node: FxNode) -> bool:
    """Say whether a node has a value; the export's own assertions have none."""
    return fx_node.op == "call_function" and not name_of(fx_node).startswith("aten._assert")


def _node(fx_node: FxNode, names: dict[str, str], source: SubmissionSource) -> Node:
    def convert(value: AtenValue) -> AtenValue:
        if isinstance(value, FxNode):
            return Ref(names.get(value.name, value.name))
        if isinstance(value, list | tuple):
            return [convert(item) for item in value]
        return value

    try:
        args = [encode(convert(a)) for a in fx_node.args]
        kwargs = {k: encode(convert(v)) for k, v in fx_node.kwargs.items() if k not in _DROPPED_ARGUMENTS}
    except TypeError as error:
        raise participant_error(
            Code.NO_COST_RULE, where=_place(fx_node, source), got=f"{name_of(fx_node)} with {error}"
        ) from error
    return Node(
        name=fx_node.name,
        op=name_of(fx_node),
        args=args,
        kwargs=kwargs,
        module=_module(fx_node),
        source=_source(fx_node, source),
    )


def _module(fx_node: FxNode) -> str:
    stack = list((fx_node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0])[:300] if stack else ""


def _source(fx_node: FxNode, source: SubmissionSource) -> str:
    """Return the deepest line of the participant's own; if there is none, of the library."""
    frames = _FRAME.findall(fx_node.meta.get("stack_trace") or "")
    own = [f"{source.relative(file)}:{line}" for file, line in frames if source.owns(file)]
    library = [
        f"{'/'.join(Path(file).parts[-2:])}:{line}"
        for file, line in frames
        if _TORCH not in Path(file).parents
    ]
    return (["", *library, *own])[-1][:300]


def _place(fx_node: FxNode, source: SubmissionSource) -> str:
    line = _source(fx_node, source)
    return f"{name_of(fx_node)}, written at {line}" if line else name_of(fx_node)


def _forward(model: torch.nn.Module, source: SubmissionSource) -> str:
    """Return where the model's own forward begins, for errors that say no line."""
    # Looked up without running anything: a scripted module computes its attributes.
    code = getattr(inspect.getattr_static(type(model), "forward", None), "__code__", None)
    if code is None or not source.owns(code.co_filename):
        return source.path.name
    return f"{source.relative(code.co_filename)}:{code.co_firstlineno} in forward"


def _check_quantization(traced: ExportedProgram, source: SubmissionSource) -> None:
    found = refusals.of_quantization(traced.graph)
    if found is not None:
        cause, node = found
        raise ParticipantError([cause.problem(where=_place(node, source), got=name_of(node))])


def _graph_problems(exported: ExportedProgram, source: SubmissionSource) -> list[Problem]:
    problems = _assignments(exported, source)
    outputs = [s for s in exported.graph_signature.output_specs if s.kind is OutputKind.USER_OUTPUT]
    if len(outputs) != 1:
        problems.append(problem(Code.WRONG_OUTPUT, where="forward", got=f"{len(outputs)} outputs"))
    seen = set()
    for fx_node in exported.graph.nodes:
        cause, op = _refusal(fx_node), name_of(fx_node)
        # What follows from an unknown shape or number is no news: only where it begins is named.
        key = (cause, "" if cause is refusals.VALUES else op)
        if cause is not None and key not in seen:
            seen.add(key)
            where = _place(fx_node, source)
            problems.append(cause.problem(where=where, got=op, hint=hint(op)))
    return problems


def _assignments(exported: ExportedProgram, source: SubmissionSource) -> list[Problem]:
    """Return what forward changes: buffers, parameters, or its argument."""
    computed = {fx_node.name: fx_node for fx_node in exported.graph.nodes}
    problems = []
    for spec in exported.graph_signature.output_specs:
        if spec.kind is not OutputKind.USER_OUTPUT:
            of_input = spec.kind is OutputKind.USER_INPUT_MUTATION
            cause = refusals.INPUT_CHANGED if of_input else refusals.Cause(Code.STATE_CHANGED)
            where = _source(computed[spec.arg.name], source) or "forward"
            problems.append(cause.problem(where=where, got=f"assigns to {spec.target!r}"))
    return problems


def _refusal(fx_node: FxNode) -> refusals.Cause | None:
    if fx_node.op == "get_attr":
        return refusals.Cause(Code.SUBGRAPH)
    if fx_node.op != "call_function" or name_of(fx_node) == GETITEM:
        return None
    if isinstance(fx_node.target, torch._ops.HigherOrderOperator):  # noqa: SLF001 - as above
        return refusals.Cause(Code.SUBGRAPH)
    if _RANDOM.match(name_of(fx_node)):
        return refusals.Cause(Code.RANDOM_OPERATOR)
    if isinstance(fx_node.target, torch._ops.OpOverload) and not name_of(fx_node).startswith("aten."):  # noqa: SLF001
        return refusals.of_library(name_of(fx_node))
    return refusals.of_values(fx_node)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # torch.export warns about its own internals, and about nothing that the participant could fix.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _own_frames(source: SubmissionSource) -> Iterator[None]:
    """Have the tracer keep every frame of the participant's own, not only those of forward."""
    owns = cache(source.owns)

    def keep(_: TracerBase, frames: traceback.StackSummary) -> traceback.StackSummary:
        kept = [f for f in frames if f.name == "forward" or owns(f.filename)]
        return traceback.StackSummary.from_list(kept)

    with patch.object(TracerBase, "_filter_traceback_frames", keep):
        yield
