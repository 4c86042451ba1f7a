"""What cannot be counted or trusted is refused by name, never priced at zero."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from tracing import Forward, Function, cost_of, to_logits, trace_of

from starter.contract.errors import Code, ParticipantError
from starter.graph.operators import hint


def codes(function: Function, **tensors: torch.Tensor) -> list[Code]:
    with pytest.raises(ParticipantError) as refused:
        cost_of(Forward(function, **tensors))
    return [p.code for p in refused.value.problems]


@pytest.mark.parametrize(
    ("function", "code"),
    [
        (lambda x: torch.fft.fft2(x).real, Code.NO_COST_RULE),
        (lambda x: torch.cdist(x[0], x[0]), Code.NO_COST_RULE),
        (lambda x: x.sort(1).values, Code.NO_COST_RULE),
        (lambda x: x.topk(2, 1).values, Code.NO_COST_RULE),
        (lambda x: x.double() * 2, Code.DTYPE_REFUSED),
        (lambda x: (x * 1000).long() * 3, Code.DTYPE_REFUSED),
        (lambda x: torch.complex(x, x).real, Code.NO_COST_RULE),
        (lambda x: F.batch_norm(x, None, None, training=True), Code.BATCH_STATISTICS),
        (lambda x: F.dropout(x, training=True), Code.RANDOM_OPERATOR),
        (lambda x: x + torch.randn(3, 8, 8), Code.RANDOM_OPERATOR),
        (lambda x: torch.einsum("bchw,bchw,bchw->bchw", x, x, x), Code.NO_COST_RULE),
    ],
)
def test_an_operator_without_a_fair_price_is_refused(function: Function, code: Code) -> None:
    assert code in codes(lambda _, x: to_logits(function(x).float()))


@pytest.mark.parametrize(
    ("op", "word"),
    [
        ("aten.fft_rfft2.default", "DFT"),
        ("aten.lstm.input", "recurrence"),
        ("aten.bilinear.default", "einsums"),
        ("aten.sort.default", "softmax weights"),
        ("aten.div.Tensor_mode", "reciprocal"),
        ("aten.fake_quantize_per_tensor_affine.default", "without it"),
        ("aten._sparse_mm.default", "dense"),
        ("aten.linalg_inv.default", "matmul"),
        ("torchvision.deform_conv2d.default", "convolution"),
        ("aten._weight_norm_interface.default", ""),
        ("aten.no_such.default", ""),
    ],
)
def test_a_refusal_says_what_to_write_instead(op: str, word: str) -> None:
    assert word in hint(op)
    assert bool(hint(op)) == bool(word)


def test_a_table_looked_up_by_pixels_is_refused() -> None:
    assert (
        codes(lambda m, x: to_logits(m.table[(x * 9).long()]), table=torch.ones(10))[0] is Code.DTYPE_REFUSED
    )


def test_all_refusals_come_in_one_pass_each_once() -> None:
    def two(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = torch.cdist(x[0], x[0])
        return to_logits(torch.fft.fft(torch.cdist(y, y)).real.flatten()[None])

    assert codes(two) == [Code.NO_COST_RULE] * 3  # cdist (once), fft, real


def test_a_refusal_names_the_line_that_made_it() -> None:
    with pytest.raises(ParticipantError) as refused:
        cost_of(Forward(lambda _, x: to_logits(x.sort(1).values)))
    assert "test_refusals.py:" in refused.value.problems[0].where


def test_a_constant_answer_is_refused() -> None:
    assert codes(lambda m, x: m.answer + 0 * x.new_zeros(1, 6), answer=torch.ones(1, 6)) == [
        Code.OUTPUT_IGNORES_IMAGE
    ]


def test_state_that_changes_in_forward_is_refused() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            self.get_buffer("calls").add_(1)
            return to_logits(image) + self.calls

    with pytest.raises(ParticipantError) as refused:
        trace_of(Counts())
    assert refused.value.problems[0].code is Code.STATE_CHANGED
    assert "calls" in refused.value.problems[0].got


def test_a_branch_on_pixel_values_cannot_be_exported() -> None:
    def branch(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return to_logits(x if x.sum() > 0 else -x)

    assert codes(branch) == [Code.EXPORT_FAILED]


def test_a_custom_operator_is_refused() -> None:
    @torch.library.custom_op("starter_test::double", mutates_args=())
    def double(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    double.register_fake(torch.empty_like)

    assert codes(lambda _, x: to_logits(double(x))) == [Code.CUSTOM_OPERATOR]


def test_a_wrong_number_of_logits_is_refused() -> None:
    assert codes(lambda _, x: x.flatten(1)[:, :5]) == [Code.WRONG_OUTPUT]


def test_an_absurdly_large_value_is_refused_before_it_is_computed() -> None:
    assert codes(lambda _, x: to_logits(x.repeat(1, 1, 1000, 1000))) == [Code.GRAPH_TOO_LARGE]
    assert Code.GRAPH_TOO_LARGE in codes(lambda m, x: to_logits(x) + m.w.repeat(2**30).sum(), w=torch.ones(1))
