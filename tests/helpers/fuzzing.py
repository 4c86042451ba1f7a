"""For tests: what a hostile worker may send back, and what must hold whatever it sent.

`mutants` are real exported graphs, spoilt; `assert_refused_or_priced` is the property.
"""

import copy
import functools
import json
import resource
import signal
import struct
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from recount import assert_priced_as_run
from torch import nn
from tracing import HERE, Forward

from starter.contract.errors import ParticipantError
from starter.graph.analysis import trace
from starter.graph.costs.macs import count_macs
from starter.graph.format import GETITEM
from starter.graph.kernels import kernel
from starter.graph.operators import OPERATORS
from starter.graph.reader import read_graph
from starter.plugin.export import export_model, write_graph

SHAPE = (3, 8, 8)
SECONDS = 10.0
"""For one example; all of them together take seconds."""
MAX_GROWTH = 2**30
"""Bytes that one example may add to the process."""
MAX_RUN_ELEMENTS = 2**18
"""What is larger is counted, and not run here."""

Json = dict[str, Any]


class Mutant(NamedTuple):
    """One answer of a worker: the bytes of graph.json and of weights.safetensors."""

    graph: bytes
    weights: bytes


class TookTooLongError(Exception):
    """The trusted side was busy with one example for more than `SECONDS`."""


def _convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 6),
    )


def _attention(model: nn.Module, image: torch.Tensor) -> torch.Tensor:
    rows = F.layer_norm(F.linear(image.flatten(2).transpose(1, 2), model.inner), (4,))
    rows = rows + F.scaled_dot_product_attention(rows, rows, rows, attn_mask=model.mask)
    return F.linear(F.gelu(rows).mean(1), model.head)


def _functional(model: nn.Module, image: torch.Tensor) -> torch.Tensor:
    larger = F.interpolate(image, scale_factor=2.0, mode="bilinear")
    first, second = F.pad(larger, (1, 1)).chunk(2, dim=-1)
    mixed = torch.cat([first * second.sigmoid(), first.clamp(0, 1)], dim=1)
    pooled = torch.einsum("bchw,cd->bd", mixed, model.table) @ model.table / mixed.var((1, 2, 3)).sqrt()
    return F.softmax(torch.where(pooled > 0, pooled, pooled.exp()), dim=-1)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "convolutions": _convolutions,
    "attention": lambda: Forward(
        _attention,
        inner=torch.rand(4, 3),
        head=torch.rand(6, 4),
        mask=torch.full((64, 64), float("-inf")).triu(1),
    ),
    "functional": lambda: Forward(_functional, table=torch.rand(6, 6)),
}


@functools.cache
def exported(name: str) -> Mutant:
    """Return one of `MODELS` as the kit's own export writes it."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        graph, weights = Path(folder) / "graph", Path(folder) / "weights"
        write_graph(export_model(MODELS[name]().eval(), SHAPE, HERE), HERE, graph, weights)
        return Mutant(graph.read_bytes(), weights.read_bytes())


def assert_refused_or_priced(folder: Path, mutant: Mutant) -> bool:
    """Refused as the participant's, or counted as it runs; in little time and memory. Return whether counted.

    Raises:
        AssertionError: it was counted wrongly, or took too much memory.
        TookTooLongError: it took too long.
    """
    graph, weights = folder / "graph", folder / "weights"
    graph.write_bytes(mutant.graph)
    weights.write_bytes(mutant.weights)
    before = _peak_bytes()
    with _limited(SECONDS), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's advice to the author of the graph
        try:
            walk = trace(read_graph(graph, weights), num_classes=6)
            report = count_macs(walk)
        except ParticipantError as error:
            assert error.problems  # noqa: PT017 - either outcome is right; both are checked
            assert "allocate memory" not in str(error)  # noqa: PT017 - refused before it is tried
            return False
        finally:
            assert _peak_bytes() - before < MAX_GROWTH
        if walk.peak_elements <= MAX_RUN_ELEMENTS and report.macs < 2**24:
            images = torch.rand(1, *walk.graph.file.input_shape[1:])
            try:
                assert_priced_as_run(walk, report, images)
            except ParticipantError:
                return False
    return True


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def strike(_: int, __: FrameType | None) -> None:
        raise TookTooLongError

    before = signal.signal(signal.SIGALRM, strike)
    start = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if time.monotonic() - start > seconds:  # a kernel of torch is not interrupted
        raise TookTooLongError


# What a worker may put into the JSON.

INTEGERS = st.integers(-9, 9) | st.sampled_from(
    [0, 255, 2**16, 2**26, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63), 2**63, 10**30]
)
FLOATS = st.sampled_from([0.5, -0.0, 1e300, 5e-324, float("nan"), float("inf"), float("-inf")])
HOSTILE_TEXT = st.sampled_from(
    [
        "",
        "\0",
        "\ud800",
        "\u202e",
        "\x1b[2J",
        "a" * 5000,
        "__class__",
        "../../labels",
        "\U0001d552",
        "e\u0301",
        "{0}",
    ]
)
NAMES = st.sampled_from(
    ["image", "t0", "t1", "conv2d", "linear", "mean", "add", "chunk", "getitem", "mul", "cat"]
)
ATOMS = (
    st.none()
    | st.booleans()
    | INTEGERS
    | FLOATS
    | HOSTILE_TEXT
    | NAMES.map(lambda name: {"ref": name})
    | st.sampled_from(["float32", "float16", "bool", "int64", "complex64"]).map(lambda name: {"dtype": name})
    | st.sampled_from([{"float": "inf"}, {"float": "nan"}, "nearest", "bc,cd->bd", "bchw->b"])
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(HOSTILE_TEXT | NAMES, inner, max_size=3),
    max_leaves=6,
)
OPS = st.sampled_from(sorted(OPERATORS))


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the place of every part of a JSON value but the whole."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in items for place in ((*path, key), *_places(item, (*path, key)))]


def _holder(graph: Json, place: tuple[Any, ...]) -> Any:
    return functools.reduce(lambda value, key: value[key], place[:-1], graph)


def _replace_part(draw: st.DrawFn, graph: Json) -> None:
    place = draw(st.sampled_from(_places(graph)))
    _holder(graph, place)[place[-1]] = copy.deepcopy(draw(VALUES))


def _remove_part(draw: st.DrawFn, graph: Json) -> None:
    place = draw(st.sampled_from(_places(graph)))
    del _holder(graph, place)[place[-1]]


def _swap_parts(draw: st.DrawFn, graph: Json) -> None:
    """Swap two siblings: arguments, nodes, names."""
    place = draw(st.sampled_from(_places(graph)))
    holder = _holder(graph, place)
    other = draw(st.sampled_from(list(holder) if isinstance(holder, dict) else range(len(holder))))
    holder[place[-1]], holder[other] = holder[other], holder[place[-1]]


def _add_part(draw: st.DrawFn, graph: Json) -> None:
    place = draw(st.sampled_from(_places(graph)))
    holder, value = _holder(graph, place), copy.deepcopy(draw(VALUES))
    if isinstance(holder, list):
        holder.insert(place[-1], draw(st.sampled_from([value, copy.deepcopy(holder[place[-1]])])))
    else:
        holder[draw(HOSTILE_TEXT | st.sampled_from(["dtype", "dim", "device", "alpha", "out"]))] = value


def _rename_node(draw: st.DrawFn, graph: Json) -> None:
    draw(st.sampled_from(graph["nodes"]))["name"] = draw(NAMES | HOSTILE_TEXT)


def _change_operator(draw: st.DrawFn, graph: Json) -> None:
    draw(st.sampled_from(graph["nodes"]))["op"] = draw(
        OPS | st.sampled_from(["aten.fft_fft.default", "aten", "aten.a.b.c", "aten.__class__.default", "os"])
    )


def _change_number(draw: st.DrawFn, graph: Json) -> None:
    """Change a shape, a stride, an axis, a factor."""
    numbers = [p for p in _places(graph["nodes"]) if type(_holder(graph["nodes"], (*p, 0))) in {int, float}]
    if numbers:
        place = draw(st.sampled_from(numbers))
        _holder(graph["nodes"], place)[place[-1]] = draw(INTEGERS)


def _insert_call(draw: st.DrawFn, graph: Json) -> None:
    """Call any operator of the table with arguments of the types that it declares."""
    at = draw(st.integers(0, len(graph["nodes"])))
    known = ["image", *(t["name"] for t in graph["tensors"]), *(n["name"] for n in graph["nodes"][:at])]
    graph["nodes"].insert(at, draw(calls(known, f"forged{len(graph['nodes'])}")))


SIDES = st.integers(1, 4) | st.sampled_from([0, -1, 6, 8, 64])
_OF_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "int": SIDES,
    "number": st.sampled_from([0, 1, 2, -1, 0.5, 1e300]),
    "float": st.sampled_from([1.0, 1e-5, 0.0, 0.5]),
    "bool": st.booleans(),
    "str": st.sampled_from(["nearest", "same", "none", "tanh", "ij", "bc,cd->bd", "bchw->b", "a,b->ab"]),
    "ScalarType": st.sampled_from(["float32", "float16", "bool", "int64"]).map(lambda d: {"dtype": d}),
}


@st.composite
def calls(draw: st.DrawFn, known: list[str], name: str) -> Json:
    """Return a node that calls an operator on known values."""
    op = draw(OPS)
    same = draw(st.sampled_from(known))

    def argument(type_: Any) -> Any:
        kind = str(type_).replace("SymInt", "int")
        if kind.startswith("Optional["):
            return None if draw(st.booleans()) else argument(type_.getElementType())
        if kind == "List[int]" and draw(st.booleans()):
            return [draw(st.sampled_from([1, 1, 2, 0, 3, -1]))] * draw(st.integers(1, 3))
        if kind.startswith("List["):
            length = draw(st.integers(1, 4))
            return [argument(type_.getElementType()) for _ in range(length)]
        if kind == "Tensor":
            return {"ref": same if draw(st.integers(0, 3)) else draw(st.sampled_from(known))}
        return draw(_OF_TYPE.get(kind, ATOMS))

    if op == GETITEM:
        return {"name": name, "op": op, "args": [{"ref": same}, draw(st.integers(-2, 2))], "kwargs": {}}
    declared = kernel(op)._schema.arguments  # type: ignore[attr-defined]
    by_place = [a for a in declared if not a.kwarg_only]
    needed = sum(not a.has_default_value() for a in by_place)
    given = by_place[: draw(st.integers(needed, len(by_place)))]
    return {"name": name, "op": op, "args": [argument(a.real_type) for a in given], "kwargs": {}}


def _node(name: str, op: str, *args: Any, **kwargs: Any) -> Json:
    return {"name": name, "op": op, "args": list(args), "kwargs": kwargs}


_HELPERS = [
    _node("half", "aten.select.int", {"ref": "image"}, 1, 0),
    _node("square", "aten.select.int", {"ref": "half"}, 0, 0),
    _node("row", "aten.select.int", {"ref": "square"}, 0, 0),
    _node("number", "aten.select.int", {"ref": "row"}, 0, 0),
    _node("volume", "aten.unsqueeze.default", {"ref": "image"}, 0),
    _node("positive", "aten.gt.Scalar", {"ref": "image"}, 0.5),
    _node("logits", "aten.expand.default", {"ref": "number"}, [1, 6]),
    _node("kernel", "aten.ones.default", [3, 3, 2, 2]),
    _node("channels", "aten.ones.default", [3]),
    _node("places", "aten.arange.default", 3),
    _node("mask", "aten.ones.default", [8, 8], dtype={"dtype": "bool"}),
    _node("factor", "aten.full.default", [], 2.0),
]
"""Values of every rank and type, from the image and constant, for a call to work on."""


@st.composite
def single_calls(draw: st.DrawFn) -> Mutant:
    """Return a graph with one or two calls of any operator, on values of every rank."""
    names = ["image", *(helper["name"] for helper in _HELPERS)]
    first = draw(calls(names, "first"))
    nodes = [*_HELPERS, first]
    if draw(st.booleans()):
        nodes.append(draw(calls([*names, "first", "first"], "second")))
    graph = {"input_shape": [1, *SHAPE], "tensors": [], "nodes": nodes, "output": "logits"}
    return Mutant(json.dumps(graph).encode(), packed(b"{}", b""))


_CHANGES = st.sampled_from(
    [
        _replace_part,
        _remove_part,
        _swap_parts,
        _add_part,
        _rename_node,
        _change_operator,
        _change_number,
        _insert_call,
        _insert_call,
        _insert_call,
    ]
)

_TEXT_CHANGES: list[tuple[bytes, bytes]] = [
    (b'"format":', b'"format":1,"format":'),
    (b'"op":', b'"op":"aten.relu.default","op":'),
    (b"[", b"[NaN,"),
    (b"[", b"[-Infinity,"),
    (b"[", b"[1e999,"),
    (b"[", b"[" + b"9" * 4000 + b","),
    (b"[", b"[" * 5000),
    (b"[", b'[{"ref":' * 500),
    (b'"kwargs":{', b'"kwargs":{"\\ud800":1'),
    (b'"', b'"\xff'),
    (b'"', b'"\\u0000'),
    (b",", b",,"),
    (b"}", b"}}"),
]


@st.composite
def spoilt_graphs(draw: st.DrawFn, graph: bytes) -> bytes:
    """Return the JSON of a graph with a few changes: in its values, then in its text."""
    value = json.loads(graph)
    for _ in range(draw(st.integers(0, 3))):
        try:
            draw(_CHANGES)(draw, value)
        except (KeyError, IndexError, TypeError, AttributeError):
            break  # an earlier change took away what this one would change
    text = json.dumps(value).encode()
    if draw(st.integers(0, 9)) == 0:
        old, new = draw(st.sampled_from(_TEXT_CHANGES))
        where = text.find(old, draw(st.integers(0, len(text))))
        text = text[:where] + new + text[where + len(old) :] if where >= 0 else text
    if draw(st.integers(0, 19)) == 0:
        text = _spoil_bytes(draw, text)
    return text


def _spoil_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    at = draw(st.integers(0, max(0, len(data) - 1)))
    kind = draw(st.sampled_from(["cut", "overwrite", "insert"]))
    new = draw(st.binary(max_size=8))
    return {
        "cut": data[:at],
        "overwrite": data[:at] + new + data[at + len(new) :],
        "insert": data[:at] + new + data[at:],
    }[kind]


# What a worker may put into the weights.


def packed(header: bytes, data: bytes, length: int | None = None) -> bytes:
    """Return a safetensors file."""
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def _change_dtype(draw: st.DrawFn, header: Json, key: str) -> None:
    header[key]["dtype"] = draw(st.sampled_from(["F64", "F16", "I64", "BOOL", "F8_E4M3", "C64", "X", None]))


def _change_shape(draw: st.DrawFn, header: Json, key: str) -> None:
    header[key]["shape"] = draw(st.lists(INTEGERS, max_size=4))


def _change_offsets(draw: st.DrawFn, header: Json, key: str) -> None:
    header[key]["data_offsets"] = draw(st.lists(INTEGERS, max_size=3))


def _overlap(draw: st.DrawFn, header: Json, key: str) -> None:
    header[draw(st.sampled_from(sorted(header)))]["data_offsets"] = header[key]["data_offsets"]


def _remove_tensor(_: st.DrawFn, header: Json, key: str) -> None:
    del header[key]


def _add_tensor(draw: st.DrawFn, header: Json, key: str) -> None:
    end = header[key]["data_offsets"][1]
    header[draw(HOSTILE_TEXT)] = {"dtype": "F32", "shape": [0], "data_offsets": [end, end]}


def _add_metadata(draw: st.DrawFn, header: Json, _: str) -> None:
    header["__metadata__"] = draw(VALUES)


_HEADER_CHANGES = st.sampled_from(
    [
        _change_dtype,
        _change_shape,
        _change_offsets,
        _overlap,
        _remove_tensor,
        _add_tensor,
        _add_metadata,
    ]
)


@st.composite
def spoilt_weights(draw: st.DrawFn, weights: bytes) -> bytes:
    """Return a safetensors file with one change: in its header, its values or its bytes."""
    (length,) = struct.unpack("<Q", weights[:8])
    text, data = weights[8 : 8 + length], weights[8 + length :]
    header = json.loads(text)
    key = draw(st.sampled_from(sorted(header)))
    kind = draw(st.sampled_from(["header", "header", "value", "key twice", "length", "bytes"]))
    if kind == "header":
        draw(_HEADER_CHANGES)(draw, header, key)
        return packed(json.dumps(header).encode(), data)
    if kind == "value":
        value = struct.pack("<f", draw(st.sampled_from([float("nan"), float("inf"), -0.0, 1e30])))
        at = header[key]["data_offsets"][0]
        return packed(text, data[:at] + value + data[at + 4 :])
    if kind == "key twice":
        again = json.dumps({key: header[key]}).encode()[1:-1]
        return packed(b"{" + again + b"," + text.lstrip()[1:], data)
    if kind == "length":
        return packed(text, data, draw(st.sampled_from([0, 1, len(text) + 1, 2**24, 2**40, 2**64 - 1])))
    return _spoil_bytes(draw, weights)


@st.composite
def mutants(draw: st.DrawFn) -> Mutant:
    """Return what a hostile worker sends back."""
    graph, weights = exported(draw(st.sampled_from(sorted(MODELS))))
    if draw(st.integers(0, 4)) == 0:
        return Mutant(graph, draw(spoilt_weights(weights)))
    return Mutant(draw(spoilt_graphs(graph)), weights)
