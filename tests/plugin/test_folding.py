"""What no image changes is free, also where the table has no row for it: it is computed before the count."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from tracing import Forward, cost_of, graph_of, to_logits, trace_of

from starter.contract.errors import Code, ParticipantError
from starter.graph.executor import Program
from starter.graph.operators import OPERATORS

CONV = 4 * 6 * 6 * 27
"""MACs of `network`'s convolution."""


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6))


def old_spectral_norm(layer: nn.Module) -> nn.Module:
    return nn.utils.spectral_norm(layer)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.(weight|spectral)_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "parametrize",
    [
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        parametrizations.orthogonal,
        nn.utils.weight_norm,
        old_spectral_norm,
    ],
)
def test_a_parametrized_layer_costs_what_the_plain_one_does(parametrize: Callable[[nn.Module], Any]) -> None:
    model = network()
    for layer in (model[0], model[3]):
        parametrize(layer)
    images = torch.rand(3, 3, 8, 8)
    walk = trace_of(model)

    assert cost_of(model).macs == cost_of(network()).macs > CONV
    torch.testing.assert_close(Program(walk, rounding=None)(images), model(images))
    assert walk.graph.num_params >= 4 * 27 + 4 + 4 * 6 + 6  # folded parameters are parameters still
    assert all(node.op in OPERATORS for node in walk.graph.file.nodes)


def test_an_embedding_bag_of_constant_words_is_a_constant() -> None:
    words, bag = torch.tensor([[1, 2, 4]]), nn.EmbeddingBag(10, 6, mode="mean")
    model = Forward(lambda m, x: to_logits(x) + m.bag(m.words), words=words)
    model.bag = bag
    images = torch.rand(2, 3, 8, 8)

    assert cost_of(model).macs == 6  # the sum alone
    torch.testing.assert_close(Program(trace_of(model))(images), to_logits(images) + bag(words))


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda m, x: to_logits(x) * torch.linalg.qr(m.table)[0][0], id="one of several results"),
        pytest.param(lambda m, x: to_logits(x) * torch.matrix_exp(m.table)[0], id="a matrix function"),
        pytest.param(lambda _, x: to_logits(x) * torch.logspace(0, 1, 6), id="out of nothing"),
        pytest.param(lambda _, x: to_logits(x) * torch.hann_window(6), id="a window"),
        pytest.param(lambda _, x: to_logits(x) * torch.empty(6).fill_(0.5), id="memory that is filled"),
        pytest.param(lambda _, x: to_logits(x) * x.new_empty(6).zero_(), id="memory that is emptied"),
        pytest.param(
            lambda m, x: to_logits(x) * torch.fft.irfft(torch.fft.rfft(m.table))[0],
            id="through complex values",
        ),
        pytest.param(
            lambda m, x: to_logits(x) * torch.special.i0(torch.ones_like(to_logits(x))) * m.table[0],
            id="of the image's shape",
        ),
    ],
)
def test_any_deterministic_operator_on_constants_is_free(function: Any) -> None:
    model = Forward(function, table=torch.rand(6, 6, generator=torch.Generator().manual_seed(0)) + 1)
    images = torch.rand(2, 3, 8, 8)

    assert cost_of(model).macs <= 2 * 6  # the products with the image
    torch.testing.assert_close(Program(trace_of(model), rounding=None)(images), model(images))


@pytest.mark.parametrize(
    ("function", "code"),
    [
        (lambda _, x: to_logits(x) * torch.rand(6), Code.RANDOM_OPERATOR),
        (lambda m, x: to_logits(x) * torch.bernoulli(m.table)[0], Code.RANDOM_OPERATOR),
        (lambda m, x: to_logits(x) * torch.fft.rfft(m.table)[0, :1].real, None),
        (lambda _, x: torch.fft.rfft(to_logits(x)).abs()[:, :6], Code.NO_COST_RULE),
        (lambda _, x: to_logits(x) * torch.empty(6), Code.NO_COST_RULE),
    ],
)
def test_what_is_random_or_reads_the_image_is_refused_as_before(function: Any, code: Code | None) -> None:
    model = Forward(function, table=torch.full((6, 6), 0.5))
    if code is None:
        assert cost_of(model).macs == 6
        return
    with pytest.raises(ParticipantError) as refused:
        cost_of(model)
    assert refused.value.problems[0].code is code


def test_a_constant_that_no_weights_file_can_hold_is_named_by_its_operator() -> None:
    model = Forward(
        lambda m, x: torch.view_as_real(to_logits(x) * torch.fft.fft(m.table[0]))[..., 0],
        table=torch.ones(6, 6),
    )

    with pytest.raises(ParticipantError) as refused:
        cost_of(model)
    assert refused.value.problems[0].got == "aten.fft_fft.default"


def test_what_was_folded_leaves_nothing_behind() -> None:
    model = network()
    parametrizations.weight_norm(model[0])
    graph = graph_of(model)

    assert [spec.key for spec in graph.file.tensors if spec.key.startswith("0.")] == ["0.bias"]
    assert "folded._weight_norm" in {spec.key for spec in graph.file.tensors}
