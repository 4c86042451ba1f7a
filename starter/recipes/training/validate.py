"""Measure a model on the validation images, and check that it can be trained at all."""

from collections.abc import Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from starter.contract.errors import Code, Problem, problem
from starter.contract.submissions import SubmissionSource
from starter.evaluation.scoring import macro_f1
from starter.plugin.refusals import describe_error, own_line
from starter.recipes.training.data import Split

_CHUNK = 128


def validate(
    model: nn.Module, images: Split, class_names: Sequence[str], device: torch.device
) -> tuple[float, float]:
    """Return a model's loss (unweighted, unsmoothed) and macro F1 on the validation images."""
    model.eval()
    with torch.inference_mode():
        parts = [model(part.to(device).float()).cpu() for part in torch.split(images.images, _CHUNK)]
    logits = torch.cat(parts)
    loss = F.cross_entropy(logits, images.labels).item()
    return loss, macro_f1(images.labels.tolist(), logits.argmax(1).tolist(), class_names).macro


def training_problems(
    model: nn.Module, shape: tuple[int, int, int], num_classes: int, source: SubmissionSource
) -> list[Problem]:
    """Try one step on a copy; return the problems of the model in training mode."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        expected, where = "a model with trainable parameters", f"{source.file.name}: Submission.model"
        return [problem(Code.BAD_FIELD, where=where, expected=expected, got="no parameter, or all frozen")]
    with torch.random.fork_rng():
        try:
            output = deepcopy(model).train()(torch.randn(2, *shape))
            if isinstance(output, Tensor) and output.shape == (2, num_classes):
                torch.autograd.backward(output.sum())
                return []
        except Exception as error:  # noqa: BLE001 - forward is the participant's: it may raise anything
            got = f"{describe_error(error)}, in training mode"
            return [problem(Code.MODEL_RAISED, where=own_line(error, source), got=got)]
    shown = str(tuple(output.shape)) if isinstance(output, Tensor) else type(output).__name__
    return [
        problem(
            Code.WRONG_OUTPUT,
            where=f"{type(model).__name__}.forward, in training mode",
            expected=f"a tensor of shape (2, {num_classes})",
            got=shown,
            hint="Switch off auxiliary outputs, for example with aux_logits=False.",
        )
    ]
