"""The exponential moving average (EMA) of the weights, which a run keeps."""

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

_Tensors = tuple[Tensor, ...] | list[Tensor]


class ModelEma(AveragedModel):
    """A copy of a model whose weights and buffers follow it slowly.

    With a decay of 0.9, each step covers a tenth of the distance. The average starts faster: with
    the full decay, the random first weights would remain in it for long, in a short run to the end.

    Args:
        model: the model to follow.
        steps: the number of steps in the whole run.
        decay: the final decay.
    """

    def __init__(self, model: nn.Module, steps: int, decay: float) -> None:
        super().__init__(model, multi_avg_fn=self._follow, use_buffers=True)
        self._decay = min(decay, 1 - _share(steps))

    def _follow(self, averaged: _Tensors, current: _Tensors, count: Tensor | int) -> None:
        now = min(self._decay, (1 + int(count)) / (10 + int(count)))
        get_ema_multi_avg_fn(now)(averaged, current, count)  # type: ignore[no-untyped-call]

    def tensors(self) -> dict[str, Tensor]:
        """Return a copy of the averaged weights and buffers, on the CPU."""
        values = self.module.state_dict().items()
        return {key: value.detach().cpu().contiguous().clone() for key, value in values}


def quicken_norms(model: nn.Module, steps: int) -> None:
    """Make batch norms follow fast enough for a short run: torchvision's MobileNetV3 takes 1 % per step."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum is not None:  # noqa: SLF001 - the only name for all of them
            module.momentum = min(1.0, max(module.momentum, _share(steps)))


def _share(steps: int) -> float:
    """Return the share of each step with which an average forgets its start in a tenth of the run."""
    return min(1.0, 10 / steps)
