"""The exponential moving average (EMA) of the weights: what a run keeps."""

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

_Tensors = tuple[Tensor, ...] | list[Tensor]


class ModelEma(AveragedModel):
    """A copy of a model whose weights and buffers follow it slowly.

    A decay of 0.9 moves it by a tenth of the distance. It starts faster: with the full decay
    the random first weights would stay in for long, and in a short run to the end.

    Args:
        model: what it follows.
        steps: how many there are in the whole run.
        decay: how slowly it follows at last.
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
    """Let batch norms follow fast enough for a short run: torchvision's MobileNetV3 takes 1 % of a step."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum is not None:  # noqa: SLF001 - the only name for all of them
            module.momentum = min(1.0, max(module.momentum, _share(steps)))


def _share(steps: int) -> float:
    """Return what an average must take of each step, to forget its start in a tenth of the run."""
    return min(1.0, 10 / steps)
