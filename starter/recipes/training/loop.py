"""The training recipe of `starter train`, to read from top to bottom and to change.

The images are decoded and transformed once and kept in memory; at the end of the run, the
averaged weights with the best validation macro F1 are written next to the plugin as safetensors.
The options are in settings.py; docs/training.md measures what each is worth. Measured: the packaged
baseline reaches the F1 in baseline/reference.json in the time given in baseline/README.md.
"""

import hashlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from starter.contract.errors import Code, ParticipantError, participant_error
from starter.contract.submissions import SubmissionSource
from starter.contract.system.extras import require_extra
from starter.data.dataset import Dataset
from starter.plugin.load import LoadedPlugin, load_plugin_apart
from starter.plugin.prepare import probe_model
from starter.recipes.training.augment import Policy, apply_view, draw_view
from starter.recipes.training.checkpoint import (
    Best,
    CheckpointSaver,
    RunFolder,
    Scalars,
    Stateful,
    repeatable,
    seed_everything,
    tensorboard_scalars,
)
from starter.recipes.training.data import class_weights, epoch_order, load, split
from starter.recipes.training.distillation import Teachers, distillation_loss
from starter.recipes.training.ema import ModelEma, quicken_norms
from starter.recipes.training.mixup import Mixing
from starter.recipes.training.optim import amp_type, make_optimizer, make_schedule, place_model
from starter.recipes.training.settings import SeedResult, TrainReport, TrainSettings, device_of
from starter.recipes.training.validate import training_problems, validate
from starter.submission import pipeline, transforms

Log = Callable[[str], None]
"""A function that takes a line of text."""
Progress = Callable[[int, int], None]
"""A function that takes the number of finished steps and of all steps."""


def train(
    source: SubmissionSource,
    dataset: Dataset,
    settings: TrainSettings,
    *,
    resume: bool = False,
    tensorboard: Path | None = None,
    log: Log = print,
    on_progress: Progress = lambda *_: None,
) -> TrainReport:
    """Train a plugin's model and write its weights next to it.

    Args:
        source: the plugin; its code runs in this process.
        dataset: the training images; the evaluation images are not read.
        settings: the options.
        resume: whether to resume from the checkpoints of a killed run, if there are any.
        tensorboard: a folder for TensorBoard's files.
        log: takes one line for each epoch.
        on_progress: called after each step with the number of finished steps and of all steps.

    Raises:
        ParticipantError: the plugin is not valid, cannot be trained, or its loss is no longer a number.
        UsageError: image files are broken, there are too few images to split, or the checkpoint
            belongs to another run.
        KeyboardInterrupt: the run was stopped before there were weights to keep.
    """
    started = time.monotonic()
    if tensorboard is not None:
        require_extra("tensorboard", "--tensorboard")
    with repeatable(enabled=settings.deterministic):
        session = _Session(source, dataset, settings)
        fits: list[_Fit] = []
        interrupted = False
        for place in range(settings.seeds):
            fit = session.fit(settings.seed + place)
            fits.append(fit)
            if settings.seeds > 1:
                log(f"seed {fit.settings.seed}, {place + 1} of {settings.seeds}")
            if place == 0:
                sizes = f"{len(fit.training.labels):,} training and {len(fit.validation.labels):,}"
                log(f"{sizes} validation images, on {fit.device}")
            try:
                with tensorboard_scalars(tensorboard, source.name, fit.settings) as scalars:
                    if not (resume and fit.resumed(log)):
                        fit.begin(log)
                    fit.run(log, _share_of(on_progress, place, settings.seeds), scalars)
            except KeyboardInterrupt:
                if all(f.best.epoch is None for f in fits):
                    raise
                interrupted = True
                log("stopped; the best weights so far are kept")
                break
    return _report(session, fits, settings, interrupted=interrupted, started=started)


class _Session:
    """What all seeds of a call share: the images, the teachers, the folder."""

    def __init__(self, source: SubmissionSource, dataset: Dataset, settings: TrainSettings) -> None:
        self._source, self._dataset, self._settings = source, dataset, settings
        self.device = device_of(settings.device)
        plugin = self._load(settings.seed)
        self.weights_path = plugin.weights_path
        records = transforms.describe(plugin.submission.transforms)
        shape, num_classes = pipeline.input_shape(records), len(dataset.info.classes)
        problems = probe_model(plugin.submission.model, shape, num_classes, source)
        problems = problems or training_problems(plugin.submission.model, shape, num_classes, source)
        if problems:
            raise ParticipantError(problems)
        rows_train, rows_validation = split(dataset.train(), settings.validation_share, settings.seed)
        self.training, self.validation = (
            load(dataset, rows, records) for rows in (rows_train, rows_validation)
        )
        self.folder = RunFolder(source, plugin.weights_path, dataset, settings.teachers)
        self.policy = None if settings.policy == "none" else Policy(settings.policy, records)
        self.teachers = Teachers(dataset, rows_train, settings, self.device) if settings.teachers else None

    def fit(self, seed: int) -> "_Fit":
        """Return a run with a model of its own, whose first weights the seed determines."""
        model = self._load(seed).submission.model
        settings = self._settings.model_copy(update={"seed": seed})
        model = place_model(model, self.device, channels_last=settings.channels_last)
        return _Fit(model, self, self._dataset.info.classes, settings)

    def _load(self, seed: int) -> LoadedPlugin:
        seed_everything(seed)
        from_weights = self._settings.from_weights
        plugin = load_plugin_apart(self._source, self._dataset.competition, load_weights=from_weights)
        if from_weights and not plugin.weights_loaded:
            where = str(plugin.weights_path)
            raise participant_error(Code.WEIGHTS_MISSING, where=where, got="no weights to start from")
        return plugin


class _Fit:
    """One run: the model, its average, and its best weights so far."""

    def __init__(
        self, model: nn.Module, session: _Session, class_names: Sequence[str], settings: TrainSettings
    ) -> None:
        self.model, self.class_names, self.settings = model, class_names, settings
        self.training, self.validation = session.training, session.validation
        self.teachers, self.policy, self.device = session.teachers, session.policy, session.device
        self.best, self.epoch, self.images_seen = Best(), 0, 0
        self.batch_size = min(settings.batch_size, len(self.training.labels))
        self.steps_per_epoch = len(self.training.labels) // self.batch_size
        self.steps = settings.epochs * self.steps_per_epoch
        self.optimizer = make_optimizer(model, settings)
        self.schedule = make_schedule(self.optimizer, self.steps, settings.warmup)
        self.loss = nn.CrossEntropyLoss(
            weight=class_weights(self.training.labels, len(class_names), settings.balance).to(self.device),
            label_smoothing=settings.label_smoothing,
        )
        self.amp = amp_type(settings.amp, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp is torch.float16)
        self.mixing = Mixing(settings.mixup, settings.cutmix) if settings.mixup or settings.cutmix else None
        quicken_norms(model, self.steps)
        self.average = ModelEma(model, self.steps, settings.ema_decay)
        parts: dict[str, Stateful] = {
            "model": model,
            "average": self.average,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "scaler": self.scaler,
        }
        self.saver = CheckpointSaver(session.folder, settings, parts)

    def resumed(self, log: Log) -> bool:
        """Resume from the checkpoint, if there is one; return whether there was."""
        found = self.saver.restore()
        if found is None:
            log("nothing to resume: starting from the beginning")
            return False
        self.epoch, self.best = found
        log(f"resumed after epoch {self.epoch}")
        return True

    def begin(self, log: Log) -> None:
        """Record the F1 of the starting weights: only a better epoch is kept."""
        if self.settings.from_weights and len(self.validation.labels):
            self.best = Best(0, self._validate()[1])
            log(f"starting weights: validation macro F1 {self.best.f1:.4f}")

    def run(self, log: Log, on_progress: Progress, scalars: Scalars) -> None:
        """Train for all epochs; after each, validate the average, note the best, write a checkpoint."""
        while self.epoch < self.settings.epochs and not self._is_stale(log):
            epoch, started, lr = self.epoch + 1, time.monotonic(), self.schedule.get_last_lr()[0]
            values = {"loss/training": self._one_epoch(epoch, on_progress), "lr": float(lr)}
            text = f"loss {values['loss/training']:.4f}"
            if len(self.validation.labels):
                values["loss/validation"], values["macro F1"] = self._validate()
                text += "  validation loss {loss/validation:.4f} macro F1 {macro F1:.4f}".format(**values)
            f1 = values.get("macro F1")
            if f1 is None or f1 > self.best.f1:
                self.best = Best(epoch, -1.0 if f1 is None else f1, self.average.tensors())
                text += "" if f1 is None else " *"
            self.epoch = epoch
            self.saver.save(epoch, self.best)
            seconds = time.monotonic() - started
            speed = self.steps_per_epoch * self.batch_size / seconds
            scalars(epoch, values | {"images per second": speed})
            line = f"epoch {epoch:3d}/{self.settings.epochs}  lr {lr:.5f}  {text}"
            log(f"{line}  {seconds:.1f} s, {speed:,.0f} images/s")

    def result(self) -> SeedResult:
        """Return the result of the run."""
        assert self.best.epoch is not None
        f1 = self.best.f1 if len(self.validation.labels) else None
        return SeedResult(seed=self.settings.seed, best_epoch=self.best.epoch, macro_f1=f1, epochs=self.epoch)

    def _one_epoch(self, epoch: int, on_progress: Progress) -> float:
        self.model.train()
        total = 0.0
        for step, batch in enumerate(self._batches(epoch)):
            with torch.autocast(self.device.type, self.amp, enabled=self.amp is not None):
                loss = self._loss(*batch)
            if not torch.isfinite(loss):
                raise participant_error(
                    Code.DIVERGED, where=f"epoch {epoch}, step {step + 1}", got=f"a loss of {loss.item()}"
                )
            self.optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.schedule.step()
            self.average.update_parameters(self.model)
            total += loss.item()
            self.images_seen += self.batch_size
            on_progress((epoch - 1) * self.steps_per_epoch + step + 1, self.steps)
        return total / self.steps_per_epoch

    def _loss(self, images: Tensor, targets: Tensor, taught: Tensor | None) -> Tensor:
        logits = self.model(images)
        loss: Tensor = self.loss(logits, targets)
        if taught is None:
            return loss
        weight = self.settings.teacher_weight
        return (1 - weight) * loss + weight * distillation_loss(logits, taught, self.settings.temperature)

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Yield augmented images, targets (labels; of mixed images probabilities), the teachers' answers."""
        settings, labels = self.settings, self.training.labels
        fixed = self.teachers.start_epoch(epoch, self.training.images.shape) if self.teachers else None
        order = epoch_order(labels, settings.sampling)[: self.steps_per_epoch * self.batch_size]
        for chosen in torch.split(order, self.batch_size):
            images, targets = self.training.images[chosen].float(), labels[chosen].to(self.device)
            view = (
                draw_view(images.shape, settings.augment, flip=settings.flip, policy=settings.policy)
                if fixed is None
                else fixed.rows(chosen)
            )
            if self.policy is not None:
                images = self.policy(images, view.policy_seeds)
            images = apply_view(images.to(self.device), view)
            taught = self.teachers.probabilities(chosen, view) if self.teachers else None
            if self.mixing is not None:
                targets = F.one_hot(targets, len(self.class_names)).float()
                if taught is None:
                    images, targets = self.mixing(images, targets)
                else:
                    images, targets, taught = self.mixing(images, targets, taught)
            if settings.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            yield images, targets, taught

    def _validate(self) -> tuple[float, float]:
        return validate(self.average, self.validation, self.class_names, self.device)

    def _is_stale(self, log: Log) -> bool:
        patience = self.settings.patience
        if patience == 0 or self.best.epoch is None or self.epoch - self.best.epoch < patience:
            return False
        log(f"no improvement for {patience} epochs: stopped after epoch {self.epoch}")
        return True


def _report(
    session: _Session, fits: Sequence[_Fit], settings: TrainSettings, *, interrupted: bool, started: float
) -> TrainReport:
    """Put the best weights of all seeds in place and return the results of the runs."""
    done = [fit for fit in fits if fit.best.epoch is not None]
    kept = max(done, key=lambda fit: fit.best.f1)
    replaced = None
    if kept.best.tensors is not None:
        made_by = {
            "epoch": kept.best.epoch,
            "validation_macro_f1": kept.result().macro_f1,
            "settings": kept.settings.model_dump(mode="json"),
        }
        replaced = session.folder.install(kept.best.tensors, made_by)
    if not interrupted:
        session.folder.forget()
    results = tuple(fit.result() for fit in done)
    scores = [r.macro_f1 for r in results if r.macro_f1 is not None]
    seconds = time.monotonic() - started
    return TrainReport(
        weights=str(session.weights_path),
        sha256=hashlib.sha256(session.weights_path.read_bytes()).hexdigest(),
        replaced=None if replaced is None else str(replaced),
        best_epoch=kept.result().best_epoch,
        macro_f1=kept.result().macro_f1,
        runs=results,
        macro_f1_mean=statistics.mean(scores) if scores else None,
        macro_f1_std=statistics.stdev(scores) if len(scores) > 1 else None,
        num_train=len(session.training.labels),
        num_validation=len(session.validation.labels),
        seconds=round(seconds, 1),
        images_per_second=round(sum(fit.images_seen for fit in fits) / seconds, 1),
        interrupted=interrupted,
        settings=settings,
    )


def _share_of(on_progress: Progress, place: int, runs: int) -> Progress:
    """Count the steps of one run towards those of all runs."""
    return lambda done, total: on_progress(place * total + done, runs * total)
