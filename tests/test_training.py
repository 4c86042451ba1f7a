"""The recipe: what it writes, that it repeats, how it stops, what it says to a model it cannot train."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors import safe_open
from torch import nn

from starter import training
from starter.dataset import Dataset, Labelled, open_dataset
from starter.discovery import discover_one
from starter.errors import Code, ParticipantError, StarterError, UsageError
from starter.plugins import load_plugin
from starter.training import TrainReport, TrainSettings, train

NETWORK = '''
import torch
from torch import nn
from torchvision.transforms import v2
from starter import Submission, hookimpl

class Network(nn.Module):
    """A convolution, a batch norm as slow as MobileNetV3's, a linear layer."""
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, momentum=0.01), nn.ReLU())
        self.head = nn.Linear(8, 3)
    def forward(self, images):
        features = self.features(images).mean((2, 3))
        return self.head(features)

@hookimpl
def starter_submission(competition):
    return Submission(
        model=Network(),
        transforms=[v2.Resize((8, 8)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
                    v2.Normalize(competition.mean, competition.std)],
    )
'''
WritePlugin = Callable[..., Path]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Such small tensors are faster without a second thread, by far where the processor is shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def silent(line: str) -> None:
    del line


def settings(**changes: Any) -> TrainSettings:
    return TrainSettings(**{"epochs": 20, "batch_size": 8, "lr": 0.02} | changes)


def run(path: Path, dataset: Dataset, *, log: Callable[[str], None] = silent, **changes: Any) -> TrainReport:
    return train(discover_one(path), dataset, settings(**changes), log=log)


def refusal(path: Path, dataset: Dataset, **changes: Any) -> StarterError:
    with pytest.raises(StarterError) as refused:
        run(path, dataset, **changes)
    return refused.value


def test_the_weights_are_written_load_again_and_beat_chance(
    write_plugin: WritePlugin, easy_dataset: Dataset
) -> None:
    """Chance is a macro F1 of 1/3; the classes differ in their strongest channel."""
    path = write_plugin("mine", text=NETWORK)
    report = run(path, easy_dataset)
    loaded = load_plugin(discover_one(path), easy_dataset.competition)
    with safe_open(report.weights, "pt") as file:
        made_by = json.loads(file.metadata()["training"])

    assert report.macro_f1 is not None
    assert report.macro_f1 > 0.8
    assert Path(report.weights) == path.with_suffix(".safetensors")
    assert loaded.weights_loaded
    assert report.num_train + report.num_validation == len(easy_dataset.train())
    assert not list(path.parent.glob("*.partial"))
    assert made_by["epoch"] == report.best_epoch
    assert made_by["validation_macro_f1"] == report.macro_f1
    assert TrainSettings(**made_by["settings"]) == report.settings


def test_the_validation_score_is_that_of_the_weights_that_were_written(
    write_plugin: WritePlugin, easy_dataset: Dataset
) -> None:
    path = write_plugin("mine", text=NETWORK)
    report = run(path, easy_dataset, epochs=4)
    again = run(path, easy_dataset, epochs=1, lr=1e-12, from_weights=True)

    assert again.best_epoch == 0
    assert again.macro_f1 == report.macro_f1
    assert again.sha256 == report.sha256


def test_the_same_seed_gives_the_same_bytes(write_plugin: WritePlugin, easy_dataset: Dataset) -> None:
    path = write_plugin("mine", text=NETWORK)
    digests = [run(path, easy_dataset, epochs=2, seed=seed).sha256 for seed in (5, 5, 6)]

    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_each_epoch_is_one_line_and_the_rate_rises_and_falls(
    write_plugin: WritePlugin, easy_dataset: Dataset
) -> None:
    lines: list[str] = []
    run(write_plugin("mine", text=NETWORK), easy_dataset, log=lines.append, epochs=10, warmup=0.3)
    rates = [float(rate) for rate in re.findall(r"lr ([\d.]+)", "\n".join(lines))]

    assert re.fullmatch(r"\d+ training and \d+ validation images, on (cpu|cuda)", lines[0])
    assert len(lines) == 1 + 10
    assert "validation loss" in lines[1]
    assert rates.index(max(rates)) == 3  # three tenths of ten epochs
    assert rates == sorted(rates[:4]) + sorted(rates[4:], reverse=True)


def test_progress_counts_every_step(write_plugin: WritePlugin, easy_dataset: Dataset) -> None:
    seen: list[tuple[int, int]] = []
    path = write_plugin("mine", text=NETWORK)
    report = train(
        discover_one(path), easy_dataset, settings(epochs=2), log=silent, progress=lambda *at: seen.append(at)
    )
    steps = 2 * (report.num_train // 8)

    assert seen == [(i + 1, steps) for i in range(steps)]


class Interrupt:
    """Presses Ctrl-C at a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, done: int, total: int) -> None:
        del total
        if done == self.step:
            raise KeyboardInterrupt


def test_an_interruption_keeps_the_best_weights(write_plugin: WritePlugin, easy_dataset: Dataset) -> None:
    path, lines = write_plugin("mine", text=NETWORK), list[str]()
    report = train(discover_one(path), easy_dataset, settings(), log=lines.append, progress=Interrupt(step=5))

    assert report.interrupted
    assert report.best_epoch == 1  # of three steps
    assert load_plugin(discover_one(path), easy_dataset.competition).weights_loaded
    assert "kept" in lines[-1]


def test_an_interruption_in_the_first_epoch_leaves_what_was_there(
    write_plugin: WritePlugin, easy_dataset: Dataset
) -> None:
    path = write_plugin("mine", text=NETWORK)
    path.with_suffix(".safetensors").write_bytes(b"before")

    with pytest.raises(KeyboardInterrupt):
        train(discover_one(path), easy_dataset, settings(), log=silent, progress=Interrupt(step=1))
    assert path.with_suffix(".safetensors").read_bytes() == b"before"


def test_all_images_can_be_trained_on(write_plugin: WritePlugin, easy_dataset: Dataset) -> None:
    report = run(write_plugin("mine", text=NETWORK), easy_dataset, epochs=3, validation_share=0)

    assert report.num_train == len(easy_dataset.train())
    assert (report.num_validation, report.macro_f1, report.best_epoch) == (0, None, 3)


@pytest.mark.parametrize("change", [{"optimizer": "sgd", "lr": 0.3}, {"balance": "inverse"}, {"augment": 0}])
def test_the_other_switches_learn_as_well(
    write_plugin: WritePlugin, easy_dataset: Dataset, change: dict[str, Any]
) -> None:
    report = run(write_plugin("mine", text=NETWORK), easy_dataset, **change)
    assert report.macro_f1 is not None
    assert report.macro_f1 > 0.8


def test_to_go_on_from_weights_there_must_be_some(write_plugin: WritePlugin, easy_dataset: Dataset) -> None:
    error = refusal(write_plugin("mine", text=NETWORK), easy_dataset, from_weights=True)
    assert error.problems[0].code is Code.WEIGHTS_MISSING


RETURNS = "        return self.head(features)"


@pytest.mark.parametrize(
    ("line", "code", "got"),
    [
        ("        return self.head(features)[:, :2]", Code.WRONG_OUTPUT, "float32 (1, 2)"),
        ("        return (self.head(features),) * 2 if self.training else self.head(features)",
         Code.WRONG_OUTPUT, "tuple"),
        ("        assert not self.training, 'not made for this'\n" + RETURNS, Code.MODEL_RAISED,
         "not made for this"),
        ("        return self.head(features).detach()", Code.MODEL_RAISED, "grad"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_trained_is_told_why(
    write_plugin: WritePlugin, easy_dataset: Dataset, line: str, code: Code, got: str
) -> None:
    path = write_plugin("mine", (RETURNS, line), text=NETWORK)
    (found,) = refusal(path, easy_dataset).problems

    assert found.code is code
    assert got in found.got
    assert not path.with_suffix(".safetensors").exists()


def test_a_model_without_parameters_is_told_so(write_plugin: WritePlugin, easy_dataset: Dataset) -> None:
    frozen = ("model=Network()", "model=Network().requires_grad_(False)")
    (found,) = refusal(write_plugin("mine", frozen, text=NETWORK), easy_dataset).problems
    assert found.code is Code.BAD_FIELD


def test_a_loss_that_is_no_number_ends_the_run(write_plugin: WritePlugin, easy_dataset: Dataset) -> None:
    error = refusal(write_plugin("mine", text=NETWORK), easy_dataset, lr=1e30, warmup=0)

    assert isinstance(error, ParticipantError)
    assert error.problems[0].code is Code.DIVERGED
    assert "--lr" in error.problems[0].hint


def test_all_broken_images_are_named(
    write_plugin: WritePlugin, easy_dataset: Dataset, tmp_path: Path
) -> None:
    root = tmp_path / "broken"
    shutil.copytree(easy_dataset.root, root)
    # Training images 0 and 4; a validation share of 0 puts them into one list.
    (root / "images" / "000.jpg").write_bytes(b"no image")
    (root / "images" / "004.jpg").unlink()
    error = refusal(write_plugin("mine", text=NETWORK), open_dataset(root), validation_share=0)

    assert isinstance(error, UsageError)
    assert [(p.code, p.where) for p in error.problems] == [
        (Code.BROKEN_IMAGES, "000.jpg"),
        (Code.BROKEN_IMAGES, "004.jpg"),
    ]


def rows(*labels: int, group_size: int = 1) -> list[Labelled]:
    return [Labelled(f"{i}.jpg", label, f"photo {i // group_size}") for i, label in enumerate(labels)]


def test_a_photograph_is_never_on_both_sides_and_classes_keep_their_shares() -> None:
    labels = [0] * 280 + [1] * 140
    kept, held_out = training.split(rows(*labels, group_size=4), settings())

    assert not {row.group for row in kept} & {row.group for row in held_out}
    assert len(kept) + len(held_out) == 420
    assert len(held_out) == 60  # a seventh, the nearest to 0.15
    assert sum(row.label == 0 for row in held_out) == 40


def test_images_that_the_data_set_marks_are_the_validation_images() -> None:
    marked = [replace(row, is_validation=i % 5 == 0) for i, row in enumerate(rows(*[0, 1] * 20))]

    kept, held_out = training.split(marked, settings())
    assert (len(kept), len(held_out)) == (32, 8)
    assert all(row.is_validation for row in held_out)
    assert training.split(marked, settings(validation_share=0)) == (marked, [])


def test_a_class_with_one_image_does_not_stop_the_split() -> None:
    kept, held_out = training.split(rows(*[0] * 20, 1), settings())
    assert len(kept) + len(held_out) == 21


def test_too_few_images_to_part_are_told_so() -> None:
    with pytest.raises(UsageError, match="3 images, no two of a class"):
        training.split(rows(0, 1, 2), settings())


IMAGES = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_without_strength_and_flip_images_stay_as_they_are() -> None:
    assert torch.equal(training.augment(IMAGES, 0, flip=False), IMAGES)


def test_about_half_of_the_images_are_mirrored() -> None:
    torch.manual_seed(0)
    out = training.augment(IMAGES, 0, flip=True)
    same = (out == IMAGES).flatten(1).all(1)
    mirrored = (out == IMAGES.flip(3)).flatten(1).all(1)

    assert (same | mirrored).all()
    assert 20 < mirrored.sum() < 44


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("strength", [0.3, 1, 3])
def test_augmented_images_vary_and_stay_finite(strength: float, channels: int) -> None:
    torch.manual_seed(0)
    images = IMAGES[:, :channels]
    out = training.augment(images, strength, flip=True)

    assert out.shape == images.shape
    assert out.isfinite().all()
    assert not (out == images).flatten(1).all(1).any()


def test_class_weights_are_one_on_average_over_the_images() -> None:
    """Four images of class 0 and one of class 1; class 2 is absent.

    Inverse: 1/4 and 1, times 5/2, since 4 * 1/4 + 1 * 1 = 2. Square root: 1/2 and 1, times 5/3.
    """
    labels = torch.tensor([0, 0, 0, 0, 1])

    assert training.class_weights(labels, 2, "none").tolist() == [1, 1]
    assert training.class_weights(labels, 2, "inverse").tolist() == [0.625, 2.5]
    torch.testing.assert_close(training.class_weights(labels, 2, "sqrt"), torch.tensor([5 / 6, 5 / 3]))
    assert training.class_weights(labels, 3, "sqrt").isfinite().all()


def test_norms_and_biases_do_not_decay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    optimizer = training._optimizer(model, settings())
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}

    assert [decays[id(p)] > 0 for p in model.parameters()] == [True, False, False, False]


@pytest.mark.parametrize(
    "wrong", [{"device": "gpu"}, {"device": "cuda:99"}, {"lr": 0}, {"epochs": 0}, {"epoch": 3}]
)
def test_a_setting_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainSettings(**wrong)


def test_every_setting_has_its_line_of_text() -> None:
    source = Path(training.__file__).read_text(encoding="utf-8")
    for name in TrainSettings.model_fields:
        assert re.search(rf'^    {name}: .*\n    """', source, re.MULTILINE), name
