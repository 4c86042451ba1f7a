"""Re-parameterisation: fold branches and batch norms into single convolutions with the same answers.

Every step is tried on a copy, and kept only if the logits of two images of noise stay the same.
"""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from starter.contract.errors import Code, usage_error
from starter.recipes.compression.plugin import Compressed, Original
from starter.recipes.compression.rebuild import Step, rebuild

_TOLERANCE = 1e-3
"""As a share of the largest logit: float32 sums in another order differ."""


def reparameterize(original: Original) -> Compressed:
    """Fold branches and batch norms into single convolutions; the answers stay the same.

    Raises:
        UsageError: U503, there is nothing to fold.
    """
    images = original.images()
    with torch.no_grad():
        wanted = original.model(images)
    model, steps = deepcopy(original.model), list[Step]()
    sources: list[Step] = [{"kind": "reparameterize"}, {"kind": "merge"}]
    for step in sources:
        changed = _tried(model, step, images, wanted)
        if changed is not None and _num_modules(changed) != _num_modules(model):
            model = changed
            steps.append(step)
    for module, norm in _followed_by_norms(model, images):
        step = {"kind": "fold", "module": module, "norm": norm}
        changed = _tried(model, step, images, wanted)
        if changed is not None:
            model = changed
            steps.append(step)
    if not steps:
        raise usage_error(
            Code.NOT_SMALLER, where=str(original.source.path), got="no branch and no batch norm to fold"
        )
    return original.compressed(model, steps)


def _tried(model: nn.Module, step: Step, images: Tensor, wanted: Tensor) -> nn.Module | None:
    """Return the changed network, or None if the step fails or changes the answers."""
    try:
        with torch.no_grad():
            changed = rebuild(deepcopy(model), [step]).eval()
            got = changed(images)
    except Exception:  # noqa: BLE001 - a stranger's fuse(), or a network that cannot be traced
        return None
    scale = wanted.abs().max().clamp(min=1e-6)
    return changed if ((got - wanted).abs().max() / scale) < _TOLERANCE else None


def _num_modules(model: nn.Module) -> int:
    return sum(1 for module in model.modules() if not isinstance(module, nn.Identity))


def _followed_by_norms(model: nn.Module, images: Tensor) -> list[tuple[str, str]]:
    """Return each (layer, batch norm) in which the layer's output goes into the batch norm."""
    made_by: dict[int, tuple[str, Tensor]] = {}
    pairs: list[tuple[str, str]] = []

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            if isinstance(module, nn.Conv2d | nn.Linear):
                made_by[id(output)] = (name, output)  # kept, so that no other tensor gets its id
            elif id(inputs[0]) in made_by:
                pairs.append((made_by[id(inputs[0])][0], name))

        return hook

    kinds = (nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d)
    hooks = [m.register_forward_hook(note(n)) for n, m in model.named_modules() if isinstance(m, kinds)]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return list(dict.fromkeys(pairs))
