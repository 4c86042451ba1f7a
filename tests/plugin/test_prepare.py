"""What participants wrap around a network is taken off before it is tried, trained and exported."""

import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from tracing import HERE, Forward, cost_of, graph_of, to_logits, trace_of

from starter.contract.errors import Code, Problem
from starter.graph.analysis import trace
from starter.graph.costs.macs import count_macs
from starter.graph.executor import Program
from starter.plugin.prepare import prepared, probe_model

SHAPE = (3, 8, 8)
LINES = Path(__file__).read_text(encoding="utf-8").splitlines()


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 6),
    )


def exported(*, batch: int = 1, is_dynamic: bool = False, side: int = 8) -> Any:
    dynamic = ({0: torch.export.Dim("batch")},) if is_dynamic else None
    example = (torch.zeros(batch, 3, side, side),)
    return torch.export.export(network().eval(), example, dynamic_shapes=dynamic).module()


def probed(model: nn.Module) -> list[Problem]:
    return probe_model(model, SHAPE, 6, HERE)


def own_line(found: Problem) -> str:
    place = re.search(rf"{Path(__file__).name}:(\d+)", found.where)
    assert place, found.where
    return LINES[int(place[1]) - 1]


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(exported(), id="for one image"),
        pytest.param(exported(batch=2, is_dynamic=True), id="for any batch"),
        pytest.param(nn.Sequential(exported()), id="in a module"),
        pytest.param(
            torch.export.unflatten(torch.export.export(network().eval(), (torch.zeros(1, 3, 8, 8),))),
            id="with its layers",
        ),
    ],
)
def test_an_exported_module_is_taken_and_costs_what_its_module_does(model: nn.Module) -> None:
    images = torch.rand(2, *SHAPE)

    assert not probed(model)
    assert cost_of(model).macs == cost_of(network()).macs
    logits = Program(trace_of(model), rounding=None)(images)
    torch.testing.assert_close(logits, network().eval()(images))


def test_a_module_exported_for_other_images_is_told_what_to_export_it_for() -> None:
    for model in (exported(side=9), exported(batch=3)):
        (found,) = probed(model)
        assert found.code is Code.COMPILED
        assert "a batch of one" in found.hint


class Modes(nn.Sequential):
    """A network whose change of mode returns nothing, or raises."""

    raises = False

    def train(self, mode: bool = True) -> Any:
        """As nn.Module's, but for what is returned."""
        if self.raises:
            raise NotImplementedError("no other mode")
        super().train(mode)


def test_what_eval_returns_does_not_matter() -> None:
    model = Modes(*network())

    assert not probed(model)
    assert cost_of(model).macs == cost_of(network()).macs
    assert not model[1].training


def test_the_image_is_float32_whatever_the_plugin_makes_of_new_tensors() -> None:
    model = network()
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert not probed(model)
        graph = graph_of(model)
    finally:
        torch.set_default_dtype(torch.float32)
    assert count_macs(trace(graph, num_classes=6)).macs == cost_of(network()).macs


def test_a_model_whose_eval_raises_is_named_by_that_line() -> None:
    model = Modes(*network())
    model.raises = True

    (found,) = probed(model)
    assert (found.code, found.got) == (
        Code.MODEL_RAISED,
        "NotImplementedError: no other mode, for model.eval()",
    )
    assert "raise NotImplementedError" in own_line(found)


def test_a_model_that_exits_is_named_by_that_line() -> None:
    def leave(_: nn.Module, __: torch.Tensor) -> torch.Tensor:
        raise SystemExit(3)

    (found,) = probed(Forward(leave))
    assert (found.code, found.got) == (Code.EARLY_EXIT, "sys.exit(3)")
    assert "raise SystemExit" in own_line(found)


def fails(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> torch.fx.GraphModule:
    raise OSError(f"no compiler for {type(graph).__name__}")


@pytest.mark.slow
def test_a_compiled_network_is_the_network() -> None:
    whole = torch.compile(network(), backend=fails)
    part: Any = network()
    part[0] = torch.compile(part[0], backend=fails)
    in_place = network()
    in_place.compile(backend=fails)
    in_place[5].compile(backend=fails)

    twice: Any = network()
    twice[0] = twice[0:1]
    twice.again = twice[0][0] = torch.compile(twice[0][0], backend=fails)
    plain = prepared(twice)
    assert plain.again is plain[0][0]
    assert type(plain.again) is nn.Conv2d

    for model in (whole, part, in_place, nn.DataParallel(network()), AveragedModel(network())):
        assert isinstance(model, nn.Module)
        plain = prepared(model)
        assert plain.state_dict().keys() == network().state_dict().keys()
        assert not probed(plain)
        assert {node.module for node in graph_of(plain).file.nodes} == {"0", "1", "2", "3", "4", "5"}


@dataclass
class Output:
    """As Hugging Face's ImageClassifierOutput."""

    logits: Any
    hidden_states: Any = None


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda logits: Output(logits, logits * 2), id="a dataclass"),
        pytest.param(lambda logits: {"loss": None, "logits": logits}, id="a dictionary"),
        pytest.param(lambda logits: OrderedDict(logits=logits), id="an ordered dictionary"),
    ],
)
def test_an_output_object_is_taken_by_its_logits(wrap: Any) -> None:
    model = Forward(lambda _, image: wrap(to_logits(image)))
    images = torch.rand(2, *SHAPE)

    assert not probed(model)
    assert torch.equal(Program(trace_of(model))(images), to_logits(images))


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda logits: (logits, logits), id="a tuple"),
        pytest.param(lambda logits: {"scores": logits}, id="another name"),
        pytest.param(lambda logits: Output([logits]), id="a list by that name"),
    ],
)
def test_what_has_no_logits_by_that_name_is_a_wrong_output(wrap: Any) -> None:
    model = Forward(lambda _, image: wrap(to_logits(image)))

    assert [p.code for p in probed(model)] == [Code.WRONG_OUTPUT]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.bfloat16])
def test_weights_of_another_type_than_the_image_are_named(dtype: torch.dtype) -> None:
    (found,) = probed(network().to(dtype))

    assert found.code is Code.MODEL_RAISED
    assert f"weights of the model are {dtype}. Return model.float()" in found.hint
