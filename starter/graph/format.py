"""The graph of one submission as data: its types, its JSON, its reader.

The file is written by a process that runs a stranger's code, so the reader takes
nothing for granted: every name, number and reference is checked before any kernel
runs. What an operator means and costs is in operators.py.
"""

import json
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open

from starter.contract.errors import Code, ParticipantError, participant_error

INPUT = "image"
GETITEM = "getitem"
MAX_NODES = 20_000
MAX_TENSORS = 20_000
MAX_GRAPH_BYTES = 32 * 2**20
MAX_WEIGHTS_BYTES = 2 * 2**30
MAX_HEADER_BYTES = 16 * 2**20
MAX_DIGITS = 20
MAX_JSON_VALUES = 2_000_000
"""Lists, objects and commas: what a text of short values takes in memory is fifty times its length."""
MAX_DEPTH = 4
MAX_SIDE = 4096

DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in (
        "float32",
        "float16",
        "bfloat16",
        "float64",
        "bool",
        "uint8",
        "int8",
        "int16",
        "int32",
        "int64",
    )
}
STORED_DTYPES: dict[torch.dtype, str] = dict(
    zip(DTYPES.values(), ("F32", "F16", "BF16", "F64", "BOOL", "U8", "I8", "I16", "I32", "I64"), strict=True)
)
"""What safetensors calls each of `DTYPES`."""
_SPECIAL_FLOATS = {"inf": math.inf, "-inf": -math.inf}
_IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]{0,199}"
_NAME = re.compile(_IDENTIFIER)
_STRING = re.compile(r"[A-Za-z0-9_,>\- ]{0,80}")


Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]


@dataclass(frozen=True)
class Ref:
    """An argument that is the value of an earlier node, of a tensor or of the image."""

    name: str


class TensorSpec(BaseModel):
    """One entry of the weights file that the graph uses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=f"^{_IDENTIFIER}$")
    """What nodes call it."""
    key: str = Field(max_length=300)
    """Its key in weights.safetensors: the participant's own name for it."""
    kind: Literal["parameter", "buffer", "constant"]
    """What it was in the module."""


class Node(BaseModel):
    """One call of one operator."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=f"^{_IDENTIFIER}$")
    """Unique in the graph."""
    op: str = Field(max_length=100)
    """For instance aten.conv2d.default."""
    args: Annotated[list[Any], Field(max_length=40)]
    """Positional arguments; once read, references are `Ref`."""
    kwargs: dict[str, Any]
    """Keyword arguments, encoded like `args`."""
    module: str = Field(default="", max_length=300)
    """The participant's module path."""
    source: str = Field(default="", max_length=300)
    """The participant's own line, "plugin.py:31"."""

    @property
    def place(self) -> str:
        """Where a person finds this node."""
        origin = ", ".join(part for part in (self.module, self.source) if part)
        return f"node {self.name!r}" + (f" ({origin})" if origin else "")

    def refs(self) -> Iterator[str]:
        """Yield the names that this node reads, in order."""
        yield from _refs([self.args, list(self.kwargs.values())])


class GraphFile(BaseModel):
    """graph.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    """The version of this file's layout."""
    input_shape: tuple[Literal[1], Side, Side, Side]
    """(1, C, H, W) of the float32 image."""
    tensors: Annotated[tuple[TensorSpec, ...], Field(max_length=MAX_TENSORS)]
    """The weights that nodes refer to."""
    nodes: Annotated[tuple[Node, ...], Field(max_length=MAX_NODES)]
    """In an order in which they can run."""
    output: str = Field(pattern=f"^{_IDENTIFIER}$")
    """The node whose value is the logits."""


@dataclass(frozen=True)
class Graph:
    """A graph that was read and checked, with its weights."""

    file: GraphFile
    weights: Mapping[str, torch.Tensor] = field(repr=False)
    """By `TensorSpec.name`."""

    @property
    def num_params(self) -> int:
        """Elements of the parameters that the graph uses."""
        return sum(self.weights[t.name].numel() for t in self.file.tensors if t.kind == "parameter")


def encode(value: Any) -> Any:
    """Turn one argument into JSON; raises TypeError for what has no place in a graph."""
    if isinstance(value, Ref):
        return {"ref": value.name}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    raise TypeError(f"an argument of type {type(value).__name__}")


def read_graph(graph_path: Path, weights_path: Path) -> Graph:
    """Read and check a graph and its weights.

    Raises:
        ParticipantError: E505 to E507; nothing of the file was executed.
    """
    with _opened(graph_path, MAX_GRAPH_BYTES) as opened:
        raw = _strict_json(graph_path.name, opened.read())
    try:
        file = GraphFile.model_validate(raw)
    except ValidationError as error:
        raise _invalid(error) from error
    file = file.model_copy(update={"nodes": tuple(_decoded(node) for node in file.nodes)})
    _check_references(file)
    return Graph(file, _read_weights(file, weights_path))


@contextmanager
def _opened(path: Path, limit: int) -> Iterator[BinaryIO]:
    """Open a plain file of ours: no link to another, no pipe that never ends, nothing larger than `limit`."""

    def careful(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))

    try:
        named = path.lstat()
        opened = open(path, "rb", opener=careful)  # noqa: SIM115 - closed below
    except OSError as error:
        raise _malformed(path.name, f"cannot be opened: {error.strerror}") from error
    with opened as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or not os.path.samestat(named, found):
            raise _malformed(path.name, "not a plain file with one name")
        if found.st_size > limit:
            raise _malformed(path.name, f"more than {limit:,} bytes", Code.GRAPH_TOO_LARGE)
        yield file


def _strict_json(name: str, data: bytes) -> Any:
    if sum(map(data.count, (b"[", b"{", b","))) > MAX_JSON_VALUES:
        raise _malformed(name, f"more than {MAX_JSON_VALUES:,} values", Code.GRAPH_TOO_LARGE)
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_integer,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as error:
        raise _malformed(name, str(error)[:300]) from error


def _decoded(node: Node) -> Node:
    try:
        args = [_decode(a, 0) for a in node.args]
        kwargs = {key: _decode(v, 0) for key, v in node.kwargs.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise _malformed(node.place, f"argument: {error}"[:300]) from error
    if node.op == GETITEM and not _is_getitem(args, kwargs):
        raise _malformed(node.place, "getitem takes a reference and a number")
    return node.model_copy(update={"args": args, "kwargs": kwargs})


def _decode(value: Any, depth: int) -> Any:
    if isinstance(value, list):
        if depth == MAX_DEPTH:
            raise ValueError("lists nested too deeply")
        return [_decode(item, depth + 1) for item in value]
    if isinstance(value, dict):
        ((kind, inner),) = value.items()
        decoders: dict[str, Callable[[Any], Any]] = {
            "ref": _decode_ref,
            "dtype": DTYPES.__getitem__,
            "float": _SPECIAL_FLOATS.__getitem__,
        }
        return decoders[kind](inner)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("an integer beyond 64 bits")
    if isinstance(value, str) and not _STRING.fullmatch(value):
        raise ValueError(f"the string {value[:80]!r}")
    return value


def _decode_ref(name: Any) -> Ref:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError("a reference that is no name")
    return Ref(name)


def _is_getitem(args: list[Any], kwargs: Mapping[str, Any]) -> bool:
    return not kwargs and len(args) == 2 and isinstance(args[0], Ref) and type(args[1]) is int


def _refs(value: Any) -> Iterator[str]:
    if isinstance(value, Ref):
        yield value.name
    elif isinstance(value, list):
        for item in value:
            yield from _refs(item)


def _check_references(file: GraphFile) -> None:
    known = {INPUT}
    keys = Counter(tensor.key for tensor in file.tensors)
    if keys and max(keys.values()) > 1:  # each would be loaded anew
        raise _malformed("tensors", f"the key {max(keys, key=keys.__getitem__)!r} is used twice")
    for tensor in file.tensors:
        if tensor.name in known:
            raise _malformed(f"tensor {tensor.name!r}", "the name is used twice")
        known.add(tensor.name)
    for node in file.nodes:
        unknown = next((name for name in node.refs() if name not in known), None)
        if unknown is not None:
            raise _malformed(node.place, f"reads {unknown!r}, which is not computed before it")
        if node.name in known:
            raise _malformed(node.place, "the name is used twice")
        known.add(node.name)
    if file.output not in known:
        raise _malformed("output", f"{file.output!r} is not computed")


def _read_weights(file: GraphFile, path: Path) -> dict[str, torch.Tensor]:
    with _opened(path, MAX_WEIGHTS_BYTES) as data:
        _check_header(path.name, data)
    try:
        with safe_open(path, framework="pt") as opened:
            keys = set(opened.keys())
            missing = [t.key for t in file.tensors if t.key not in keys]
            if missing:
                raise _malformed(path.name, f"no tensor {missing[0]!r}")
            weights = {t.name: opened.get_tensor(t.key) for t in file.tensors}
    except (SafetensorError, OSError, ValueError) as error:
        raise _malformed(path.name, str(error)[:300]) from error
    for tensor in file.tensors:
        _check_weights(tensor, weights[tensor.name])
    return weights


def _check_header(name: str, data: BinaryIO) -> None:
    """Refuse what the library lets pass: keys that stand twice, very many tensors, types without a row."""
    length = int.from_bytes(data.read(8), "little")
    if length > MAX_HEADER_BYTES:
        raise _malformed(name, f"a header of {length:,} bytes, more than {MAX_HEADER_BYTES:,}")
    header = _strict_json(name, data.read(length))
    if not isinstance(header, dict):
        raise _malformed(name, "the header is no object")
    if len(header) > MAX_TENSORS:
        raise _malformed(name, f"more than {MAX_TENSORS:,} tensors", Code.GRAPH_TOO_LARGE)
    for key, entry in header.items():
        dtype = entry.get("dtype") if isinstance(entry, dict) else None
        if key != "__metadata__" and (not isinstance(dtype, str) or dtype not in STORED_DTYPES.values()):
            raise participant_error(Code.DTYPE_REFUSED, where=f"weights {key[:300]!r}", got=repr(dtype)[:80])


def _check_weights(spec: TensorSpec, tensor: torch.Tensor) -> None:
    if not tensor.is_floating_point():
        return
    # Attention masks are buffers of 0 and -inf; a parameter is never infinite.
    wrong = tensor.isnan() if spec.kind != "parameter" else ~tensor.isfinite()
    if wrong.any():
        raise participant_error(
            Code.NON_FINITE_WEIGHTS,
            where=f"weights {spec.key!r}",
            got=f"{int(wrong.sum()):,} of {tensor.numel():,} values",
        )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(text):,} digits")
    return int(text)


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"{text[:80]} is beyond a float")
    return float(text)


def _invalid(error: ValidationError) -> ParticipantError:
    """Return the first of the schema's complaints."""
    first = error.errors()[0]
    too_many = first["type"] == "too_long" and first["loc"] in {("nodes",), ("tensors",)}
    code = Code.GRAPH_TOO_LARGE if too_many else Code.MALFORMED_GRAPH
    return _malformed(".".join(map(str, first["loc"]))[:200], first["msg"][:300], code)


def _malformed(where: str, got: str, code: Code = Code.MALFORMED_GRAPH) -> ParticipantError:
    return participant_error(code, where=where, got=got)
