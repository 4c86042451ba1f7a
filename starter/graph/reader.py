"""Read a graph file and its weights.

Both are written by a process that runs a stranger's code, so nothing is taken for
granted: every name, number and reference is checked before any kernel runs. The
types: format.py.
"""

import json
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NoReturn

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from starter.contract.errors import Code, ParticipantError, participant_error
from starter.graph.format import (
    DTYPES,
    GETITEM,
    IDENTIFIER,
    INPUT,
    MAX_TENSORS,
    STORED_DTYPES,
    AtenValue,
    Graph,
    GraphFile,
    Node,
    Ref,
    TensorSpec,
)
from starter.graph.kernels import MAX_RANK, check_bounds

MAX_GRAPH_BYTES = 32 * 2**20
MAX_WEIGHTS_BYTES = 2 * 2**30
MAX_HEADER_BYTES = 16 * 2**20
MAX_DIGITS = 20
MAX_JSON_VALUES = 2_000_000
"""Lists, objects and commas: what a text of short values takes in memory is fifty times its length."""
MAX_DEPTH = 4

_CONSTANTS: Mapping[str, Mapping[str, AtenValue]] = {
    "dtype": DTYPES,
    "float": {"inf": math.inf, "-inf": -math.inf},
}
"""Values that JSON has no form for, by kind and name."""
_NAME = re.compile(IDENTIFIER)
_STRING = re.compile(r"[A-Za-z0-9_,>\- ]{0,80}")


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


def _strict_json(name: str, data: bytes) -> object:
    if sum(map(data.count, (b"[", b"{", b","))) > MAX_JSON_VALUES:
        raise _malformed(name, f"more than {MAX_JSON_VALUES:,} values", Code.GRAPH_TOO_LARGE)
    try:
        found: object = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_integer,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as error:
        raise _malformed(name, str(error)[:300]) from error
    return found


def _decoded(node: Node) -> Node:
    try:
        args = [_decode(a, 0) for a in node.args]
        kwargs = {key: _decode(v, 0) for key, v in node.kwargs.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise _malformed(node.place, f"argument: {error}"[:300]) from error
    if node.op == GETITEM and not _is_getitem(args, kwargs):
        raise _malformed(node.place, "getitem takes a reference and a number that is not negative")
    check_bounds(node.op, args, kwargs, f"{node.op} at {node.place}")
    return node.model_copy(update={"args": args, "kwargs": kwargs})


def _decode(value: object, depth: int) -> AtenValue:
    if isinstance(value, list):
        if depth == MAX_DEPTH:
            raise ValueError("lists nested too deeply")
        return [_decode(item, depth + 1) for item in value]
    if isinstance(value, dict):
        ((kind, inner),) = value.items()
        return _decode_ref(inner) if kind == "ref" else _CONSTANTS[kind][inner]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("an integer beyond 64 bits")
    if isinstance(value, str) and not _STRING.fullmatch(value):
        raise ValueError(f"the string {value[:80]!r}")
    return value


def _decode_ref(name: object) -> Ref:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError("a reference that is not a name")
    return Ref(name)


def _is_getitem(args: list[AtenValue], kwargs: Mapping[str, AtenValue]) -> bool:
    return (
        not kwargs and len(args) == 2 and isinstance(args[0], Ref) and type(args[1]) is int and args[1] >= 0
    )


def _check_references(file: GraphFile) -> None:
    known = {INPUT}
    keys = Counter(tensor.key for tensor in file.tensors)
    if keys and max(keys.values()) > 1:  # each would be loaded again
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
    """Refuse what the library lets pass: keys that stand twice, very many tensors, unknown types."""
    length = int.from_bytes(data.read(8), "little")
    if length > MAX_HEADER_BYTES:
        raise _malformed(name, f"a header of {length:,} bytes, more than {MAX_HEADER_BYTES:,}")
    header = _strict_json(name, data.read(length))
    if not isinstance(header, dict):
        raise _malformed(name, "the header is not an object")
    if len(header) > MAX_TENSORS:
        raise _malformed(name, f"more than {MAX_TENSORS:,} tensors", Code.GRAPH_TOO_LARGE)
    for key, entry in header.items():
        dtype = entry.get("dtype") if isinstance(entry, dict) else None
        if key != "__metadata__" and (not isinstance(dtype, str) or dtype not in STORED_DTYPES.values()):
            raise participant_error(Code.DTYPE_REFUSED, where=f"weights {key[:300]!r}", got=repr(dtype)[:80])
        if key != "__metadata__" and not _is_shape(entry.get("shape")):
            raise _malformed(f"weights {key[:300]!r}", f"the shape {str(entry.get('shape'))[:80]}")


def _is_shape(value: object) -> bool:
    """Say whether a shape has few sides, each below what any value may have."""
    if not isinstance(value, list) or len(value) > MAX_RANK:
        return False
    return all(type(side) is int and 0 <= side <= MAX_WEIGHTS_BYTES for side in value)


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


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return result


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(text):,} digits")
    return int(text)


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"{text[:80]} is too large for a float")
    return float(text)


def _invalid(error: ValidationError) -> ParticipantError:
    """Return the first of the schema's complaints."""
    first = error.errors()[0]
    too_many = first["type"] == "too_long" and first["loc"] in {("nodes",), ("tensors",)}
    code = Code.GRAPH_TOO_LARGE if too_many else Code.MALFORMED_GRAPH
    return _malformed(".".join(map(str, first["loc"]))[:200], first["msg"][:300], code)


def _malformed(where: str, got: str, code: Code = Code.MALFORMED_GRAPH) -> ParticipantError:
    return participant_error(code, where=where, got=got)
