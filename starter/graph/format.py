"""The graph of one submission as data: its types and how an argument is written as JSON.

What reads a file of it, and trusts none of it: reader.py. What an operator means and
costs: operators.py.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from starter.contract.errors import Code, participant_error

INPUT = "image"
GETITEM = "getitem"
MAX_NODES = 40_000
MAX_TENSORS = 20_000
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
IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]{0,199}"
"""What a name in a graph matches."""

AtenValue = Any
"""What an operator takes or gives: tensors, numbers, texts, types, None, lists; in nodes `Ref` too."""

Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]


@dataclass(frozen=True)
class Ref:
    """An argument that is the value of an earlier node, of a tensor or of the image."""

    name: str


class TensorSpec(BaseModel):
    """One entry of the weights file that the graph uses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=f"^{IDENTIFIER}$")
    """What nodes call it."""
    key: str = Field(max_length=300)
    """Its key in weights.safetensors: the participant's own name for it."""
    kind: Literal["parameter", "buffer", "constant"]
    """What it was in the module."""


class Node(BaseModel):
    """One call of one operator."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=f"^{IDENTIFIER}$")
    """Unique in the graph."""
    op: str = Field(max_length=100)
    """For instance aten.conv2d.default."""
    args: Annotated[list[AtenValue], Field(max_length=40)]
    """Positional arguments; once read, references are `Ref`."""
    kwargs: dict[str, AtenValue]
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
        yield from refs_in([self.args, *self.kwargs.values()])


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
    output: str = Field(pattern=f"^{IDENTIFIER}$")
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


def encode(value: AtenValue) -> object:
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


def refs_in(value: AtenValue) -> Iterator[str]:
    """Yield the names that an argument reads, in lists as well."""
    if isinstance(value, Ref):
        yield value.name
    elif isinstance(value, list | tuple):
        for item in value:
            yield from refs_in(item)


def weights_header(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Return what a safetensors file begins with, as the format's specification says.

    Raises:
        ParticipantError: E502; a type of tensor has no place in it.
    """
    header, end = {}, 0
    for key, tensor in tensors.items():
        if tensor.dtype not in STORED_DTYPES:
            raise participant_error(Code.DTYPE_REFUSED, where=f"weights {key!r}", got=str(tensor.dtype))
        start, end = end, end + tensor.nbytes
        dtype = STORED_DTYPES[tensor.dtype]
        header[key] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def memory_of(tensor: torch.Tensor) -> NDArray[np.uint8]:
    """Return the bytes of a contiguous tensor, uint8 (bytes of the tensor,), without a copy."""
    # Of a single element the stride says nothing, but a view as bytes asks for 1.
    flat = tensor.reshape(-1).as_strided((tensor.numel(),), (1,))
    array: NDArray[np.uint8] = flat.view(torch.uint8).numpy()
    return array
