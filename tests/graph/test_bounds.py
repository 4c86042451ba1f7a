"""Numbers that mean nothing for their operator never reach a kernel: some would end the process there."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from kernel_fuzzer import sound_call
from safetensors.torch import save_file

from starter.contract.errors import Code, ParticipantError, Problem
from starter.graph.analysis import trace
from starter.graph.kernels import check_bounds, declared_arguments
from starter.graph.operators import OPERATORS
from starter.graph.reader import read_graph

IMAGE = {"ref": "image"}


def refused(folder: Path, op: str, *args: Any, **tensors: torch.Tensor) -> Problem:
    """Return the problem of a graph with one call on the image and constants."""
    kwargs = {"rounding_mode": "trunc"} if op.endswith("_mode") else {}
    graph = {
        "input_shape": [1, 3, 8, 8],
        "tensors": [{"name": name, "key": name, "kind": "constant"} for name in tensors],
        "nodes": [{"name": "x", "op": op, "args": list(args), "kwargs": kwargs}],
        "output": "x",
    }
    (folder / "graph").write_text(json.dumps(graph), encoding="utf-8")
    save_file(tensors, folder / "weights")
    with pytest.raises(ParticipantError) as found:
        trace(read_graph(folder / "graph", folder / "weights"), num_classes=None)
    return found.value.problems[0]


@pytest.mark.parametrize("op", ["aten.upsample_nearest2d.default", "aten._upsample_nearest_exact2d.default"])
def test_a_scale_that_reads_outside_the_memory_of_a_kernel_is_refused(op: str, tmp_path: Path) -> None:
    """1e-30 becomes an infinite step between pixels, and on uint8 an index far beyond the last one."""
    photo = torch.zeros(1, 3, 224, 224, dtype=torch.uint8)
    found = refused(tmp_path, op, {"ref": "photo"}, [16, 16], 1e-30, 1e-30, photo=photo)
    assert (found.code, found.got) == (Code.NUMBER_OUT_OF_BOUNDS, "1e-30")
    assert found.where == f"{op} at node 'x'"
    assert found.expected == "`scales_h` from 0.000244140625 to 4,096"
    assert found.hint


@pytest.mark.parametrize(
    ("op", "args", "expected"),
    [
        ("aten.conv2d.default", [IMAGE, IMAGE, None, [0, 1]], "`stride`"),
        ("aten.conv2d.default", [IMAGE, IMAGE, None, [1, 1], [2**31, 0]], "`padding`"),
        ("aten.conv2d.default", [IMAGE, IMAGE, None, [1, 1], [0, 0], [2**40, 1]], "`dilation`"),
        ("aten.conv2d.default", [IMAGE, IMAGE, None, [1, 1], [0, 0], [1, 1], 0], "`groups`"),
        ("aten.max_pool2d.default", [IMAGE, [-1, 2]], "`kernel_size`"),
        ("aten.constant_pad_nd.default", [IMAGE, [2**62, 2**62]], "`pad`"),
        ("aten.upsample_bilinear2d.vec", [IMAGE, None, False, [0.0, 1.0]], "`scale_factors`"),
        ("aten.pow.Tensor_Scalar", [IMAGE, 1e300], "`exponent`"),
        ("aten.mean.dim", [IMAGE, [-(2**63)]], "`dim`"),
        ("aten.select.int", [IMAGE, 0, 2**62], "`index`"),
        ("aten.pixel_shuffle.default", [IMAGE, 2**32], "`upscale_factor`"),
        ("aten.group_norm.default", [IMAGE, 0], "`num_groups`"),
        ("aten.slice.Tensor", [IMAGE, 1, -(2**63), 2**63 - 1], "`start`"),
        ("aten.view.default", [IMAGE, [1] * 65], "at most 64 numbers in `shape`"),
    ],
)
def test_a_number_beyond_its_meaning_is_refused(
    op: str, args: list[Any], expected: str, tmp_path: Path
) -> None:
    found = refused(tmp_path, op, *args)
    assert found.code is Code.NUMBER_OUT_OF_BOUNDS
    assert found.expected.startswith(expected)


DIVISIONS = {
    "aten.floor_divide.default": (),
    "aten.div.Tensor_mode": (),
    "aten.remainder.Tensor": (),
    "aten.floor_divide.Scalar": (-1, 0),
    "aten.div.Scalar_mode": (-1, 0),
    "aten.remainder.Scalar": (-1, 0),
    "aten.fmod.Scalar": (-1, 0),
}


@pytest.mark.parametrize("op", DIVISIONS)
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int8])
def test_a_division_of_integers_without_a_result_is_refused(
    op: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    """The processor itself ends what divides the least integer by -1."""
    least, name = torch.iinfo(dtype).min, str(dtype).removeprefix("torch.")
    for divisor, got in ((-1, f"{name} {least} divided by -1"), (0, f"{name} divided by zero")):
        tensors = {"dividend": torch.tensor([5, least], dtype=dtype)}
        other: Any = divisor
        if not DIVISIONS[op]:
            tensors["divisor"] = torch.tensor([divisor], dtype=dtype)
            other = {"ref": "divisor"}
        found = refused(tmp_path, op, {"ref": "dividend"}, other, **tensors)
        assert (found.code, found.got) == (Code.NUMBER_OUT_OF_BOUNDS, got)


def test_dropout_on_constants_is_as_random_as_on_the_image(tmp_path: Path) -> None:
    found = refused(tmp_path, "aten.dropout.default", {"ref": "t"}, 0.5, True, t=torch.ones(8))
    assert found.code is Code.RANDOM_OPERATOR
    rows = [{"ref": "t"}] * 3
    attention = "aten.scaled_dot_product_attention.default"
    found = refused(tmp_path, attention, *rows, None, 0.5, t=torch.ones(1, 1, 4, 4))
    assert found.code is Code.RANDOM_OPERATOR


def test_cutting_nothing_into_many_parts_is_refused(tmp_path: Path) -> None:
    """A side of zero gives as many empty parts as are asked for."""
    found = refused(tmp_path, "aten.chunk.default", {"ref": "t"}, 10**6, 0, t=torch.ones(0, 3))
    assert found.code is Code.GRAPH_TOO_LARGE


@pytest.mark.parametrize("shape", [[1] * 70, [0, 2**63], [0, -1], [0, "1"], None])
def test_weights_of_an_impossible_shape_are_refused(shape: object, tmp_path: Path) -> None:
    data = b"" if shape is None or 0 in shape else bytes(4)
    header = json.dumps({"t": {"dtype": "F32", "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    graph = {"input_shape": [1, 3, 8, 8], "tensors": [], "nodes": [], "output": "image"}
    (tmp_path / "graph").write_text(json.dumps(graph), encoding="utf-8")
    (tmp_path / "weights").write_bytes(len(header).to_bytes(8, "little") + header + data)
    with pytest.raises(ParticipantError) as found:
        read_graph(tmp_path / "graph", tmp_path / "weights")
    assert found.value.problems[0].code is Code.MALFORMED_GRAPH


def test_sound_calls_of_every_row_are_within_bounds() -> None:
    for op in OPERATORS:
        args, kwargs = sound_call(op)
        check_bounds(op, args, kwargs, op)
        assert len(args) <= len(declared_arguments(op))
