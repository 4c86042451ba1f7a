"""Structured pruning: remove the channels that torch-pruning chooses (Fang et al. 2023, arXiv:2301.12900)."""

from copy import deepcopy

import torch
from torch import nn

from starter.contract.errors import Code, participant_error
from starter.contract.system.extras import require_extra
from starter.plugin.refusals import describe_error, own_line
from starter.recipes.compression.plugin import Compressed, Original, fitting
from starter.recipes.compression.rebuild import Step

_ROUND = 4
"""Numbers of channels are multiples of this."""


def prune(original: Original, *, keep: float | None, macs: int | None) -> Compressed:
    """Remove channels, the same ones wherever a residual connection or a group ties them together.

    Args:
        original: the trained plugin.
        keep: the share of the channels to keep.
        macs: instead, the most MACs per image; the largest share that fits is used.

    Raises:
        UsageError: U501, torch-pruning is missing; U503, no share of channels is cheap enough.
        ParticipantError: torch-pruning cannot follow the network.
    """
    require_extra("torch_pruning", "starter compress --method prune")
    return fitting(original, lambda share: _prune(original, share), keep, macs)


def _prune(original: Original, keep: float) -> Compressed:
    import torch_pruning as tp  # noqa: PLC0415 - an optional package

    model = deepcopy(original.model)
    classes = original.num_classes
    last = [
        m for m in model.modules() if getattr(m, "out_features", getattr(m, "out_channels", 0)) == classes
    ]
    try:
        pruner = tp.pruner.BasePruner(
            model,
            original.images(),
            importance=tp.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=1 - keep,
            ignored_layers=last,
            round_to=_ROUND,
        )
        pruner.step()
        model.zero_grad(set_to_none=True)
        with torch.no_grad():
            model(original.images())
    except Exception as error:
        where = own_line(error, original.source)
        raise participant_error(
            Code.NOT_COMPRESSED, where=where, got=f"torch-pruning: {describe_error(error)}"
        ) from error
    return original.compressed(model, _resized(original.model, model))


def _resized(before: nn.Module, after: nn.Module) -> list[Step]:
    """Return the modules whose sizes changed."""
    steps: list[Step] = []
    old_modules = dict(before.named_modules())
    for name, module in after.named_modules():
        old = old_modules[name]
        sizes = {
            key: value
            for key, value in vars(module).items()
            if isinstance(value, int) and not key.startswith("_") and vars(old).get(key) != value
        }
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        shapes = {key: list(t.shape) for key, t in own if t.shape != getattr(old, key).shape}
        if sizes or shapes:
            steps.append({"kind": "resize", "module": name, "sizes": sizes, "shapes": shapes})
    return steps
