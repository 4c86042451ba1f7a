"""Cost formulas against a direct count of multiplications, on random small shapes.

On tensors of ones every product is 1, so the sum over an operator's outputs is the
number of products that it added up: a count by torch's own kernels, not by a formula.
"""

import itertools

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from starter.graph.formulas import Call, Cost
from starter.graph.kernels import bind, kernel
from starter.graph.operators import OPERATORS

FAST = settings(max_examples=60, deadline=None)
SIDE = st.integers(1, 9)
SMALL = st.integers(1, 4)


def cost(op: str, *args: object, depends: str = "input") -> Cost:
    """Price one call as graph/costs/macs.py does."""
    result = kernel(op)(*args)
    outputs = (result,) if isinstance(result, torch.Tensor) else tuple(result)
    call = Call(bind(op, args, {}), outputs, frozenset({depends}))
    return OPERATORS[op].cost(call)


def products(*outputs: torch.Tensor) -> int:
    """Return how many products of ones were added up."""
    return int(sum(output.double().sum().item() for output in outputs))


@FAST
@given(
    channels=st.tuples(st.integers(1, 3), SMALL, SMALL), sides=st.tuples(SIDE, SIDE),
    kernel_size=st.tuples(SMALL, SMALL), stride=st.tuples(SMALL, SMALL), dilation=st.integers(1, 2),
    padding=st.integers(0, 3),
)  # fmt: skip
def test_a_convolution_costs_its_products(
    channels: tuple[int, int, int], sides: tuple[int, int], kernel_size: tuple[int, int],
    stride: tuple[int, int], dilation: int, padding: int,
) -> None:  # fmt: skip
    groups, c_in, c_out = channels
    reach = [dilation * (k - 1) + 1 for k in kernel_size]
    sides = (max(sides[0], reach[0]), max(sides[1], reach[1]))
    image = torch.ones(1, groups * c_in, *sides)
    weight = torch.ones(groups * c_out, c_in, *kernel_size)
    args = [list(stride), [padding, padding], [dilation, dilation], groups]
    # Padding is multiplied as well: the direct count pads with ones first.
    padded = F.pad(image, (padding,) * 4, value=1.0)
    counted = products(F.conv2d(padded, weight, None, stride, 0, dilation, groups))

    assert cost("aten.conv2d.default", image, weight, None, *args).contraction == counted


@FAST
@given(
    groups=st.integers(1, 3), c_in=SMALL, c_out=SMALL, sides=st.tuples(SIDE, SIDE), size=SMALL,
    stride=st.integers(1, 3), dilation=st.integers(1, 2),
)  # fmt: skip
def test_a_transposed_convolution_costs_its_products(
    groups: int, c_in: int, c_out: int, sides: tuple[int, int], size: int, stride: int, dilation: int
) -> None:
    image = torch.ones(1, groups * c_in, *sides)
    weight = torch.ones(groups * c_in, c_out, size, size)
    args = [image, weight, None, [stride] * 2, [0, 0], [0, 0], groups, [dilation] * 2]
    counted = products(F.conv_transpose2d(image, weight, None, stride, 0, 0, groups, dilation))

    assert cost("aten.conv_transpose2d.input", *args).contraction == counted


@FAST
@given(batch=SMALL, rows=SIDE, inner=SIDE, columns=SIDE)
def test_matrix_products_cost_their_products(batch: int, rows: int, inner: int, columns: int) -> None:
    left, right = torch.ones(batch, rows, inner), torch.ones(batch, inner, columns)
    counted = products(left @ right)

    assert cost("aten.bmm.default", left, right, depends="self").contraction == counted
    assert cost("aten.matmul.default", left, right, depends="self").contraction == counted
    linear = cost("aten.linear.default", left, torch.ones(columns, inner))
    assert linear.contraction == products(F.linear(left, torch.ones(columns, inner)))


@FAST
@given(data=st.data())
def test_an_einsum_of_two_costs_its_products(data: st.DataObject) -> None:
    sizes = {index: data.draw(st.integers(1, 4)) for index in "abcde"}
    subset = st.lists(st.sampled_from("abcde"), min_size=1, max_size=4, unique=True)
    left, right = data.draw(subset), data.draw(subset)
    output = data.draw(st.permutations(sorted({*left, *right})))[: data.draw(st.integers(0, 4))]
    equation = f"{''.join(left)},{''.join(right)}->{''.join(output)}"
    operands = [torch.ones([sizes[i] for i in term]) for term in (left, right)]
    counted = products(torch.einsum(equation, operands))

    assert cost("aten.einsum.default", equation, operands, depends="tensors").contraction == counted


@FAST
@given(batch=SMALL, heads=SMALL, queries=SIDE, keys=SIDE, head_size=SMALL, masked=st.booleans())
def test_attention_costs_the_products_of_its_two_matrix_products(
    batch: int, heads: int, queries: int, keys: int, head_size: int, masked: bool
) -> None:
    query = torch.ones(batch, heads, queries, head_size)
    key = torch.ones(batch, heads, keys, head_size)
    scores = query @ key.transpose(-2, -1)
    counted = products(scores, torch.ones_like(scores) @ key)
    mask = torch.zeros(queries, keys) if masked else None
    found = cost("aten.scaled_dot_product_attention.default", query, key, key, mask, depends="query")

    assert found.contraction == counted
    assert found.pointwise == (scores.numel() if masked else 0)
    assert found.reduction == 3 * scores.numel()


@FAST
@given(channels=SMALL, sides=st.tuples(SIDE, SIDE), out=st.tuples(SIDE, SIDE))
def test_an_adaptive_pool_costs_the_elements_that_it_reads(
    channels: int, sides: tuple[int, int], out: tuple[int, int]
) -> None:
    """Each output of the average has one over its window's size as the gradient of each input."""
    image = torch.ones(1, channels, *sides, dtype=torch.float64, requires_grad=True)
    counted = 0
    for i, j in itertools.product(range(out[0]), range(out[1])):
        value = F.adaptive_avg_pool2d(image, out)[:, :, i, j].sum()
        (gradient,) = torch.autograd.grad(value, image)
        counted += int((gradient != 0).sum())

    assert cost("aten.adaptive_avg_pool2d.default", image.detach(), list(out)).reduction == counted


@FAST
@given(
    channels=SMALL, side=st.integers(4, 9), size=st.integers(1, 4), stride=st.integers(1, 3), data=st.data()
)
def test_a_pool_costs_the_elements_of_its_windows(
    channels: int, side: int, size: int, stride: int, data: st.DataObject
) -> None:
    padding = data.draw(st.integers(0, size // 2))
    image = torch.ones(1, channels, side, side)
    windows = F.unfold(F.pad(image, (padding,) * 4, value=1.0), size, stride=stride)

    for op in ("aten.max_pool2d.default", "aten.avg_pool2d.default"):
        args = (image, [size, size], [stride, stride], [padding, padding])
        assert cost(op, *args, depends="self").reduction == products(windows)
