"""Walk a graph once: which values depend on the image, and what shape each has.

Values that do not depend on the image are computed here, once, and are free.
Values that do are only given a shape, by running the operator without data (on
the "meta" device), so no figure of a shape ever comes from the submission.
Running the graph on images: executor.py. Adding up the cost: macs.py.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from starter.contract.errors import Code, ParticipantError, Problem, participant_error, problem
from starter.graph.format import INPUT, AtenValue, Graph, Node, Ref, refs_in
from starter.graph.formulas import Call, CostClass, tensors_of
from starter.graph.kernels import TORCH_ERRORS, bind, call_kernel, declared_arguments, undefined_division
from starter.graph.operators import BATCH_STATISTICS, OPERATORS, OperatorRule, OperatorTable, hint

MAX_ELEMENTS = 2**26
"""Elements of one value for one image; 256 MiB as float32."""

MAX_CONSTANT_ELEMENTS = 2**28
"""Elements of all folded values together: they stay in memory while the graph runs."""

MAX_PARTS = 40_000
"""Results of all operators that cut a value into many: each is an object, however small."""

IMAGE_DTYPES = frozenset({torch.float32, torch.float16, torch.bfloat16, torch.bool})
"""What a value that depends on the image may be: nothing that several numbers fit into."""

_META = torch.device("meta")
_CUTS: dict[str, Callable[[int, dict[str, AtenValue]], int]] = {
    "aten.unbind.int": lambda side, _: side,
    "aten.split.Tensor": lambda side, bound: -(-side // max(bound["split_size"], 1)),
    "aten.unsafe_split.Tensor": lambda side, bound: -(-side // max(bound["split_size"], 1)),
    "aten.chunk.default": lambda side, bound: min(side, bound["chunks"]) or bound["chunks"],
}
"""How many parts an operator makes of a side."""
_LAYOUT = ("layout", "memory_format", "pin_memory")


@dataclass(frozen=True)
class Step:
    """One operator that runs for every image."""

    node: Node
    rule: OperatorRule
    call: Call


@dataclass
class Trace:
    """What a walk through the graph has found."""

    graph: Graph
    operators: OperatorTable = field(repr=False)
    """What each operator costs."""
    steps: list[Step] = field(default_factory=list)
    """The operators that depend on the image, in order."""
    constants: dict[str, AtenValue] = field(default_factory=dict)
    """Values that do not depend on the image, by name."""
    shapes: dict[str, AtenValue] = field(default_factory=dict)
    """Image-dependent values, as tensors (or tuples of them) without data, by name."""
    problems: list[Problem] = field(default_factory=list)
    """Every refusal, one for each operator and reason."""
    parts: int = 0
    """Results of the operators that cut a value into many."""
    constant_elements: int = 0
    """Elements of all folded values."""
    shaped: dict[AtenValue, AtenValue] = field(default_factory=dict)
    """Results without data of the calls so far, by operator and arguments: networks repeat their layers."""

    @property
    def peak_elements(self) -> int:
        """Elements of the largest image-dependent value, for one image; at least 1."""
        return max((1, *(t.numel() for s in self.steps for t in s.call.outputs)))


def trace(graph: Graph, *, num_classes: int | None, operators: OperatorTable = OPERATORS) -> Trace:
    """Walk the graph; fold what does not depend on the image, shape and check what does.

    Args:
        graph: what was read.
        num_classes: what the output must have; None takes any output.
        operators: the table that says what is refused and what each call costs.

    Raises:
        ParticipantError: everything that is refused, all at once.
    """
    walk = Trace(graph, operators, constants=dict(graph.weights))
    walk.shapes[INPUT] = torch.empty(graph.file.input_shape, device=_META)
    _check_size(INPUT, walk.shapes[INPUT])
    with torch.no_grad():
        for node in graph.file.nodes:
            _visit(walk, node)
    if not walk.problems and num_classes is not None:
        walk.problems += _output_problems(walk, num_classes)
    if walk.problems:
        raise ParticipantError(_distinct(walk.problems))
    return walk


def substitute(value: AtenValue, lookup: Callable[[str], AtenValue]) -> AtenValue:
    """Replace every reference in an argument, in lists and keyword arguments as well."""
    if isinstance(value, Ref):
        return lookup(value.name)
    if isinstance(value, list):
        return [substitute(item, lookup) for item in value]
    if isinstance(value, dict):
        return {key: substitute(item, lookup) for key, item in value.items()}
    return value


def _visit(walk: Trace, node: Node) -> None:
    rule = walk.operators.get(node.op)
    known = all(name in walk.constants or name in walk.shapes for name in node.refs())
    if rule is None:
        walk.problems.append(_no_rule(node))
    if rule is None or not known:
        return  # what reads a refused value has no shape, but its own operator was still looked up
    try:
        _check_arguments(node)
        if rule.ignores_values or not any(name in walk.shapes for name in node.refs()):
            walk.constants[node.name] = _fold(walk, node)
        else:
            walk.steps.append(_shape(walk, node, rule))
    except ParticipantError as error:
        walk.problems += error.problems
    except TORCH_ERRORS as error:
        walk.problems.append(problem(Code.MALFORMED_GRAPH, where=_where(node), got=str(error)[:300]))


def _check_arguments(node: Node) -> None:
    """Refuse what the export never writes: executor.py counts on places, kernels crash on odd layouts."""
    declared = declared_arguments(node.op)
    by_keyword = {a.name for a in declared if not a.only_by_name}.intersection(node.kwargs)
    if by_keyword:
        raise ValueError(f"argument {min(by_keyword)!r} is passed by name, not by position")
    given = {a.name: value for a, value in zip(declared, node.args, strict=False)} | node.kwargs
    if any(given.get(name) is not None for name in _LAYOUT):
        raise ValueError(f"an argument of the memory layout: {', '.join(_LAYOUT)}")
    if not isinstance(given.get("dtype"), torch.dtype | None):
        raise TypeError(f"dtype {given['dtype']!r}")
    if node.op == "aten.dropout.default" and given.get("train") is not False:
        raise participant_error(Code.RANDOM_OPERATOR, where=_where(node), got="dropout in training mode")


def _fold(walk: Trace, node: Node) -> AtenValue:
    """Compute a constant, after its size is known to be bearable."""

    def without_data(name: str) -> AtenValue:
        return walk.shapes[name] if name in walk.shapes else _to_meta(walk.constants[name])

    def with_data(name: str) -> AtenValue:
        if name in walk.shapes:  # only its shape will be read
            return torch.zeros(walk.shapes[name].shape, dtype=walk.shapes[name].dtype)
        return walk.constants[name]

    def run(lookup: Callable[[str], AtenValue], device: torch.device) -> AtenValue:
        args, kwargs = substitute(node.args, lookup), substitute(node.kwargs, lookup)
        return call_kernel(node.op, args, kwargs, device)

    _check_parts(walk, node, without_data)
    try:
        with _Bounded(_where(node)):
            elements = sum(t.numel() for t in tensors_of(run(without_data, _META)))
    except NotImplementedError:  # there is no shape without the data where a mask selects
        elements = _most_selected(substitute(node.args, without_data))
        _check_limit(_where(node), elements, MAX_ELEMENTS, "elements in one value")
    walk.constant_elements += elements
    _check_limit(_where(node), walk.constant_elements, MAX_CONSTANT_ELEMENTS, "elements in all constants")
    bound = substitute(bind(node.op, node.args, node.kwargs), with_data)
    if bound.get("dropout_p"):
        raise participant_error(Code.RANDOM_OPERATOR, where=_where(node), got="attention with dropout")
    undefined = undefined_division(node.op, bound)
    if undefined:
        raise participant_error(Code.NUMBER_OUT_OF_BOUNDS, where=_where(node), got=undefined)
    return run(with_data, torch.device("cpu"))


def _shape(walk: Trace, node: Node, rule: OperatorRule) -> Step:
    def without_data(name: str) -> AtenValue:
        return walk.shapes[name] if name in walk.shapes else _to_meta(walk.constants[name])

    args, kwargs = substitute(node.args, without_data), substitute(node.kwargs, without_data)
    depends = _dependent_arguments(walk, node)
    _refuse(node, rule, depends)
    signature = (node.op, _signature(args), _signature(kwargs))
    _check_parts(walk, node, without_data)
    if signature not in walk.shaped:
        walk.shaped[signature] = call_kernel(node.op, args, kwargs, _META)
    _refuse_unpriced(node, rule, depends)
    result = walk.shaped[signature]
    _check_size(_where(node), result)
    if isinstance(result, torch.Tensor) and result.dtype not in IMAGE_DTYPES:
        raise participant_error(Code.DTYPE_REFUSED, where=_where(node), got=str(result.dtype))
    walk.shapes[node.name] = result
    outputs = tensors_of(result)
    if not outputs:
        raise ValueError("the call returns no tensor")
    return Step(node, rule, Call(bind(node.op, args, kwargs), outputs, depends))


def _signature(value: AtenValue) -> AtenValue:
    """Return what the shape of a result can depend on, as a key; True, 1 and 1.0 are three keys."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape, value.stride()
    if isinstance(value, list | tuple):
        return type(value), tuple(map(_signature, value))
    if isinstance(value, dict):
        return tuple((key, _signature(item)) for key, item in value.items())
    return type(value), value


def _refuse(node: Node, rule: OperatorRule, depends: frozenset[str]) -> None:
    where = _where(node)
    if node.op in BATCH_STATISTICS:
        raise participant_error(Code.BATCH_STATISTICS, where=where, got=node.op)
    if rule.kind is CostClass.CONSTANT:
        raise ParticipantError([_no_rule(node)])
    computed = depends.intersection(rule.indices)
    if computed:
        raise participant_error(
            Code.COMPUTED_INDEX, where=where, got=f"argument {min(computed)!r} depends on the image"
        )


def _refuse_unpriced(node: Node, rule: OperatorRule, depends: frozenset[str]) -> None:
    unpriced = depends.difference(depends if rule.operands is None else rule.operands)
    if unpriced:
        raise participant_error(
            Code.NO_COST_RULE,
            where=_where(node),
            got=f"{node.op}, whose argument {min(unpriced)!r} depends on the image",
            hint=f"Keep {min(unpriced)!r} constant, or write the arithmetic out.",
        )


def _dependent_arguments(walk: Trace, node: Node) -> frozenset[str]:
    bound = bind(node.op, node.args, node.kwargs)
    return frozenset(
        key for key, value in bound.items() if any(name in walk.shapes for name in refs_in(value))
    )


def _to_meta(value: AtenValue) -> AtenValue:
    if isinstance(value, torch.Tensor):
        return value.to(_META)
    return [_to_meta(item) for item in value] if isinstance(value, list | tuple) else value


class _Bounded(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own is not annotated
    """Refuses a step inside an operator that would make a value too large."""

    def __init__(self, where: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._where = where

    def __torch_dispatch__(
        self,
        func: Callable[..., AtenValue],
        types: Sequence[type],
        args: tuple[AtenValue, ...] = (),
        kwargs: dict[str, AtenValue] | None = None,
    ) -> AtenValue:
        result = func(*args, **(kwargs or {}))
        _check_size(self._where, result)
        return result


def _check_size(where: str, result: AtenValue) -> None:
    # A side as well: an empty tensor may have one of any length, and kernels walk along it.
    largest = max((n for t in tensors_of(result) for n in (t.numel(), *t.shape)), default=0)
    _check_limit(where, largest, MAX_ELEMENTS, "elements in one value")


def _check_parts(walk: Trace, node: Node, without_data: Callable[[str], AtenValue]) -> None:
    """Refuse to cut a value into very many, before it is done."""
    if node.op not in _CUTS:
        return
    bound = substitute(bind(node.op, node.args, node.kwargs), without_data)
    walk.parts += _CUTS[node.op](bound["self"].shape[bound["dim"]], bound)
    _check_limit(_where(node), walk.parts, MAX_PARTS, "parts of values")


def _check_limit(where: str, number: int, limit: int, noun: str) -> None:
    if number > limit:
        raise participant_error(
            Code.GRAPH_TOO_LARGE, where=where, expected=f"at most {limit:,} {noun}", got=f"{number:,}"
        )


def _most_selected(args: AtenValue) -> int:
    """Bound what indices select, masks among them: a mask selects each element once, or its places."""
    values, *indices = (t for a in args for t in tensors_of(a))
    return values.numel() * math.prod(
        max(t.dim(), 1) if t.dtype is torch.bool else t.numel() for t in indices
    )


def _where(node: Node) -> str:
    return f"{node.op} at {node.place}"


def _no_rule(node: Node) -> Problem:
    return problem(Code.NO_COST_RULE, where=f"{node.op} at {node.place}", got=node.op, hint=hint(node.op))


def _output_problems(walk: Trace, num_classes: int) -> list[Problem]:
    name = walk.graph.file.output
    if name in walk.constants:
        return [problem(Code.OUTPUT_IGNORES_IMAGE, where="output", got="a constant")]
    output = walk.shapes[name]
    wanted = f"float32 (1, {num_classes})"
    got = (
        f"{output.dtype} {tuple(output.shape)}".removeprefix("torch.")
        if isinstance(output, torch.Tensor)
        else "a tuple"
    )
    return [] if got == wanted else [problem(Code.WRONG_OUTPUT, where="output", expected=wanted, got=got)]


def _distinct(problems: list[Problem]) -> list[Problem]:
    """Keep the first problem of each operator and reason: forty FFTs need one line."""
    return list({(p.code, p.got): p for p in reversed(problems)}.values())[::-1]
