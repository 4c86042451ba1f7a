"""The options of `starter train` and the report of a run: records only, without torch.

The packaged baseline was trained with the defaults. benchmarks/ablation.py measures what each
option is worth; docs/training.md shows the results.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

if TYPE_CHECKING:
    import torch


class TrainSettings(BaseModel):
    """Every option of the recipe; the defaults suit small networks trained from scratch on a CPU.

    The first paragraph below a field is the help of its option in `starter train`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    epochs: int = Field(default=60, ge=1)
    """Passes over the training images."""
    batch_size: int = Field(default=64, ge=2)
    """Images per step."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """adamw or sgd.

    SGD has Nesterov momentum 0.9.
    """
    lr: float = Field(default=3e-3, gt=0)
    """Peak learning rate; try 0.3 with sgd."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Weight decay of weights; norms and biases have none.

    On parameters of two and more dimensions; try 5e-4 with SGD.
    """
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises.

    It rises linearly, then falls as a cosine.
    """
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Share of the target spread over all classes."""
    balance: Literal["none", "sqrt", "inverse"] = "sqrt"
    """Class weights in the loss: none, sqrt or inverse.

    1, or 1 over the (square root of the) number of the class's images.
    """
    sampling: Literal["shuffle", "balanced"] = "shuffle"
    """shuffle: each image once per epoch; balanced: each class equally often."""
    ema_decay: float = Field(default=0.995, ge=0, lt=1)
    """Decay of the averaged weights (EMA).

    The averaged weights are kept.
    """
    augment: float = Field(default=1.0, ge=0, le=3)
    """Strength of the augmentation, 0 to 3.

    Shift, scale, rotation, brightness, contrast and erasing; 0 switches them off.
    """
    flip: bool = True
    """Mirror images left to right."""
    policy: Literal["none", "randaugment", "trivialaugment"] = "none"
    """Additional policy: none, randaugment or trivialaugment.

    Torchvision's, applied before the other augmentation; each image gets its own draw.
    """
    mixup: float = Field(default=0.0, ge=0, le=10)
    """Mix pairs of images; try 0.2.

    The parameter of the beta distribution that shares are drawn from; 0 switches it off.
    """
    cutmix: float = Field(default=0.0, ge=0, le=10)
    """Paste boxes from other images; try 1.

    The parameter as for mixup; with both, each has half of the batches.
    """
    teachers: tuple[Path, ...] = ()
    """A trained plugin to learn from; repeatable.

    The outputs of several teachers are averaged.
    """
    teacher_weight: float = Field(default=0.7, ge=0, le=1)
    """Share of the loss that compares with the teachers' outputs.

    The rest compares with the labels.
    """
    temperature: float = Field(default=2.0, gt=0)
    """Temperature that softens the compared outputs.

    Logits are divided by it before student and teachers are compared.
    """
    teacher_views: int = Field(default=0, ge=0)
    """Run the teachers once on this many views per image; 0: at every step."""
    clip_norm: float = Field(default=5.0, gt=0)
    """Clip the gradient to this norm."""
    validation_share: float = Field(default=0.15, ge=0, le=0.5)
    """Share of the images that chooses the best epoch; 0: none.

    Taken from the training images, unless the data set marks its own; with 0, training uses all images
    and keeps the last epoch.
    """
    patience: int = Field(default=0, ge=0)
    """Stop after this many epochs without improvement; 0: never."""
    from_weights: bool = False
    """Start from the weights beside the plugin.
    """
    amp: Literal["auto", "off", "bfloat16", "float16"] = "auto"
    """Mixed precision: auto (on CUDA), off, bfloat16 or float16.

    The type of matrix products and convolutions; auto: bfloat16 on CUDA, off on a CPU.
    """
    channels_last: bool = True
    """Store images and weights channels last, which speeds up convolutions.
    """
    deterministic: bool = False
    """Reject nondeterministic operators."""
    seed: int = 0
    """The same seed repeats a run on the same machine.

    It determines the weights, the order, the augmentation and the split.
    """
    seeds: int = Field(default=1, ge=1)
    """Train this many seeds, keep the best, and report mean and spread.

    `seed` and the ones after it, on the same split; the best by validation.
    """
    device: str = "auto"
    """Device: auto, cpu or cuda."""

    @field_validator("device")
    @classmethod
    def _is_there(cls, name: str) -> str:
        import torch  # noqa: PLC0415 - the help of `starter train` reads the fields without it

        try:
            torch.empty(0, device=device_of(name))
        except (RuntimeError, AssertionError) as error:  # the latter: a build of torch without CUDA
            raise ValueError(f"this device is not available: {str(error).splitlines()[0]}") from error
        return name

    @field_validator("teachers")
    @classmethod
    def _are_absolute(cls, paths: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(path.absolute() for path in paths)


class SeedResult(BaseModel):
    """The result of one of several runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    """Its seed."""
    best_epoch: int
    """The epoch of its best averaged weights, from 1; 0: none was better than the starting weights."""
    macro_f1: float | None
    """Validation macro F1; None without validation images."""
    epochs: int
    """Number of epochs run."""


class TrainReport(BaseModel):
    """The result of a training run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: str
    """The file that was written."""
    sha256: str
    """The hash of that file."""
    replaced: str | None
    """The path of the replaced weights; None if there were none, or equal ones."""
    best_epoch: int
    """The epoch whose averaged weights were kept, from 1; 0: none was better than the starting weights."""
    macro_f1: float | None
    """Validation macro F1; None without validation images."""
    runs: tuple[SeedResult, ...]
    """One for each seed."""
    macro_f1_mean: float | None
    """Over the seeds; None without validation images."""
    macro_f1_std: float | None
    """The sample standard deviation over the seeds; None for a single one."""
    num_train: int
    """Images trained on."""
    num_validation: int
    """Images validated on."""
    seconds: float
    """Wall-clock time of this call."""
    images_per_second: float
    """Training images of this call, augmentation and validation included."""
    interrupted: bool
    """Whether the run was stopped before its last epoch."""
    settings: TrainSettings
    """The settings of the run."""


def device_of(name: str) -> "torch.device":
    """Return the device of a name; `auto` is CUDA if there is a GPU."""
    import torch  # noqa: PLC0415 - as above

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
