"""The switches of `starter train` and the report of a run: records, no computation.

The defaults are those that made the packaged baseline. What each switch is worth is
measured by benchmarks/ablation.py and told in docs/training.md.
"""

from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator


class TrainSettings(BaseModel):
    """Every switch of the recipe; the defaults suit small networks trained from scratch on a CPU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=60, ge=1)
    """Passes over the training images."""
    batch_size: int = Field(default=64, ge=2)
    """Images per step."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or SGD with Nesterov momentum 0.9."""
    lr: float = Field(default=3e-3, gt=0)
    """The highest learning rate; try 0.3 with SGD."""
    weight_decay: float = Field(default=0.05, ge=0)
    """On weights of two and more dimensions only, not on norms and biases; try 5e-4 with SGD."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises linearly; then it falls as a cosine."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """How much of the target goes to all classes alike."""
    balance: Literal["none", "sqrt", "inverse"] = "sqrt"
    """Weight of a class in the loss: 1, or 1 over the (square root of the) number of its images."""
    sampling: Literal["shuffle", "balanced"] = "shuffle"
    """Each image once an epoch, or drawn so that every class is seen equally often."""
    ema_decay: float = Field(default=0.995, ge=0, lt=1)
    """How slowly the averaged weights follow; the averaged weights are what is kept."""
    augment: float = Field(default=1.0, ge=0, le=3)
    """Strength of shift, scale, rotation, brightness, contrast and erasing; 0 switches them off."""
    flip: bool = True
    """Whether images are mirrored left to right."""
    policy: Literal["none", "randaugment", "trivialaugment"] = "none"
    """A policy of torchvision on top, before the others; it draws one for each image."""
    mixup: float = Field(default=0.0, ge=0, le=10)
    """The beta distribution's parameter for mixing pairs of images; try 0.2; 0 switches it off."""
    cutmix: float = Field(default=0.0, ge=0, le=10)
    """As mixup, for pasting a box of another image; with both, each has half of the batches."""
    teachers: tuple[Path, ...] = ()
    """Trained plugins whose answers are learnt as well; those of several are averaged."""
    teacher_weight: float = Field(default=0.7, ge=0, le=1)
    """The share of the loss that compares with the teachers instead of the labels."""
    temperature: float = Field(default=2.0, gt=0)
    """What logits are divided by before student and teachers are compared."""
    teacher_views: int = Field(default=0, ge=0)
    """How many augmented views of each image the teachers are asked about, once; 0: every step anew."""
    clip_norm: float = Field(default=5.0, gt=0)
    """The largest norm of the gradient."""
    validation_share: float = Field(default=0.15, ge=0, le=0.5)
    """Share of the training images that chooses the best epoch, unless the data set marks them itself;
    0 trains on all and keeps the last."""
    patience: int = Field(default=0, ge=0)
    """Epochs without a better validation score after which a run ends; 0: never."""
    from_weights: bool = False
    """Whether to go on from the weights beside the plugin."""
    amp: Literal["auto", "off", "bfloat16", "float16"] = "auto"
    """The type of matrix products and convolutions in training; auto: bfloat16 on CUDA, off on a CPU."""
    channels_last: bool = True
    """Whether images and weights lie in memory pixel by pixel, which is faster for convolutions."""
    deterministic: bool = False
    """Whether operators without a repeatable algorithm are refused."""
    seed: int = 0
    """Of weights, order, augmentation and split; the same seed repeats a run on the same machine."""
    seeds: int = Field(default=1, ge=1)
    """How many runs: `seed` and the ones that follow, on one split; the best by validation is kept."""
    device: str = "auto"
    """auto, cpu or cuda."""

    @field_validator("device")
    @classmethod
    def _is_there(cls, name: str) -> str:
        try:
            torch.empty(0, device=device_of(name))
        except (RuntimeError, AssertionError) as error:  # the latter: a build of torch without CUDA
            raise ValueError(f"cannot compute on it: {str(error).splitlines()[0]}") from error
        return name

    @field_validator("teachers")
    @classmethod
    def _are_absolute(cls, paths: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(path.absolute() for path in paths)


class SeedResult(BaseModel):
    """What one of several runs gave."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    """Its seed."""
    best_epoch: int
    """The epoch of its best averaged weights, from 1; 0: none was better than what it went on from."""
    macro_f1: float | None
    """On the validation images; None without them."""
    epochs: int
    """How many it went through."""


class TrainReport(BaseModel):
    """What a training run gave."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: str
    """The file that was written."""
    sha256: str
    """Its digest."""
    replaced: str | None
    """Where the weights lie that were in its place before; None if there were none, or the same."""
    best_epoch: int
    """The epoch whose averaged weights were kept, from 1; 0: none was better than what it went on from."""
    macro_f1: float | None
    """On the validation images; None without them."""
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
    """Whether it was stopped before its last epoch."""
    settings: TrainSettings
    """What it was run with."""


def device_of(name: str) -> torch.device:
    """Return the device of a name; `auto` is CUDA where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
