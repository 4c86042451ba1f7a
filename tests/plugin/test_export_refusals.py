"""Why a model cannot be exported: each cause has its code, its hint and the participant's own line."""

import copy
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision import tv_tensors
from tracing import HERE, Forward, Function, to_logits

from starter.contract.errors import CATALOGUE, Code, ParticipantError, Problem
from starter.plugin.export import export_model
from starter.plugin.prepare import probe_model

SHAPE = (3, 8, 8)
LINES = Path(__file__).read_text(encoding="utf-8").splitlines()
OLD_TOOLS = ("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
"""Quantization and TorchScript are deprecated: the plugins that still use them are the point here."""
quantization: Any = torch.ao.quantization
jit: Any = torch.jit


def refused(model: nn.Module) -> list[Problem]:
    with pytest.raises(ParticipantError) as error:
        export_model(model, SHAPE, HERE)
    return list(error.value.problems)


def refusal(model: nn.Module) -> Problem:
    (only,) = refused(model)
    return only


def probed(model: nn.Module) -> Problem:
    (only,) = probe_model(model, SHAPE, 6, HERE)
    return only


def named_line(found: Problem) -> str:
    place = re.search(rf"{Path(__file__).name}:(\d+)", found.where)
    assert place, found.where
    return LINES[int(place[1]) - 1]


def head() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 6))


def in_a_thread(function: Function) -> Function:
    def call(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        with ThreadPoolExecutor(1) as pool:
            return to_logits(pool.submit(function, module, x).result())

    return call


VALUES = {
    "if": lambda _, x: to_logits(x if x.sum() > 0 else -x),
    "item": lambda _, x: to_logits(x * x.sum().item()),
    "float": lambda _, x: to_logits(x * float(x.sum())),
    "equal": lambda _, x: to_logits(x if torch.equal(x, x) else -x),
    "nonzero": lambda _, x: to_logits(x) + x.nonzero().shape[0],
    "unique": lambda _, x: to_logits(x) + torch.unique(x).numel(),
    "mask": lambda _, x: to_logits(x) + x[x > 0].sum(),
    "slice": lambda _, x: to_logits(x) + x[:, :, : int(x.sum())].sum(),
    "format": lambda _, x: to_logits(x) if f"{x.sum():.2f}" else x,
}


@pytest.mark.parametrize("name", VALUES)
def test_what_needs_a_tensors_numbers_is_told_to_compute_with_tensors(name: str) -> None:
    found = refusal(Forward(VALUES[name]))

    assert found.code is Code.EXPORT_FAILED
    assert "torch.where" in found.hint
    assert f'"{name}": lambda' in named_line(found)


def test_a_branch_is_recognized_although_the_plugin_raises_an_error_of_its_own_for_it() -> None:
    def wraps(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
        try:
            return to_logits(x if x.sum() > 0 else -x)
        except RuntimeError as error:
            raise ValueError("the image is odd") from error

    found = refusal(Forward(wraps))

    assert found.got == "ValueError: the image is odd"
    assert "torch.where" in found.hint


def test_a_cause_that_is_not_recognized_gets_a_hint_that_guesses_nothing() -> None:
    def only_while_traced(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_compiling():
            raise LookupError("not made for this")
        return to_logits(x)

    found = refusal(Forward(only_while_traced))

    assert found.code is Code.EXPORT_FAILED
    assert found.got == "LookupError: not made for this"
    assert found.hint == CATALOGUE[Code.EXPORT_FAILED].fix
    assert "`if`" not in found.hint
    assert "raise LookupError" in named_line(found)


def quantizable() -> nn.Sequential:
    stubs = quantization.QuantStub(), quantization.DeQuantStub()
    return nn.Sequential(stubs[0], nn.Flatten(), nn.Linear(192, 6), stubs[1])


def prepared() -> nn.Module:
    model = quantizable().eval()
    model.qconfig = quantization.get_default_qconfig("fbgemm")
    observed: nn.Module = quantization.prepare(model)
    observed(torch.rand(1, *SHAPE))
    return observed


def prepared_for_training() -> nn.Module:
    model = quantizable().train()
    model.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    observed: nn.Module = quantization.prepare_qat(model)
    return observed


@pytest.mark.filterwarnings(*OLD_TOOLS)
def test_a_quantized_layer_is_named() -> None:
    """The text of torch speaks of packed parameters and flattening."""
    found = refusal(quantization.convert(prepared()))

    assert found.code is Code.QUANTIZED
    assert found.got.startswith("0 is a torch.ao.nn.quantized.modules.Quantize; AttributeError: ")
    assert "Return the float model" in found.hint


@pytest.mark.filterwarnings(*OLD_TOOLS)
def test_dynamic_quantization_is_quantization() -> None:
    found = refusal(quantization.quantize_dynamic(head(), {nn.Linear}))

    assert found.code is Code.QUANTIZED
    assert found.got.startswith("1 is a torch.ao.nn.quantized.dynamic.")


@pytest.mark.slow
@pytest.mark.filterwarnings(*OLD_TOOLS)
def test_the_quantized_models_of_torchvision_are_refused_as_quantized_and_their_float_ones_are_not() -> None:
    from torchvision.models.quantization import mobilenet_v2

    assert refusal(mobilenet_v2(quantize=True, num_classes=6)).code is Code.QUANTIZED
    assert export_model(mobilenet_v2(quantize=False, num_classes=6), SHAPE, HERE).graph.nodes


@pytest.mark.filterwarnings(*OLD_TOOLS)
@pytest.mark.parametrize("make", [prepared, prepared_for_training])
def test_observers_are_told_from_a_branch_and_from_state_of_ones_own(make: Function) -> None:
    found = refusal(make())

    assert found.code is Code.QUANTIZED
    assert found.got.startswith("0.activation_post_process is a torch.ao.quantization.")
    assert "before torch.ao.quantization.prepare" in found.hint


QUANTIZED_VALUES = {
    "values": lambda _, x: to_logits(torch.quantize_per_tensor(x, 0.1, 0, torch.quint8).dequantize()),
    "buffer": lambda m, x: to_logits(x) + m.table.dequantize(),
}


@pytest.mark.filterwarnings(*OLD_TOOLS)
def test_a_quantized_tensor_is_refused_with_what_to_do_about_it() -> None:
    table = torch.quantize_per_tensor(torch.ones(6), 0.1, 0, torch.qint8)
    values = refusal(Forward(QUANTIZED_VALUES["values"]))
    buffer = refusal(Forward(QUANTIZED_VALUES["buffer"], table=table))

    assert values.code is buffer.code is Code.QUANTIZED
    assert "dequantize()" in values.hint
    assert values.hint == buffer.hint
    assert '"values": lambda' in named_line(values)


@pytest.mark.filterwarnings(*OLD_TOOLS)
def test_a_quantized_layer_that_gets_floats_is_refused_as_quantized_when_it_is_first_called() -> None:
    without_stubs = quantization.convert(prepared())
    without_stubs[0] = nn.Identity()

    assert probed(without_stubs).code is Code.QUANTIZED


@pytest.mark.filterwarnings(*OLD_TOOLS)
def test_torchscript_is_refused_as_such_whole_or_in_part() -> None:
    scripted, traced = jit.script(head()), jit.trace(head(), torch.zeros(1, *SHAPE))
    part = nn.Sequential(nn.Flatten(), jit.script(nn.Linear(192, 6)))

    for model in (scripted, traced, part):
        found = refusal(model)
        assert found.code is Code.TORCHSCRIPT
        assert "Return the nn.Module itself" in found.hint
    assert refusal(part).got.startswith("1 is a torch.jit._script.RecursiveScriptModule; TypeError: ")


OUTSIDE = {
    "numpy": lambda _, x: to_logits(torch.from_numpy(x.numpy())),
    "ufunc": lambda _, x: to_logits(np.abs(x)),
    "pointer": lambda _, x: to_logits(x) * bool(x.data_ptr()),
    "dlpack": lambda _, x: to_logits(torch.utils.dlpack.from_dlpack(x)),
    "deepcopy": lambda m, x: to_logits(x + copy.deepcopy(m.table)),
}


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("numpy", "np.abs"),
        ("ufunc", "np.abs"),
        ("pointer", "data_ptr()"),
        ("dlpack", "DLPack"),
        ("deepcopy", "copy.deepcopy"),
    ],
)
def test_what_leaves_torch_is_told_how_to_stay(name: str, word: str) -> None:
    found = refusal(Forward(OUTSIDE[name], table=torch.ones(1)))

    assert found.code is Code.LEAVES_TORCH
    assert word in found.hint
    assert "torch.compile/export/fx" not in found.got
    assert f'"{name}": lambda' in named_line(found)


UNTRACED = {
    "thread": (in_a_thread(lambda _, x: x * 2), "thread that calls forward"),
    "data": (lambda _, x: to_logits(x.data), "x.detach() for x.data"),
    "subclass": (lambda _, x: to_logits(tv_tensors.Image(x)), "plain tensors"),
}


@pytest.mark.parametrize("name", UNTRACED)
def test_a_tensor_that_the_trace_does_not_see_is_refused(name: str) -> None:
    function, word = UNTRACED[name]
    found = refusal(Forward(function))

    assert found.code is Code.UNTRACED_TENSOR
    assert word in found.hint
    assert "file an issue" not in found.got


def test_tensors_without_numbers_are_refused_when_the_model_is_first_called() -> None:
    with FakeTensorMode():
        fake = torch.ones(1)
    for table, word in ((fake, "FakeTensorMode"), (torch.ones(1, device="meta"), "to_empty")):
        found = probed(Forward(lambda m, x: to_logits(x * m.table), table=table))
        assert found.code is Code.UNTRACED_TENSOR
        assert word in found.hint
        assert "m.table" in named_line(found)


def test_a_fake_mode_of_ones_own_in_forward_is_refused() -> None:
    def own_mode(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
        with FakeTensorMode():
            table = torch.ones(1)
        return to_logits(x * table)

    assert "open no such mode in forward" in refusal(Forward(own_mode)).hint


@pytest.mark.skipif(torch.cuda.is_available(), reason="cuda works here")
def test_a_plugin_that_asks_for_a_gpu_is_told_that_there_is_none() -> None:
    found = probed(Forward(lambda _, x: to_logits(x.cuda())))

    assert found.code is Code.UNTRACED_TENSOR
    assert "runs on the CPU" in found.hint


def test_a_model_made_in_inference_mode_is_refused() -> None:
    with torch.inference_mode():
        model = head()

    assert "torch.inference_mode()" in refusal(model).hint


@pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")
def test_a_lazy_layer_is_refused_until_it_was_called_once() -> None:
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(6))

    assert "nn.LazyLinear" in refusal(lazy).hint
    assert not probe_model(lazy, SHAPE, 6, HERE)
    assert export_model(lazy, SHAPE, HERE).graph.nodes


def test_a_bug_in_a_compiled_model_is_a_bug() -> None:
    def misspelt(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return to_logits(module.haed(x))

    found = probed(torch.compile(Forward(misspelt), backend="eager"))

    assert found.code is Code.MODEL_RAISED
    assert "module.haed" in named_line(found)


def test_a_compiled_function_is_refused_where_its_compiler_fails() -> None:
    def fails(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> torch.fx.GraphModule:
        raise OSError(f"no compiler for {type(graph).__name__}")

    compiled: Any = torch.compile(to_logits, backend=fails)
    found = probed(Forward(lambda _, x: compiled(x)))
    assert found.code is Code.COMPILED
    assert "without torch.compile" in found.hint


def test_torch_cond_whose_branches_differ_is_a_sub_graph_all_the_same() -> None:
    def cond(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return to_logits(torch.cond(x.sum() > 0, lambda a: a[:, :, :2], lambda a: a * 2, (x,)))

    assert refusal(Forward(cond)).code is Code.SUBGRAPH


CHANGES = {
    "argument": lambda _, x: to_logits(x.mul_(2)),
    "constant": lambda m, x: to_logits(x * m.plain.add_(1)),
}


def test_a_changed_argument_is_state_and_told_apart() -> None:
    found = refusal(Forward(CHANGES["argument"]))

    assert found.code is Code.STATE_CHANGED
    assert "x = x * 2" in found.hint
    assert '"argument": lambda' in named_line(found)


def test_a_changed_constant_is_state_and_no_buffer_is_recommended() -> None:
    model = Forward(CHANGES["constant"])
    model.plain = torch.ones(1)
    found = refusal(model)

    assert found.code is Code.STATE_CHANGED
    assert found.got == "RuntimeError: Constant plain is mutated in the forward method."


def test_a_plain_tensor_a_traced_graph_and_data_parallel_are_no_obstacle() -> None:
    model = Forward(lambda m, x: to_logits(x * m.plain))
    model.plain = torch.ones(1)

    for exportable in (model, nn.DataParallel(head()), torch.fx.symbolic_trace(head())):
        assert export_model(exportable, SHAPE, HERE).graph.nodes


def test_a_custom_operator_without_a_fake_is_a_custom_operator() -> None:
    @torch.library.custom_op("starter_test::triple", mutates_args=())
    def triple(x: torch.Tensor) -> torch.Tensor:
        return x * 3

    assert refusal(Forward(lambda _, x: to_logits(triple(x)))).code is Code.CUSTOM_OPERATOR


SPARSE = {"product": lambda m, x: torch.sparse.mm(m.table, x[0, 0]).flatten()[None, :6]}


def test_a_sparse_weight_is_refused_where_it_is_used() -> None:
    found = refusal(Forward(SPARSE["product"], table=torch.eye(8).to_sparse()))

    assert found.code is Code.NO_COST_RULE
    assert '"product": lambda' in named_line(found)


def test_an_output_of_a_class_of_ones_own_is_a_wrong_output() -> None:
    class Output:
        def __init__(self, logits: torch.Tensor) -> None:
            self.scores = logits

    assert refusal(Forward(lambda _, x: Output(to_logits(x)))).code is Code.WRONG_OUTPUT
