"""The training recipe of `starter train`, top to bottom: one file, to be read and changed.

AdamW or SGD, warm-up and cosine, label smoothing, class balance, an exponential
moving average of the weights, light augmentation on tensors. The images are decoded
and transformed once and kept in memory. The best weights by validation macro F1 go
beside the plugin as safetensors. Measured: the packaged baseline reaches the F1 in
baseline/reference.json in the time told in baseline/README.md, on two CPU cores.
"""

import hashlib
import json
import math
import random
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, field_validator
from safetensors.torch import save_file
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from starter import pipeline, transforms
from starter.dataset import Dataset, Labelled
from starter.discovery import Candidate
from starter.errors import (
    Code,
    ParticipantError,
    Problem,
    UsageError,
    participant_error,
    problem,
    usage_error,
)
from starter.export import probe_model
from starter.image_store import ImageError
from starter.plugins import describe_error, load_plugin, own_line
from starter.scoring import macro_f1


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
    ema_decay: float = Field(default=0.995, ge=0, lt=1)
    """How slowly the averaged weights follow; the averaged weights are what is kept."""
    augment: float = Field(default=1.0, ge=0, le=3)
    """Strength of shift, scale, rotation, brightness, contrast and erasing; 0 switches them off."""
    flip: bool = True
    """Whether images are mirrored left to right."""
    clip_norm: float = Field(default=5.0, gt=0)
    """The largest norm of the gradient."""
    validation_share: float = Field(default=0.15, ge=0, le=0.5)
    """Share of the training images that chooses the best epoch, unless the data set marks them itself;
    0 trains on all and keeps the last."""
    from_weights: bool = False
    """Whether to go on from the weights beside the plugin."""
    seed: int = 0
    """Of weights' order, augmentation and split; the same seed repeats a run on the same machine."""
    device: str = "auto"
    """auto, cpu or cuda."""

    @field_validator("device")
    @classmethod
    def _is_there(cls, name: str) -> str:
        try:
            torch.empty(0, device=_device(name))
        except (RuntimeError, AssertionError) as error:  # the latter: a build of torch without CUDA
            raise ValueError(f"cannot compute on it: {str(error).splitlines()[0]}") from error
        return name


class TrainReport(BaseModel):
    """What a training run gave."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: str
    """The file that was written."""
    sha256: str
    """Its digest."""
    best_epoch: int
    """The epoch whose averaged weights were kept, from 1; 0: none was better than what it went on from."""
    macro_f1: float | None
    """On the validation images; None without them."""
    num_train: int
    """Images trained on."""
    num_validation: int
    """Images validated on."""
    seconds: float
    """Wall-clock time."""
    images_per_second: float
    """Training images, augmentation and validation included."""
    interrupted: bool
    """Whether it was stopped before its last epoch."""
    settings: TrainSettings
    """What it was run with."""


class Split(BaseModel):
    """Images in memory: float (images, C, H, W) as the plugin's transforms give them, and labels."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    images: Tensor
    labels: Tensor


def train(
    candidate: Candidate,
    dataset: Dataset,
    settings: TrainSettings,
    *,
    log: Callable[[str], None] = print,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> TrainReport:
    """Train a plugin's model and write its weights beside it.

    Args:
        candidate: the plugin; its code is run in this process.
        dataset: its training images; the evaluation images are not touched.
        settings: the switches.
        log: takes one line for each epoch.
        progress: takes the number of finished steps and of all steps.

    Raises:
        ParticipantError: the plugin is not valid, cannot be trained, or its loss is no longer a number.
        UsageError: image files are broken, or there are too few images to part.
        KeyboardInterrupt: stopped before there were any weights to keep.
    """
    started = time.monotonic()
    _seed(settings.seed)
    plugin = load_plugin(candidate, dataset.competition, load_weights=settings.from_weights)
    if settings.from_weights and not plugin.weights_loaded:
        raise participant_error(
            Code.WEIGHTS_MISSING, where=str(plugin.weights_path), got="nothing to go on from"
        )
    records = transforms.describe(plugin.submission.transforms)
    shape, num_classes = pipeline.input_shape(records), len(dataset.info.classes)
    problems = probe_model(plugin.submission.model, shape, num_classes, candidate)
    problems = problems or _training_problems(plugin.submission.model, shape, num_classes, candidate)
    if problems:
        raise ParticipantError(problems)
    rows_train, rows_validation = split(dataset.train(), settings)
    training, validation = (_load(dataset, rows, records) for rows in (rows_train, rows_validation))
    device = _device(settings.device)
    model = _placed(plugin.submission.model, device)
    fit = _Fit(model, training, validation, dataset.info.classes, settings, plugin.weights_path)
    log(f"{len(rows_train):,} training and {len(rows_validation):,} validation images, on {device}")
    interrupted = False
    try:
        fit.run(log, progress)
    except KeyboardInterrupt:
        if fit.best_epoch is None:
            raise
        interrupted = True
        log("stopped; the best weights so far are kept")
    assert fit.best_epoch is not None
    seconds = time.monotonic() - started
    return TrainReport(
        weights=str(plugin.weights_path),
        sha256=hashlib.sha256(plugin.weights_path.read_bytes()).hexdigest(),
        best_epoch=fit.best_epoch,
        macro_f1=fit.best_f1 if len(rows_validation) else None,
        num_train=len(rows_train),
        num_validation=len(rows_validation),
        seconds=round(seconds, 1),
        images_per_second=round(fit.images_seen / seconds, 1),
        interrupted=interrupted,
        settings=settings,
    )


class _Fit:
    """One run: the model, its average, and the best that was seen."""

    def __init__(
        self,
        model: nn.Module,
        training: Split,
        validation: Split,
        class_names: Sequence[str],
        settings: TrainSettings,
        weights_path: Path,
    ) -> None:
        self.model, self.training, self.validation = model, training, validation
        self.class_names, self.settings, self.weights_path = class_names, settings, weights_path
        self.best_epoch: int | None = None
        self.best_f1, self.images_seen = -1.0, 0
        self.device = next(model.parameters()).device
        self.batch_size = min(settings.batch_size, len(training.labels))
        self.steps_per_epoch = len(training.labels) // self.batch_size
        self.optimizer = _optimizer(model, settings)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._lr_factor)
        self.loss = nn.CrossEntropyLoss(
            weight=class_weights(training.labels, len(class_names), settings.balance).to(self.device),
            label_smoothing=settings.label_smoothing,
        )
        forget = 10 / (settings.epochs * self.steps_per_epoch)
        _quicken_norms(model, forget)
        ema = _warm_ema(min(settings.ema_decay, 1 - min(1.0, forget)))
        self.average = AveragedModel(model, multi_avg_fn=ema, use_buffers=True)

    def run(self, log: Callable[[str], None], progress: Callable[[int, int], None]) -> None:
        """Train for all epochs; after each, validate the average and keep it if it is the best."""
        if self.settings.from_weights and len(self.validation.labels):
            self.best_epoch, (_, self.best_f1) = 0, self._validate()
            log(f"the weights it goes on from: validation macro F1 {self.best_f1:.4f}")
        for epoch in range(1, self.settings.epochs + 1):
            started, lr = time.monotonic(), self.schedule.get_last_lr()[0]
            loss = self._one_epoch(epoch, progress)
            text, f1, better = f"loss {loss:.4f}", None, True
            if len(self.validation.labels):
                validation_loss, f1 = self._validate()
                better = f1 > self.best_f1
                text += f"  validation loss {validation_loss:.4f} macro F1 {f1:.4f}{' *' if better else ''}"
            if better:
                self._save(epoch, f1)
                self.best_epoch, self.best_f1 = epoch, -1.0 if f1 is None else f1
            seconds = time.monotonic() - started
            speed = f"{seconds:.1f} s, {self.steps_per_epoch * self.batch_size / seconds:,.0f} images/s"
            log(f"epoch {epoch:3d}/{self.settings.epochs}  lr {lr:.5f}  {text}  {speed}")

    def _one_epoch(self, epoch: int, progress: Callable[[int, int], None]) -> float:
        self.model.train()
        total = 0.0
        for step, (images, labels) in enumerate(self._batches()):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                loss = self.loss(self.model(images), labels)
            if not torch.isfinite(loss):
                raise participant_error(
                    Code.DIVERGED, where=f"epoch {epoch}, step {step + 1}", got=f"a loss of {loss.item()}"
                )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
            self.optimizer.step()
            self.schedule.step()
            self.average.update_parameters(self.model)
            total += loss.item()
            self.images_seen += len(labels)
            progress(
                (epoch - 1) * self.steps_per_epoch + step + 1, self.settings.epochs * self.steps_per_epoch
            )
        return total / self.steps_per_epoch

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.training.labels))[: self.steps_per_epoch * self.batch_size]
        for chosen in torch.split(order, self.batch_size):
            images = self.training.images[chosen].to(self.device).float()
            images = augment(images, self.settings.augment, flip=self.settings.flip)
            yield (
                images.contiguous(memory_format=torch.channels_last),
                self.training.labels[chosen].to(self.device),
            )

    def _validate(self) -> tuple[float, float]:
        """Return the average's loss (unweighted, unsmoothed) and macro F1 on the validation images."""
        self.average.eval()
        with torch.inference_mode():
            logits = torch.cat(
                [
                    self.average(b.to(self.device).float()).cpu()
                    for b in torch.split(self.validation.images, 128)
                ]
            )
        loss = F.cross_entropy(logits, self.validation.labels).item()
        predictions = logits.argmax(1).tolist()
        return loss, macro_f1(self.validation.labels.tolist(), predictions, self.class_names).macro

    def _save(self, epoch: int, f1: float | None) -> None:
        """Write the average's weights; a kill leaves the old file or the new one, never half of one."""
        state = self.average.module.state_dict()
        tensors = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
        made_by = {"epoch": epoch, "validation_macro_f1": f1, "settings": self.settings.model_dump()}
        self.weights_path.parent.mkdir(parents=True, exist_ok=True)
        # One entry only: safetensors writes several in an order that differs from run to run.
        partial = self.weights_path.with_suffix(".partial")
        save_file(tensors, partial, metadata={"training": json.dumps(made_by)})
        partial.replace(self.weights_path)

    def _lr_factor(self, step: int) -> float:
        total = self.settings.epochs * self.steps_per_epoch
        warm = max(1, round(self.settings.warmup * total))
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def augment(images: Tensor, strength: float, *, flip: bool) -> Tensor:
    """Vary a batch: float (batch, C, H, W) in, the same out.

    At strength 1: shift 10 %, scale 0.75 to 1.2, rotation 12 degrees, contrast and
    brightness 25 % of a standard deviation, one erased box of up to a quarter of each
    side in a quarter of the images.
    """
    batch = len(images)
    mirror = torch.where(torch.rand(batch) < 0.5, -1.0, 1.0) if flip else torch.ones(batch)
    if strength:
        angle = math.radians(12) * strength * (2 * torch.rand(batch) - 1)
        zoom = torch.exp(strength * (0.5 * torch.rand(batch) - 0.2))
        shift = 0.2 * strength * (2 * torch.rand(batch, 2) - 1)
        cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        rows = (
            torch.stack([cos * mirror, -sin, shift[:, 0]], 1),
            torch.stack([sin * mirror, cos, shift[:, 1]], 1),
        )
        grid = F.affine_grid(torch.stack(rows, 1).to(images.device), list(images.shape), align_corners=False)
        images = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
        shape = (batch, 1, 1, 1)
        gain = 1 + 0.25 * strength * (2 * torch.rand(shape, device=images.device) - 1)
        offset = 0.25 * strength * (2 * torch.rand(shape, device=images.device) - 1)
        return _erase(images * gain + offset, 0.25 * strength)
    return torch.where(mirror.to(images.device)[:, None, None, None] < 0, images.flip(3), images)


def _erase(images: Tensor, share: float) -> Tensor:
    """Blank one box of up to a quarter of each side in a share of the images."""
    _, _, height, width = images.shape
    for i in (torch.rand(len(images)) < share).nonzero().flatten().tolist():
        h, w = (1 + int(torch.randint(max(1, side // 4), (1,))) for side in (height, width))
        y, x = int(torch.randint(height - h + 1, (1,))), int(torch.randint(width - w + 1, (1,)))
        images[i, :, y : y + h, x : x + w] = 0
    return images


def class_weights(labels: Tensor, num_classes: int, balance: str) -> Tensor:
    """Return float (num_classes,), 1 on average over the images; absent classes get 1."""
    power = {"none": 0.0, "sqrt": 0.5, "inverse": 1.0}[balance]
    counts = torch.bincount(labels, minlength=num_classes).float()
    weights = torch.where(counts > 0, counts.clamp(min=1).pow(-power), 1.0)
    return weights * (counts.sum() / (weights * counts).sum())


def split(rows: Sequence[Labelled], settings: TrainSettings) -> tuple[list[Labelled], list[Labelled]]:
    """Part the training rows into training and validation, by class, a group never in both.

    Rows that the data set marks for validation are taken as they are; else they are drawn.
    """
    if settings.validation_share == 0:
        return list(rows), []
    if any(row.is_validation for row in rows):
        return [r for r in rows if not r.is_validation], [r for r in rows if r.is_validation]
    most = max(Counter(row.label for row in rows).values())
    if most < 2:
        raise usage_error(
            Code.BAD_DATASET,
            where="train.csv",
            got=f"{len(rows)} images, no two of a class",
            expected="more images, or a validation share of 0",
        )
    num_folds = min(round(1 / settings.validation_share), most)
    folds = StratifiedGroupKFold(num_folds, shuffle=True, random_state=settings.seed)
    groups = [row.group or row.image_id for row in rows]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # it may be missing on one side
        kept, held_out = next(iter(folds.split(np.zeros(len(rows)), [row.label for row in rows], groups)))
    return [rows[i] for i in kept], [rows[i] for i in held_out]


def _training_problems(
    model: nn.Module, shape: tuple[int, int, int], num_classes: int, candidate: Candidate
) -> list[Problem]:
    """Try one step on a copy; return what is wrong with the model in training mode."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        expected, where = "a model with parameters to be trained", f"{candidate.file.name}: Submission.model"
        return [problem(Code.BAD_FIELD, where=where, expected=expected, got="no parameter, or all frozen")]
    with torch.random.fork_rng():
        try:
            output = deepcopy(model).train()(torch.randn(2, *shape))
            if isinstance(output, Tensor) and output.shape == (2, num_classes):
                torch.autograd.backward(output.sum())
                return []
        except Exception as error:  # noqa: BLE001 - forward is the participant's: it may raise anything
            got = f"{describe_error(error)}, in training mode"
            return [problem(Code.MODEL_RAISED, where=own_line(error, candidate), got=got)]
    shown = str(tuple(output.shape)) if isinstance(output, Tensor) else type(output).__name__
    return [
        problem(
            Code.WRONG_OUTPUT,
            where=f"{type(model).__name__}.forward, in training mode",
            expected=f"a tensor of shape (2, {num_classes})",
            got=shown,
            hint="Switch auxiliary outputs off, for example aux_logits=False.",
        )
    ]


def _placed(model: nn.Module, device: torch.device) -> nn.Module:
    """Move the model to the device, in the memory format that is fast for convolutions."""
    has_5d = any(tensor.dim() == 5 for tensor in model.state_dict().values())  # channels-last is for 4-d
    return model.to(device) if has_5d else model.to(device).to(memory_format=torch.channels_last)


def _load(dataset: Dataset, rows: Sequence[Labelled], records: Sequence[transforms.TransformRecord]) -> Split:
    """Decode and transform every image once."""
    transform, shape = pipeline.build(records), pipeline.input_shape(records)
    images = torch.empty(len(rows), *shape, dtype=torch.half)
    broken: list[Problem] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # handing such small pieces to threads takes longer than the work
    for i, row in enumerate(rows):
        try:
            images[i] = transform(dataset.images.open(row.image_id))
        except ImageError as error:
            broken.append(problem(Code.BROKEN_IMAGES, where=error.image_id, got=error.reason))
    torch.set_num_threads(threads)
    if broken:
        raise UsageError(broken)
    return Split(images=images, labels=torch.tensor([row.label for row in rows], dtype=torch.long))


def _optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=settings.lr)


def _warm_ema(decay: float) -> Callable[..., None]:
    """Average fast at first: with a fixed decay the random first weights would stay in for long."""

    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        now = min(decay, (1 + int(count)) / (10 + int(count)))
        get_ema_multi_avg_fn(now)(averaged, current, count)  # type: ignore[no-untyped-call]

    return update


def _quicken_norms(model: nn.Module, share: float) -> None:
    """Let batch norms follow fast enough for a short run: torchvision's MobileNetV3 takes 1 % of a step."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum is not None:  # noqa: SLF001 - the only name for all of them
            module.momentum = min(1.0, max(module.momentum, share))


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - for participants' code that uses the global generator
    torch.manual_seed(seed)
