"""Teachers: trained plugins whose answers a student learns (Hinton et al. 2015, arXiv:1503.02531).

Each teacher sees the same view of an image as the student, through its own transforms and at
its own resolution. A large teacher costs more than the student's own step; with a fixed number
of views, each answer is computed once and kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from starter.contract.errors import Code, ParticipantError, participant_error
from starter.contract.submissions import discover_one
from starter.data.dataset import Dataset, Labelled
from starter.plugin.load import load_plugin_apart
from starter.plugin.prepare import probe_model
from starter.recipes.training.augment import Policy, View, apply_view, draw_view
from starter.recipes.training.data import load
from starter.recipes.training.optim import amp_type
from starter.recipes.training.settings import TrainSettings
from starter.submission import pipeline, transforms

_CHUNK = 128


@dataclass(frozen=True)
class _Teacher:
    model: nn.Module
    images: Tensor
    policy: Policy | None


class Teachers:
    """The teachers' answers for the training images.

    Args:
        dataset: the data set of the images.
        rows: the training images, in the student's order.
        settings: the options; its `teachers` are imported here.
        device: the device to compute on.

    Raises:
        ParticipantError: a teacher is not valid, or has no weights.
    """

    def __init__(
        self, dataset: Dataset, rows: Sequence[Labelled], settings: TrainSettings, device: torch.device
    ) -> None:
        self._settings, self._device = settings, device
        self._num_classes = len(dataset.info.classes)
        loaded: dict[tuple[str, ...], Tensor] = {}
        self._teachers: list[_Teacher] = []
        for path in settings.teachers:
            source = discover_one(path)
            plugin = load_plugin_apart(source, dataset.competition)
            if not plugin.weights_loaded:
                raise participant_error(
                    Code.WEIGHTS_MISSING, where=str(plugin.weights_path), got="a teacher without weights"
                )
            model = plugin.submission.model
            records = transforms.describe(plugin.submission.transforms)
            if problems := probe_model(model, pipeline.input_shape(records), self._num_classes, source):
                raise ParticipantError(problems)
            key = tuple(record.model_dump_json() for record in records)
            if key not in loaded:
                loaded[key] = load(dataset, rows, records).images
            policy = None if settings.policy == "none" else Policy(settings.policy, records)
            placed = model.to(device, memory_format=torch.channels_last)
            self._teachers.append(_Teacher(placed, loaded[key], policy))
        self._view: View | None = None
        self._known: dict[int, Tensor] = {}
        self._answers: Tensor | None = None

    def start_epoch(self, epoch: int, shape: Sequence[int]) -> View | None:
        """Return the epoch's view of all images (images, C, H, W); None: draw a view at each step."""
        settings = self._settings
        if not settings.teacher_views:
            return None
        number = (epoch - 1) % settings.teacher_views
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed * 10_007 + number)
            view = draw_view(shape, settings.augment, flip=settings.flip, policy=settings.policy)
        if number not in self._known:
            # In fixed chunks, so that a resumed run gets the same answers to the last bit.
            chunks = torch.split(torch.arange(shape[0]), _CHUNK)
            self._known[number] = torch.cat([self._ask(chunk, view.rows(chunk)).cpu() for chunk in chunks])
        self._answers = self._known[number]
        return view

    def probabilities(self, chosen: Tensor, view: View) -> Tensor:
        """Return the mean of the teachers' softened answers, float (batch, classes), on the device."""
        if self._answers is not None:
            return self._answers[chosen].to(self._device)
        return self._ask(chosen, view)

    def _ask(self, chosen: Tensor, view: View) -> Tensor:
        total = torch.zeros(len(chosen), self._num_classes, device=self._device)
        kind = amp_type(self._settings.amp, self._device)
        with torch.no_grad(), torch.autocast(self._device.type, kind, enabled=kind is not None):
            for teacher in self._teachers:
                images = teacher.images[chosen].float()
                if teacher.policy is not None:
                    images = teacher.policy(images, view.policy_seeds)
                images = apply_view(images.to(self._device), view)
                logits = teacher.model(images.contiguous(memory_format=torch.channels_last)).float()
                total += F.softmax(logits / self._settings.temperature, dim=1)
        return total / len(self._teachers)


def distillation_loss(logits: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Return the divergence of the softened answers from `wanted`, times the temperature squared.

    Softened gradients shrink with the square of the temperature; the factor compensates for that.
    """
    softened = F.log_softmax(logits.float() / temperature, dim=1)
    return temperature**2 * F.kl_div(softened, wanted, reduction="batchmean")
