"""Make a model ready to be tried, trained and exported, and try it.

What participants wrap around a network, and does not change what it computes, is taken off: torch.compile,
the output object of a library, the locks that torch.export puts on its modules.
"""

import sys
from collections.abc import Mapping

import torch
from torch import fx, nn
from torch.optim.swa_utils import AveragedModel

from starter.contract.errors import HINTS, Code, Problem, problem
from starter.contract.submissions import SubmissionSource
from starter.plugin import refusals
from starter.plugin.refusals import own_line


def prepared(model: nn.Module) -> nn.Module:
    """Return the network itself, which gives its logits as a tensor.

    Args:
        model: what the hook has returned; its layers are changed in place.
    """
    model = _original(model)
    while isinstance(model, nn.DataParallel | AveragedModel):  # around a part of a network its keys stay
        model = _original(model.module)
    for module in [*model.modules()]:
        if isinstance(module, fx.GraphModule):  # of torch.export: its own `train` and `eval` only raise
            for name in ("train", "eval"):
                vars(module).pop(name, None)
        if getattr(module, "_compiled_call_impl", None) is not None:
            module._compiled_call_impl = None  # noqa: SLF001 - what module.compile() has set
        for name, child in module._modules.items():  # noqa: SLF001 - named_children() leaves out the second of two
            plain = None if child is None else _original(child)
            if plain is not child:
                module._modules[name] = plain  # noqa: SLF001
    is_scripted = isinstance(model, torch.jit.ScriptModule)  # refused later: it takes no hook
    if not is_scripted and logits_of not in model._forward_hooks.values():  # noqa: SLF001 - no public way
        model.register_forward_hook(logits_of)
    return model


def logits_of(_: nn.Module, __: object, output: object) -> object:
    """Return the logits of an output that holds them by that name, as Hugging Face's do: a forward hook."""
    if isinstance(output, torch.Tensor):
        return output
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    return logits if isinstance(logits, torch.Tensor) else output


def probe_model(
    model: nn.Module, input_shape: tuple[int, int, int], num_classes: int, source: SubmissionSource
) -> list[Problem]:
    """Call the model on batches of one and two; return what is wrong with its output.

    What was exported for a batch of one is called with one image only: that is how it is counted and run.
    """
    model = prepared(model)
    for batch in (1, 2):
        calls = "model.eval()"
        try:
            with torch.no_grad():
                model.eval()
                calls = f"an input of shape {(batch, *input_shape)}"
                output = model(torch.zeros(batch, *input_shape, dtype=torch.float32))
        except SystemExit as error:
            return [problem(Code.EARLY_EXIT, where=own_line(error, source), got=f"sys.exit({error.code!r})")]
        except Exception as error:  # noqa: BLE001 - forward is the participant's: it may raise anything
            cause = refusals.of_error(error) or _by_dtype(model)
            if batch > 1 and cause is refusals.EXPORTED:
                return []
            got = f"{refusals.cleaned(error)}, for {calls}"
            return [cause.problem(where=own_line(error, source), got=got)]
        wanted = f"float32 ({batch}, {num_classes})"
        got = _describe_output(output)
        if got != wanted:
            where = f"{type(model).__name__}.forward"
            return [problem(Code.WRONG_OUTPUT, where=where, expected=wanted, got=got)]
    return []


def _original(module: nn.Module) -> nn.Module:
    """Return the module that torch.compile is around."""
    compiled = getattr(sys.modules.get("torch._dynamo"), "OptimizedModule", ())
    while isinstance(module, compiled):
        module = module._orig_mod  # noqa: SLF001 - the name by which torch.compile's wrapper holds it
    return module


def _by_dtype(model: nn.Module) -> refusals.Cause:
    """Return why a model raises for which the error has no other cause: its weights may not be float32."""
    dtypes = (p.dtype for p in model.parameters() if p.is_floating_point() and p.dtype != torch.float32)
    found = next(dtypes, None)
    if found is None:
        return refusals.RAISED
    return refusals.Cause(Code.MODEL_RAISED, hint=HINTS["not_float32"].format(found))


def _describe_output(output: object) -> str:
    if isinstance(output, torch.Tensor):
        return f"{output.dtype} {tuple(output.shape)}".removeprefix("torch.")
    return type(output).__name__
