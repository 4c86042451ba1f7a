"""Every operator of the table on extreme arguments: none may end, hang or fill the process that runs it.

A case is a call that is sound (`sound_call`), spoilt a little: its numbers, the shapes, types and layouts
of its tensors, and which of them depend on the image. It goes through the reader, the walk and the
executor like a submission's graph, in a child process that a crash ends alone. With --twice every case
runs again in other memory: results that differ were read from where nothing was written.

    python benchmarks/kernel_fuzzer.py --cases 200 --twice
"""

import argparse
import contextlib
import hashlib
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save

from starter.contract.errors import ParticipantError
from starter.graph.analysis import trace
from starter.graph.costs.macs import count_macs
from starter.graph.executor import Program
from starter.graph.format import DTYPES, GETITEM, encode
from starter.graph.kernels import kernel
from starter.graph.operators import OPERATORS
from starter.graph.reader import read_graph

IMAGE = (1, 4, 8, 8)
SECONDS = 20
"""For one case; most take milliseconds."""
START_SECONDS = 60
MAX_VALUES, MAX_MACS = 2**18, 2**30
"""Elements of one tensor that have values of their own; what is run."""
ROWS_AT_ONCE = 40
"""One child runs their cases."""

Json = dict[str, Any]


class Operand(NamedTuple):
    """A tensor argument, described."""

    shape: tuple[int, ...] = IMAGE
    dtype: str = "float32"
    depends: bool = False
    """Whether its values come from the image."""
    layout: str = "contiguous"


LAYOUTS = ("contiguous", "transposed", "expanded", "strided", "channels last", "offset")

# What is sound: arguments by name, then by operator where its shapes must fit each other.

_BY_NAME: Json = {
    "condition": Operand(dtype="bool"), "mask": Operand(dtype="bool"), "index": Operand((3,), "int64"),
    "dim": 1, "exponent": 3, "p": 3, "ord": 3, "size": [1, 4, 8, 8], "repeats": [1, 2, 1, 1],
    "dims": [0, 2, 3, 1], "shifts": [1, -1], "min": 0.0, "max": 1.0, "correction": 1, "groups": 2,
    "kernel_size": [2, 2], "stride": [2, 2], "padding": [1, 1], "dilation": [1, 1], "align_corners": False,
    "n": 4, "m": 5, "row": 4, "col": 5, "end": 6, "start": 1, "step": 2, "steps": 5, "index_int": 1,
    "output_size": [3, 5], "upscale_factor": 2, "downscale_factor": 2, "half_to_float": False,
    "eps": 1e-5, "momentum": 0.1, "rounding_mode": "trunc", "indexing": "ij", "approximate": "tanh",
    "dtype": torch.float32, "source": 1, "destination": 2, "axis0": 1, "axis1": 2, "dim0": 1, "dim1": 2,
    "chunks": 2, "split_size": 3, "cudnn_enabled": True, "cudnn_enable": True,
}  # fmt: skip


def _by_rank(rank: int) -> dict[str, list[Any]]:
    """Return the calls of what there is for several ranks."""
    image, photo, kernel_ = Operand((1, 4, *[6] * rank)), Operand((1, 3, *[6] * rank)), [2] * rank
    weight, ones, zeros = Operand((6, 2, *[3] * rank)), [1] * rank, [0] * rank
    transposed = Operand((4, 3, *[2] * rank))
    overload = "default" if rank == 1 else "input"
    calls: dict[str, list[Any]] = {
        f"conv{rank}d.default": [image, weight, Operand((6,)), ones, ones, ones, 2],
        f"conv{rank}d.padding": [image, weight, Operand((6,)), ones, "same", ones, 2],
        f"conv_transpose{rank}d.{overload}": [image, transposed, Operand((6,)), kernel_, ones, ones, 2, ones],
        f"avg_pool{rank}d.default": [image, kernel_, kernel_, ones, True, False],
        f"adaptive_avg_pool{rank}d.default": [image, [3] * rank],
        f"_adaptive_avg_pool{rank}d.default": [image, [3] * rank],
        f"adaptive_max_pool{rank}d.default": [image, [3] * rank],
        f"upsample_nearest{rank}d.default": [photo, [9] * rank, *[1.5] * rank],
        f"_upsample_nearest_exact{rank}d.default": [photo, [9] * rank, *[1.5] * rank],
        f"reflection_pad{rank}d.default": [image, [1, 2] * rank],
        f"replication_pad{rank}d.default": [image, [1, 2] * rank],
    }
    for name in (f"max_pool{rank}d", f"max_pool{rank}d_with_indices"):
        calls[f"{name}.default"] = [image, kernel_, kernel_, ones, ones, True]
    for kind in ("linear", "bilinear", "bicubic"):
        calls[f"upsample_{kind}{rank}d.default"] = [photo, [9] * rank, False, *[1.5] * rank]
        for name in (f"upsample_{kind}{rank}d", f"_upsample_{kind}{rank}d_aa"):
            calls[f"{name}.vec"] = [photo, None, False, [1.5] * rank]
    for name in (f"upsample_nearest{rank}d", f"_upsample_nearest_exact{rank}d"):
        calls[f"{name}.vec"] = [photo, None, [1.5] * rank]
    if rank == 2:
        calls["convolution.default"] = [image, weight, Operand((6,)), ones, ones, ones, False, zeros, 2]
    return calls


def _by_operator() -> dict[str, list[Any]]:
    matrix, row, pair = Operand((4, 6)), Operand((6,)), Operand((2, 6, 5))
    one, index, norm = Operand((4,)), Operand((3,), "int64"), [Operand(), *[Operand((4,))] * 4]
    rows = Operand((2, 4, 6))
    calls: dict[str, list[Any]] = {
        "linear": [rows, Operand((5, 6)), Operand((5,))], "mm": [matrix, Operand((6, 5))],
        "bmm": [rows, pair], "mv": [matrix, row], "matmul": [rows, pair], "dot": [row, row],
        "outer": [row, one], "addmm": [Operand((4, 5)), matrix, Operand((6, 5))],
        "baddbmm": [Operand((2, 4, 5)), rows, pair], "einsum": ["abc,acd->abd", [rows, pair]],
        "scaled_dot_product_attention": [*[Operand((1, 2, 4, 6))] * 3, Operand((4, 4)), 0.0, False],
        "prelu": [Operand(), one], "_prelu_kernel": [Operand(), Operand((1, 4, 1, 1))],
        "masked_fill.Tensor": [Operand(), Operand(dtype="bool"), Operand(())],
        "_native_batch_norm_legit_no_training": [*norm, 0.1, 1e-5],
        "batch_norm": [*norm, False, 0.1, 1e-5, True], "native_batch_norm": [*norm, False, 0.1, 1e-5],
        "_native_batch_norm_legit.no_stats": [*norm[:3], True, 0.1, 1e-5],
        "_native_batch_norm_legit_functional": [*norm, True, 0.1, 1e-5],
        "instance_norm": [*norm[:3], None, None, True, 0.1, 1e-5, True],
        "layer_norm": [Operand(), [8], *[Operand((8,))] * 2], "rms_norm": [Operand(), [8], Operand((8,))],
        "native_layer_norm": [Operand(), [8], *[Operand((8,))] * 2, 1e-5],
        "group_norm": [Operand(), 2, one, one],
        "native_group_norm": [Operand(), one, one, 1, 4, 64, 2, 1e-5],
        "col2im": [Operand((1, 16, 16)), [8, 8], [2, 2], [1, 1], [0, 0], [2, 2]],
        "im2col": [Operand(), [2, 2], [1, 1], [1, 1], [2, 2]], "unfold": [Operand(), 2, 3, 2],
        "unflatten.int": [Operand(), 1, [2, 2]], "t": [matrix], "numpy_T": [matrix],
        "linalg_inv": [Operand((3, 4, 4))], "movedim.intlist": [Operand(), [1, 2], [2, 1]],
        "expand": [Operand((1, 4, 1, 8)), [3, 4, 8, -1]], "squeeze.dim": [Operand(), 0],
        "squeeze.dims": [Operand(), [0]], "view_as": [Operand(), Operand((4, 64))],
        "split_with_sizes": [Operand(), [1, 3], 1], "select.int": [Operand(), 1, 2],
        "narrow": [Operand(), 2, 1, 5], "slice.Tensor": [Operand(), 2, 1, 2**63 - 1, 2],
        "diagonal": [Operand(), 1, 2, 3], "dropout": [Operand(), 0.5, False],
        "repeat_interleave.self_int": [Operand(), 2, 1], "tile": [Operand(), [2, 1]],
        "flip": [Operand(), [2, 3]], "roll": [Operand(), [1, -1], [2, 3]], "rot90": [Operand(), 1, [2, 3]],
        "constant_pad_nd": [Operand(), [1, 2, -1, 0], 0.5], "pad": [Operand(), [1, 2], "constant", 0.5],
        "view": [Operand(), [4, -1]], "reshape": [Operand(), [4, -1]], "_unsafe_view": [Operand(), [4, 64]],
        "copy": [Operand(), Operand((8, 8))], "select_scatter": [Operand(), Operand((1, 8, 8)), 1, 2],
        "slice_scatter": [Operand(), Operand((1, 4, 3, 8)), 2, 1, 6, 2],
        "index.Tensor": [Operand(), [None, index, Operand((3,), "int64")]],
        "index_select": [Operand(), 1, index], "gather": [Operand(), 2, Operand((1, 4, 3, 8), "int64")],
        "embedding": [matrix, Operand((2, 3), "int64"), 1], "meshgrid": [[row, one]],
        "meshgrid.indexing": [[row, one]], "threshold": [Operand(), 0.5, 0.1],
        "clamp": [Operand(), 0.2, 0.8], "clamp.Tensor": [Operand()] * 3, "linspace": [0.0, 1.0, 5],
        "arange": [6], "arange.start": [1, 6], "arange.start_step": [1, 6, 2],
        "lerp.Scalar": [Operand(), Operand(), 0.5], "lerp.Tensor": [Operand()] * 3, GETITEM: [Operand(), 0],
    }  # fmt: skip
    integers = Operand(dtype="int64")
    calls |= {f"bitwise_{name}.Tensor": [integers, integers] for name in ("and", "or", "xor")}
    calls |= {"bitwise_and.Scalar": [integers, 3], "bitwise_not": [integers]}
    calls |= {f"floor_divide{name}": [integers, other] for name, other in (("", integers), (".Scalar", 3))}
    calls |= {
        "remainder.Scalar": [integers, 3],
        "remainder.Tensor": [integers] * 2,
        "fmod.Scalar": [integers, 3],
    }
    calls |= {"div.Tensor_mode": [integers] * 2, "div.Scalar_mode": [integers, 3]}
    return {
        f"aten.{name}" if "." in name else f"aten.{name}.default": args for name, args in calls.items()
    } | {f"aten.{name}": args for rank in (1, 2, 3) for name, args in _by_rank(rank).items()}


_SOUND = _by_operator()


class Sound(NamedTuple):
    """The arguments of a call."""

    args: list[Any]
    kwargs: Json


def sound_call(op: str) -> Sound:
    """Return arguments that an operator accepts, its tensors as `Operand`."""
    if op == GETITEM:
        return Sound([Operand(), 0], {})
    needed = [a for a in _schema(op).arguments if not a.has_default_value()]
    args = _SOUND.get(op, [_by_name(a.name, str(a.real_type)) for a in needed if not a.kwarg_only])
    return Sound(args, {a.name: _by_name(a.name, str(a.real_type)) for a in needed if a.kwarg_only})


def _schema(op: str) -> Any:
    return kernel(op)._schema  # type: ignore[attr-defined]  # noqa: SLF001 - torch's only way to ask


def _by_name(name: str, kind: str) -> Any:
    if "Tensor" in kind:
        found = _BY_NAME.get(name)
        operand = found if isinstance(found, Operand) else Operand()
        return [operand, operand] if "List" in kind else operand
    found = _BY_NAME.get(name, 0.5)
    if "List" in kind and not isinstance(found, list):
        return [found]
    return found


# Spoiling a call.

INTEGERS = (0, 1, -1, 2, 3, 7, -7, 64, 255, 2**15, 2**16, 2**20, 2**26, 2**31 - 1, 2**31, 2**32, 2**33, 2**40,
            2**62, 2**63 - 1, -(2**15), -(2**31), -(2**32), -(2**62), -(2**63))  # fmt: skip
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 1 / 3, 2.0**-12, 2.0**12, 1e-5, *[1e-30] * 3, 5e-324, 1e10,
          2.0**31, 2.0**63, 1e300, math.inf, -math.inf)  # fmt: skip
STRINGS = ("", "none", "tanh", "same", "valid", "reflect", "replicate", "circular", "constant", "trunc",
           "floor", "ij", "xy", "a,b->ab", "ab->", "->")  # fmt: skip
SIDES = (0, 1, 2, 3, 5, 64, 1000)
DTYPES_OF_CONSTANTS = (*["uint8"] * 8, *["int64"] * 4, "bool", "float64")
"""What is not a usual type of an image's, more often."""
IMAGE_DTYPES = ("float32", "float16", "bfloat16", "bool")


def spoilt_call(op: str, rng: random.Random) -> Sound:
    """Return a sound call with a few extreme arguments, operands that depend on the image at random."""
    args, kwargs = sound_call(op)
    if op != GETITEM:
        args, kwargs = _with_more(op, Sound(args, kwargs), rng)
    args = [_placed(value, rng) for value in args]
    if rng.random() < 0.5:
        args = _all_alike(args, rng)
    plain = [i for i, value in enumerate(args) if not isinstance(value, Operand)]
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3))):
        at = rng.randrange(len(args) + len(kwargs)) if args or kwargs else 0
        if plain and rng.random() < 0.5:
            at = rng.choice(plain)
        if at < len(args):
            args[at] = _spoilt(args[at], rng)
        elif kwargs:
            key = sorted(kwargs)[at - len(args)]
            kwargs = kwargs | {key: _spoilt(kwargs[key], rng)}
    return Sound(args, kwargs)


def _placed(value: Any, rng: random.Random) -> Any:
    """Let tensors depend on the image, and lie in memory, at random."""
    if isinstance(value, list):
        return [_placed(item, rng) for item in value]
    if not isinstance(value, Operand):
        return value
    depends = rng.random() < 0.5 and value.dtype in IMAGE_DTYPES
    return value._replace(depends=depends, layout=rng.choice(("contiguous", *LAYOUTS)))


def _with_more(op: str, call: Sound, rng: random.Random) -> Sound:
    """Give some of the arguments that have a default, in their places and by name."""
    left = _schema(op).arguments[len(call.args) :]
    places = [a for a in left if not a.kwarg_only][: rng.choice((0, 0, 1, 2, 9))]
    names = [a for a in left if a.kwarg_only and a.name not in {"layout", "device", "pin_memory"}]
    chosen = rng.sample(names, min(len(names), rng.choice((0, 0, 0, 1, 2))))
    more = {a.name: _spoilt(_default(a), rng) for a in chosen if a.name not in call.kwargs}
    return Sound([*call.args, *map(_default, places)], call.kwargs | more)


def _default(argument: Any) -> Any:
    default = argument.default_value if argument.has_default_value() else None
    return _by_name(argument.name, str(argument.real_type)) if default is None else default


def _spoilt(value: Any, rng: random.Random) -> Any:
    if rng.random() < 0.05:
        return None
    integer = rng.choice(INTEGERS if rng.random() < 0.9 else FLOATS)
    number = rng.choice(FLOATS if rng.random() < 0.8 else INTEGERS)
    for kind, spoil in (
        (Operand, lambda: _spoilt_operand(value, rng)),
        (list, lambda: _spoilt_list(value, rng)),
        (torch.dtype, lambda: DTYPES[rng.choice(sorted(DTYPES))]),
        (bool, lambda: not value),
        (str, lambda: rng.choice(STRINGS)),
        (int, lambda: integer),
    ):
        if isinstance(value, kind):
            return spoil()
    return number


def _spoilt_list(value: list[Any], rng: random.Random) -> list[Any]:
    kind = rng.choice(("one", "one", "all", "shorter", "longer", "empty"))
    if not value or kind == "empty":
        return []
    if kind == "all":
        return [_spoilt(value[0], rng)] * len(value)
    if kind == "shorter":
        return value[:-1]
    if kind == "longer":
        return [*value, value[-1]]
    at = rng.randrange(len(value))
    return [_spoilt(item, rng) if i == at else item for i, item in enumerate(value)]


def _spoilt_operand(value: Operand, rng: random.Random) -> Operand:
    kind = rng.choice(("dtype", "dtype", "side", "side", "scalar", "empty", "drop", "add", "large"))
    shape = list(value.shape)
    if kind == "dtype":
        return value._replace(dtype=rng.choice(IMAGE_DTYPES if value.depends else sorted(DTYPES)))
    if kind == "scalar":
        return value._replace(shape=())
    if kind == "add":
        return value._replace(shape=(rng.choice(SIDES[:4]), *shape))
    if shape and kind == "drop":
        shape.pop(rng.randrange(len(shape)))
    elif shape:
        shape[rng.randrange(len(shape))] = {"empty": 0, "large": 2**16}.get(kind, rng.choice(SIDES))
    return value._replace(shape=tuple(shape))


def _all_alike(args: list[Any], rng: random.Random) -> list[Any]:
    """Give all tensors one type, one shape, or sides that are some times as long."""
    kinds, times = rng.choice((("type",), ("type", "longer"), ("shape",), ("longer",))), rng.choice((3, 28))
    dtype, shape = (
        rng.choice((*DTYPES, *DTYPES_OF_CONSTANTS)),
        rng.choice(((), (0,), (1,), (1, 1, 1, 1), (2, 0, 3), (3000,))),
    )

    def alike(value: Any) -> Any:
        if isinstance(value, list):
            return [alike(item) for item in value]
        if not isinstance(value, Operand):
            return value
        if "type" in kinds:
            value = value._replace(dtype=dtype, depends=False)
        longer = (*value.shape[:2], *(side * times for side in value.shape[2:]))
        if "longer" in kinds and math.prod(longer) < MAX_VALUES:
            return value._replace(shape=longer)
        return value._replace(shape=shape) if "shape" in kinds else value

    return [alike(value) for value in args]


# A call as a graph.


class Builder:
    """Nodes and constant tensors of one graph."""

    def __init__(self, rng: random.Random, *, extreme: bool) -> None:
        self.rng, self.extreme = rng, extreme
        self.nodes: list[Json] = []
        self.tensors: dict[str, torch.Tensor] = {}

    def add(self, op: str, *args: Any, **kwargs: Any) -> Json:
        """Add a call; return a reference to its value."""
        name = f"n{len(self.nodes)}"
        encoded = {key: _encoded(value) for key, value in kwargs.items()}
        self.nodes.append({"name": name, "op": op, "args": [_encoded(a) for a in args], "kwargs": encoded})
        return {"ref": name}

    def value(self, given: Any) -> Any:
        """Replace operands by references to values that are made for them."""
        if isinstance(given, list):
            return [self.value(item) for item in given]
        return self.operand(given) if isinstance(given, Operand) else given

    def operand(self, operand: Operand) -> Json:
        """Make a value of the shape, type, source and layout described."""
        shape, permuted = list(operand.shape), None
        step = start = 0
        if operand.layout == "transposed":
            permuted = list(range(len(shape)))[::-1]
        elif operand.layout == "channels last" and len(shape) == 4:
            permuted = [0, 3, 1, 2]
            shape = [shape[0], shape[2], shape[3], shape[1]]
        elif operand.layout == "strided" and shape:
            step, shape[-1] = 2, shape[-1] * 2
        elif operand.layout == "offset" and shape:
            start, shape[-1] = 1, shape[-1] + 1
        if operand.layout == "transposed":
            shape = shape[::-1]
        small = [1] * len(shape) if operand.layout == "expanded" else shape
        made = self._image(small, operand.dtype) if operand.depends else self._constant(small, operand.dtype)
        if operand.layout == "expanded":
            made = self.add("aten.expand.default", made, shape)
        if permuted is not None:
            made = self.add("aten.permute.default", made, permuted)
        if step or start:
            made = self.add("aten.slice.Tensor", made, len(shape) - 1, start, 2**63 - 1, step or 1)
        return made

    def _image(self, shape: list[int], dtype: str) -> Json:
        size = math.prod(shape)
        made: Json = {"ref": "image"}
        if shape != list(IMAGE) or self.rng.random() < 0.3:
            made = self.add("aten.flatten.using_ints", made, 0)
            fits = size <= math.prod(IMAGE)
            made = self.add("aten.slice.Tensor", made, 0, 0, size if fits else 1)
            made = self.add("aten.view.default" if fits else "aten.expand.default", made, shape)
        if dtype == "bool":
            return self.add("aten.gt.Scalar", made, 0.5)
        return made if dtype == "float32" else self.add("aten.to.dtype", made, DTYPES[dtype])

    def _constant(self, shape: list[int], dtype: str) -> Json:
        large = math.prod(shape) > MAX_VALUES
        small = [1] * len(shape) if large else shape
        made = (_values if self.extreme else _small_values)(small, DTYPES[dtype], self.rng)
        name = f"t{len(self.tensors)}"
        self.tensors[name] = made
        return self.add("aten.expand.default", {"ref": name}, shape) if large else {"ref": name}

    def files(self, output: Json) -> tuple[bytes, bytes]:
        """Return graph.json and weights.safetensors."""
        specs = [{"name": name, "key": name, "kind": "constant"} for name in self.tensors]
        graph = {"input_shape": IMAGE, "tensors": specs, "nodes": self.nodes, "output": output["ref"]}
        return json.dumps(graph).encode(), save(self.tensors)


def _encoded(value: Any) -> Any:
    if isinstance(value, dict):
        return value
    return [_encoded(item) for item in value] if isinstance(value, list) else encode(value)


def _small_values(shape: list[int], dtype: torch.dtype, rng: random.Random) -> torch.Tensor:
    """Return numbers from 1 to 3, which are indices and divisors as well."""
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    return torch.randint(1, 4, shape, generator=generator).to(dtype)


def _values(shape: list[int], dtype: torch.dtype, rng: random.Random) -> torch.Tensor:
    """Return small numbers, or extreme ones of the type."""
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    small = torch.randint(0 if dtype is torch.uint8 else -1, 4, shape, generator=generator)
    if dtype is torch.bool or rng.random() < 0.5:
        return small.abs().to(dtype) if rng.random() < 0.7 else small.to(dtype)
    if dtype.is_floating_point:
        extreme = [
            0.0,
            -0.0,
            1e-30,
            1e30,
            torch.finfo(dtype).max,
            -torch.finfo(dtype).max,
            math.inf,
            -math.inf,
        ]
    else:
        limits = torch.iinfo(dtype)
        extreme = [0, 1, limits.max, limits.min, limits.max - 1, *([] if dtype is torch.uint8 else [-1])]
    return torch.tensor(extreme, dtype=dtype)[torch.randint(0, len(extreme), shape, generator=generator)]


def graph_of(op: str, call: Sound, rng: random.Random, *, extreme: bool = True) -> tuple[bytes, bytes, str]:
    """Return a graph's two files, and the name of the call in it; the graph gives the call's first result."""
    builder = Builder(rng, extreme=extreme)
    args = [builder.value(value) for value in call.args]
    kwargs = {key: builder.value(value) for key, value in call.kwargs.items()}
    if op == GETITEM:
        args[0] = builder.add("aten.max.dim", args[0], 1)
    made = found = builder.add(op, *args, **kwargs)
    if not depends(call) or OPERATORS[op].ignores_values:
        made = {"ref": "image"}
    elif op != GETITEM and (len(_schema(op).returns) > 1 or "List" in str(_schema(op).returns[0].type)):
        made = builder.add(GETITEM, made, 0)
    flat = builder.add("aten.flatten.using_ints", made, 0)
    return *builder.files(builder.add("aten.to.dtype", flat, torch.float32)), found["ref"]


def depends(call: Sound) -> bool:
    """Say whether anything of a call depends on the image."""
    values = [*call.args, *call.kwargs.values()]
    operands = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return any(isinstance(item, Operand) and item.depends for item in operands)


# A child: cases one after another, each told before and after.


def run_case(op: str, case: int, seed: int, folder: Path) -> tuple[str, str]:
    """Take one case the way of a submission; return its outcome and a digest of what came out."""
    rng = random.Random(f"{seed} {op} {case}")  # noqa: S311 - a case is made again from its number
    call = sound_call(op) if case == 0 else spoilt_call(op, rng)
    graph, weights, name = graph_of(op, call, rng, extreme=case > 0)
    paths = folder / "graph", folder / "weights"
    paths[0].write_bytes(graph)
    paths[1].write_bytes(weights)
    values: list[Any] = []
    try:
        walk = trace(read_graph(*paths), num_classes=None)
        if count_macs(walk).macs > MAX_MACS:
            return "costly", ""  # it takes the time that it is priced at
        values.append(walk.constants.get(name))
        program = Program(walk)
        images = torch.rand(2, *IMAGE[1:], generator=torch.Generator().manual_seed(case))
        values.append(program(images))
    except ParticipantError as error:
        return str(error.problems[0].code), ""
    return "accepted", _digest(values)


def _digest(values: list[Any]) -> str:
    found = hashlib.sha256()
    for value in values:
        for tensor in value if isinstance(value, list | tuple) else [value]:
            if isinstance(tensor, torch.Tensor):
                kept = tensor if tensor.numel() < 2**16 else tensor.flatten()[: 2**16]
                found.update(
                    kept.nan_to_num(0.125)
                    .clone(memory_format=torch.contiguous_format)
                    .reshape(-1)
                    .view(torch.uint8)
                    .numpy()
                    .tobytes()
                )
    return found.hexdigest()[:12]


def child(seed: int) -> None:
    """Run the cases named on stdin, one a line: row and number."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            op, case = line.split()
            print("begin", op, case, flush=True)
            outcome, digest = run_case(op, int(case), seed, Path(folder))
            print("end", outcome, digest, flush=True)


# The parent.


class Row(NamedTuple):
    """What became of the cases of one operator."""

    outcomes: Counter[str]
    bad: list[str]
    """Cases that crashed, hung or differed, with how."""


def run_children(cases: Sequence[tuple[str, int]], seed: int, perturb: int) -> dict[tuple[str, int], str]:
    """Run cases in children, a new one after each crash; return their outcomes with digests."""
    found: dict[tuple[str, int], str] = {}
    rest = list(cases)
    while rest:
        found |= dict(_one_child(rest, seed, perturb))
        rest = [key for key in cases if key not in found]
    return found


def _one_child(
    cases: Sequence[tuple[str, int]], seed: int, perturb: int
) -> Iterator[tuple[tuple[str, int], str]]:
    """Yield outcomes until all are done, or the child has died or hung on one."""
    environment = os.environ | {"MALLOC_PERTURB_": str(perturb), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", __file__, "--child", "--seed", str(seed)]
    errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed below
    with tempfile.TemporaryFile("w+") as lines:
        lines.writelines(f"{op} {case}\n" for op, case in cases)
        lines.seek(0)
        process = subprocess.Popen(  # noqa: S603 - ourselves
            command, stdin=lines, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True
        )
    current: tuple[str, int] | None = None
    with _ended(process), _alarm(process) as beat:
        assert process.stdout is not None
        for line in process.stdout:
            beat()
            kind, *words = line.split()
            if kind == "begin":
                current = words[0], int(words[1])
            elif current is not None:
                yield current, " ".join(words)
                current = None
        errors.seek(0)
        said, code = errors.read(), process.wait()
    errors.close()
    assert current is not None or code == 0, said
    if current is not None:
        ended = f"SIGNAL {-code}" if code < 0 else f"EXIT {code}: {said.strip()[-300:]}"
        yield current, "TIME-OUT" if beat.late else ended


class _Beat:
    """Ends a process that has said nothing for `SECONDS`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.late = False
        self._process, self._heard = process, time.monotonic() + START_SECONDS

    def __call__(self) -> None:
        self._heard = time.monotonic()

    def watch(self, ended: threading.Event) -> None:
        while not ended.wait(1):
            if time.monotonic() - self._heard > SECONDS:
                self.late = True
                self._process.kill()


@contextlib.contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """End a process with us, however we end."""
    try:
        yield
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def _alarm(process: subprocess.Popen[str]) -> Iterator[_Beat]:
    beat, ended = _Beat(process), threading.Event()
    thread = threading.Thread(target=beat.watch, args=(ended,))
    thread.start()
    try:
        yield beat
    finally:
        ended.set()
        thread.join()


def fuzz(ops: Sequence[str], cases: int, seed: int, *, twice: bool) -> dict[str, Row]:
    """Run the cases of each row; return what became of them."""
    keys = [(op, case) for op in ops for case in range(cases)]
    first = run_children(keys, seed, 165)
    second = run_children(keys, seed, 90) if twice else first
    rows: dict[str, Row] = {op: Row(Counter(), []) for op in ops}
    for op, case in keys:
        outcome = first[op, case]
        rows[op].outcomes[outcome.split()[0]] += 1
        if outcome.split()[0] in {"SIGNAL", "EXIT", "TIME-OUT"}:
            rows[op].bad.append(f"{op} {case}: {outcome}")
        elif outcome != second[op, case]:
            rows[op].bad.append(f"{op} {case}: {outcome} and {second[op, case]}")
    return rows


def show(op: str, case: int, seed: int) -> None:
    """Print the call of one case, and run it here."""
    rng = random.Random(f"{seed} {op} {case}")  # noqa: S311
    print(op, sound_call(op) if case == 0 else spoilt_call(op, rng), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        print(*run_case(op, case, seed, Path(folder)))


def main() -> None:
    """Print the rows with what became of their cases, or as our own child run some."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=100, help="for each row; the first is sound")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", nargs="+", default=sorted(OPERATORS), help="operators; default: all")
    parser.add_argument("--twice", action="store_true", help="again in other memory, and compare")
    parser.add_argument("--show", type=int, metavar="CASE", help="run this case of the first row here")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.seed)
        return
    if args.show is not None:
        show(args.rows[0], args.show, args.seed)
        return
    total, bad = Counter[str](), 0
    for start in range(0, len(args.rows), ROWS_AT_ONCE):
        rows = fuzz(args.rows[start : start + ROWS_AT_ONCE], args.cases, args.seed, twice=args.twice)
        for op, row in rows.items():
            print(f"{op:52} {', '.join(f'{n} {what}' for what, n in row.outcomes.most_common())}")
            print(*(f"    {line}\n" for line in row.bad), sep="", end="", flush=True)
            total, bad = total + row.outcomes, bad + len(row.bad)
    crashes, late = total["SIGNAL"] + total["EXIT"], total["TIME-OUT"]
    print(f"{len(args.rows)} rows, {total.total():,} cases, {total['accepted']:,} accepted", end=", ")
    print(f"{crashes} crashes, {late} time-outs, {bad - crashes - late} results that differ")


if __name__ == "__main__":
    main()
