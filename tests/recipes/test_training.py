"""The recipe: what it writes, that it repeats, how it stops, what it says to a model it cannot train."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import GOOD
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from usual import long

from starter.contract.errors import Code, ParticipantError, StarterError, UsageError
from starter.contract.submissions import discover_one
from starter.data.dataset import Dataset, Labelled, open_dataset
from starter.plugin.load import load_plugin, load_plugin_apart
from starter.recipes.training import augment
from starter.recipes.training import data as training_data
from starter.recipes.training import optim as optimization
from starter.recipes.training import settings as training_settings
from starter.recipes.training.loop import train
from starter.recipes.training.mixup import Mixing
from starter.recipes.training.settings import TrainReport, TrainSettings

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
    assert Path(report.weights).stat().st_mode == path.stat().st_mode
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
        discover_one(path),
        easy_dataset,
        settings(epochs=2),
        log=silent,
        on_progress=lambda *at: seen.append(at),
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
    report = train(
        discover_one(path), easy_dataset, settings(), log=lines.append, on_progress=Interrupt(step=5)
    )

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
        train(discover_one(path), easy_dataset, settings(), log=silent, on_progress=Interrupt(step=1))
    assert path.with_suffix(".safetensors").read_bytes() == b"before"


def test_all_images_can_be_trained_on(write_plugin: WritePlugin, easy_dataset: Dataset) -> None:
    report = run(write_plugin("mine", text=NETWORK), easy_dataset, epochs=3, validation_share=0)

    assert report.num_train == len(easy_dataset.train())
    assert (report.num_validation, report.macro_f1, report.best_epoch) == (0, None, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "sgd", "lr": 0.3},
        {"balance": "inverse"},
        {"sampling": "balanced"},
        {"augment": 0},
        {"amp": "bfloat16"},
        {"channels_last": False},
        {"deterministic": True},
        {"mixup": 0.2},
        {"cutmix": 0.2},
        {"mixup": 0.2, "cutmix": 0.2, "epochs": 30},
    ],
)
def test_the_other_switches_learn_as_well(
    write_plugin: WritePlugin, easy_dataset: Dataset, change: dict[str, Any]
) -> None:
    report = run(write_plugin("mine", text=NETWORK), easy_dataset, **change)
    assert report.macro_f1 is not None
    assert report.macro_f1 > 0.8


def test_to_go_on_from_weights_there_must_be_some(write_plugin: WritePlugin, easy_dataset: Dataset) -> None:
    error = refusal(write_plugin("mine", text=NETWORK), easy_dataset, from_weights=True)
    assert error.problems[0].code is Code.WEIGHTS_MISSING


def tensors(report: TrainReport) -> dict[str, Tensor]:
    return load_file(report.weights)


def test_the_weights_before_are_kept_and_only_replaced_at_the_end(
    write_plugin: WritePlugin, easy_dataset: Dataset
) -> None:
    path = write_plugin("mine", text=NETWORK)
    weights = path.with_suffix(".safetensors")
    first = run(path, easy_dataset, epochs=2)
    before = weights.read_bytes()
    during: set[bytes] = set()
    second = train(
        discover_one(path),
        easy_dataset,
        settings(epochs=3, seed=1),
        log=silent,
        on_progress=lambda *_: during.add(weights.read_bytes()),
    )

    assert first.replaced is None
    assert during == {before}
    assert second.replaced is not None
    assert Path(second.replaced).read_bytes() == before
    assert weights.read_bytes() != before


def test_a_run_without_patience_left_ends_early(write_plugin: WritePlugin, easy_dataset: Dataset) -> None:
    """At a rate of nearly 0 nothing gets better than what it goes on from."""
    path = write_plugin("mine", text=NETWORK)
    run(path, easy_dataset, epochs=2)
    lines: list[str] = []
    report = run(path, easy_dataset, from_weights=True, lr=1e-12, patience=3, log=lines.append)

    assert report.runs[0].epochs == 3
    assert "no improvement for 3 epochs" in lines[-1]


def test_the_best_of_several_seeds_is_kept_with_mean_and_spread(
    write_plugin: WritePlugin, easy_dataset: Dataset
) -> None:
    """Two numbers have the sample standard deviation of half their distance times the root of two."""
    path = write_plugin("mine", text=NETWORK)
    report = run(path, easy_dataset, epochs=4, seed=3, seeds=2)
    scores = [result.macro_f1 or 0 for result in report.runs]

    assert [result.seed for result in report.runs] == [3, 4]
    assert report.macro_f1 == max(scores)
    assert report.macro_f1_mean == pytest.approx(sum(scores) / 2)
    assert report.macro_f1_std == pytest.approx(abs(scores[0] - scores[1]) / 2**0.5)
    alone = run(path, easy_dataset, epochs=4, seed=3)
    assert alone.runs[0] == report.runs[0]


@pytest.mark.slow
def test_a_killed_run_is_resumed_to_the_same_weights(
    write_plugin: WritePlugin, easy_dataset: Dataset
) -> None:
    """The process is killed after its second epoch, as by a machine that is switched off."""
    whole = run(write_plugin("whole", text=NETWORK), easy_dataset, epochs=40, seeds=2, mixup=0.2)
    path = write_plugin("killed", text=NETWORK)
    (path.parent / "competition.toml").write_text('name = "mine"\n', encoding="utf-8")
    switches = ("--epochs", "40", "--batch-size", "8", "--lr", "0.02", "--mixup", "0.2", "--seeds", "2")
    command = [sys.executable, "-m", "starter", "train", path, "--data", easy_dataset.root, *switches]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    checkpoint = path.parent / ".starter" / "killed" / "seed-0.pt"
    options: dict[str, Any] = {"cwd": path.parent, "env": environment, "text": True}
    with subprocess.Popen(command, stderr=subprocess.PIPE, **options) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("epoch   2/40"):
                process.kill()
                break
    assert process.returncode == -signal.SIGKILL
    assert checkpoint.is_file()
    assert not path.with_suffix(".safetensors").exists()
    lines: list[str] = []
    resumed = train(
        discover_one(path),
        easy_dataset,
        settings(epochs=40, seeds=2, mixup=0.2),
        resume=True,
        log=lines.append,
    )

    assert any(re.fullmatch(r"resumed after epoch [23]?[0-9]", line) for line in lines)
    assert resumed.runs == whole.runs
    assert all(torch.equal(value, tensors(whole)[key]) for key, value in tensors(resumed).items())
    assert not checkpoint.exists()


def test_a_run_of_other_settings_cannot_be_resumed(write_plugin: WritePlugin, easy_dataset: Dataset) -> None:
    path = write_plugin("mine", text=NETWORK)
    train(discover_one(path), easy_dataset, settings(), log=silent, on_progress=Interrupt(step=5))
    with pytest.raises(UsageError, match=r"U502 .* lr 0\.02, now 0\.01"):
        train(discover_one(path), easy_dataset, settings(lr=0.01), log=silent, resume=True)
    path.write_text(NETWORK + "# changed\n", encoding="utf-8")
    with pytest.raises(UsageError, match="plugin, teachers and data"):
        train(discover_one(path), easy_dataset, settings(), log=silent, resume=True)


def test_without_a_checkpoint_resume_begins_anew(write_plugin: WritePlugin, easy_dataset: Dataset) -> None:
    path, lines = write_plugin("mine", text=NETWORK), list[str]()
    train(discover_one(path), easy_dataset, settings(epochs=1), log=lines.append, resume=True)
    assert "nothing to resume: starting from the beginning" in lines


def test_a_run_of_another_teacher_cannot_be_resumed(
    write_plugin: WritePlugin, easy_dataset: Dataset, teacher: Path
) -> None:
    path, learnt = write_plugin("student", text=NETWORK), settings(teachers=(teacher,))
    train(discover_one(path), easy_dataset, learnt, log=silent, on_progress=Interrupt(step=5))
    weights = teacher.with_suffix(".safetensors")
    save_file({key: -value for key, value in load_file(weights).items()}, weights)
    with pytest.raises(UsageError, match=r"U502 .* plugin, teachers and data"):
        train(discover_one(path), easy_dataset, learnt, log=silent, resume=True)


TEACHER = GOOD.replace("(8, 8)", "(12, 12)").replace("torch.eye(3)", "20 * torch.eye(3)")
"""Exactly right, at another resolution than the student's."""


@pytest.fixture
def teacher(write_plugin: WritePlugin, easy_dataset: Dataset) -> Path:
    path = write_plugin("teacher", text=TEACHER)
    model = load_plugin(discover_one(path), easy_dataset.competition).submission.model
    save_file(model.state_dict(), path.with_suffix(".safetensors"))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("views", [long(0), 2])
@pytest.mark.parametrize("policy", [long("none"), "trivialaugment"])
def test_a_student_learns_from_teachers_alone(
    write_plugin: WritePlugin, easy_dataset: Dataset, teacher: Path, views: int, policy: str
) -> None:
    """With a teacher weight of 1 the labels are not in the loss at all."""
    path = write_plugin("student", text=NETWORK)
    learnt = {"teachers": (teacher, teacher), "teacher_weight": 1, "temperature": 1}
    report = run(path, easy_dataset, teacher_views=views, policy=policy, epochs=30, **learnt)

    assert report.macro_f1 is not None
    assert report.macro_f1 > 0.8


def test_a_teacher_needs_weights(write_plugin: WritePlugin, easy_dataset: Dataset) -> None:
    untrained = write_plugin("untrained", text=NETWORK)
    (found,) = refusal(write_plugin("mine", text=NETWORK), easy_dataset, teachers=(untrained,)).problems

    assert found.code is Code.WEIGHTS_MISSING
    assert found.where.endswith("untrained.safetensors")


def test_two_plugins_may_have_modules_of_one_name(easy_dataset: Dataset, tmp_path: Path) -> None:
    """Each names itself by a text in its network.py."""
    names = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        text = "from network import NAME\n" + GOOD.replace("model=Network()", "name=NAME, model=Network()")
        (folder / "plugin.py").write_text(text, encoding="utf-8")
        (folder / "network.py").write_text(f"NAME = {name!r}\n", encoding="utf-8")
        names.append(load_plugin_apart(discover_one(folder), easy_dataset.competition).submission.name)

    assert names == ["one", "two"]
    assert not any(folder in sys.path for folder in (str(tmp_path / "one"), str(tmp_path / "two")))


def test_figures_go_to_tensorboard(write_plugin: WritePlugin, easy_dataset: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    train(
        discover_one(write_plugin("mine", text=NETWORK)),
        easy_dataset,
        settings(epochs=3),
        log=silent,
        tensorboard=folder,
    )
    (events,) = folder.rglob("events.*")
    assert events.parent.name == "mine-seed0"
    for tag in (b"loss/training", b"loss/validation", b"macro F1", b"images per second"):
        assert events.read_bytes().count(tag) == 3


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
        (Code.BROKEN_IMAGES, "data set broken: 000.jpg"),
        (Code.BROKEN_IMAGES, "data set broken: 004.jpg"),
    ]


def rows(*labels: int, group_size: int = 1) -> list[Labelled]:
    return [Labelled(f"{i}.jpg", label, f"photo {i // group_size}") for i, label in enumerate(labels)]


def test_a_photograph_is_never_on_both_sides_and_classes_keep_their_shares() -> None:
    labels = [0] * 280 + [1] * 140
    kept, held_out = training_data.split(rows(*labels, group_size=4), 0.15, seed=0)

    assert not {row.group for row in kept} & {row.group for row in held_out}
    assert len(kept) + len(held_out) == 420
    assert len(held_out) == 60  # a seventh, the nearest to 0.15
    assert sum(row.label == 0 for row in held_out) == 40


def test_images_that_the_data_set_marks_are_the_validation_images() -> None:
    marked = [replace(row, is_validation=i % 5 == 0) for i, row in enumerate(rows(*[0, 1] * 20))]

    kept, held_out = training_data.split(marked, 0.15, seed=0)
    assert (len(kept), len(held_out)) == (32, 8)
    assert all(row.is_validation for row in held_out)
    assert training_data.split(marked, 0, seed=0) == (marked, [])


def test_a_class_with_one_image_does_not_stop_the_split() -> None:
    kept, held_out = training_data.split(rows(*[0] * 20, 1), 0.15, seed=0)
    assert len(kept) + len(held_out) == 21


def test_too_few_images_to_part_are_told_so() -> None:
    with pytest.raises(UsageError, match="3 images, no two of the same class"):
        training_data.split(rows(0, 1, 2), 0.15, seed=0)


def varied(images: Tensor, strength: float, *, flip: bool) -> Tensor:
    return augment.apply_view(images, augment.draw_view(images.shape, strength, flip=flip))


IMAGES = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))
SMOOTH = torch.nn.functional.interpolate(IMAGES[:, :, :3, :3], size=(16, 16), mode="bilinear")


def test_without_strength_and_flip_images_stay_as_they_are() -> None:
    assert torch.equal(varied(IMAGES, 0, flip=False), IMAGES)


def test_about_half_of_the_images_are_mirrored() -> None:
    torch.manual_seed(0)
    out = varied(IMAGES, 0, flip=True)
    same = (out == IMAGES).flatten(1).all(1)
    mirrored = (out == IMAGES.flip(3)).flatten(1).all(1)

    assert (same | mirrored).all()
    assert 20 < mirrored.sum() < 44


@pytest.mark.parametrize("name", ["randaugment", "trivialaugment"])
def test_a_policy_draws_the_same_for_one_seed_at_any_resolution(name: str) -> None:
    """Images of one colour differ by the drawn colours only, whatever their size is."""
    policy = augment.Policy(name, [])
    seeds = torch.arange(24)
    small, large = (
        policy(torch.full((24, 3, side, side), 0.4), seeds)[:, :, side // 2, side // 2] for side in (16, 32)
    )

    torch.testing.assert_close(small, large)
    assert len(set(small.flatten().tolist())) > 2


def test_a_view_is_the_same_at_another_resolution() -> None:
    """Enlarged before or after, an image comes out nearly the same; the wrong view would not."""
    torch.manual_seed(0)
    view = augment.draw_view(SMOOTH.shape, 1, flip=True)
    enlarge = torch.nn.Upsample(scale_factor=2, mode="bilinear")
    after, before = enlarge(augment.apply_view(SMOOTH, view)), augment.apply_view(enlarge(SMOOTH), view)

    assert (after - before).abs().mean() < 0.02
    assert (after - before.roll(1, 0)).abs().mean() > 0.1


def test_a_pasted_box_counts_by_its_area() -> None:
    """Image i is all i and of class i; what is its own is where it is still i."""
    torch.manual_seed(1)
    images = torch.arange(8.0)[:, None, None, None].expand(8, 1, 10, 10)
    mixed, targets, answers = Mixing(mixup=0, cutmix=1)(images, torch.eye(8), 2 * torch.eye(8))
    own = (mixed == images).float().mean((1, 2, 3))

    assert 0 < own[0] < 1
    torch.testing.assert_close(targets.diag(), own)
    torch.testing.assert_close(targets.sum(1), torch.ones(8))
    torch.testing.assert_close(answers, 2 * targets)


def test_blended_images_and_targets_have_the_same_shares() -> None:
    """Image i is all i, so what is said of it must add up to its value."""
    torch.manual_seed(0)
    images = torch.arange(8.0)[:, None, None, None].expand(8, 1, 4, 4)
    mixed, targets = Mixing(mixup=1, cutmix=0)(images, torch.eye(8))

    assert (mixed[3] == mixed[3, 0, 0, 0]).all()
    torch.testing.assert_close(mixed[:, 0, 0, 0], targets @ torch.arange(8.0))
    assert (targets > 0).sum(1).tolist() == [2] * 8


def test_with_both_each_mixes_about_half_of_the_batches() -> None:
    """A blended image of one colour keeps one colour, a pasted box makes it two."""
    torch.manual_seed(0)
    images = torch.arange(2.0)[:, None, None, None].expand(2, 1, 16, 16)
    mixing = Mixing(mixup=1, cutmix=1)
    firsts = [mixing(images, torch.eye(2))[0][0] for _ in range(200)]
    blended = [bool((first == first[0, 0, 0]).all()) for first in firsts]

    assert 70 < sum(blended) < 140


def test_balanced_sampling_shows_every_class_equally_often() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([0] * 900 + [1] * 100)
    order = training_data.epoch_order(labels, "balanced")

    assert len(order) == 1000
    assert 420 < labels[order].sum() < 580


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("strength", [0.3, 1, 3])
def test_augmented_images_vary_and_stay_finite(strength: float, channels: int) -> None:
    torch.manual_seed(0)
    images = IMAGES[:, :channels]
    out = varied(images, strength, flip=True)

    assert out.shape == images.shape
    assert out.isfinite().all()
    assert not (out == images).flatten(1).all(1).any()


def test_class_weights_are_one_on_average_over_the_images() -> None:
    """Four images of class 0 and one of class 1; class 2 is absent.

    Inverse: 1/4 and 1, times 5/2, since 4 * 1/4 + 1 * 1 = 2. Square root: 1/2 and 1, times 5/3.
    """
    labels = torch.tensor([0, 0, 0, 0, 1])

    assert training_data.class_weights(labels, 2, "none").tolist() == [1, 1]
    assert training_data.class_weights(labels, 2, "inverse").tolist() == [0.625, 2.5]
    torch.testing.assert_close(training_data.class_weights(labels, 2, "sqrt"), torch.tensor([5 / 6, 5 / 3]))
    assert training_data.class_weights(labels, 3, "sqrt").isfinite().all()


def test_norms_and_biases_do_not_decay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    optimizer = optimization.make_optimizer(model, settings())
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}

    assert [decays[id(p)] > 0 for p in model.parameters()] == [True, False, False, False]


@pytest.mark.parametrize(
    "wrong", [{"device": "gpu"}, {"device": "cuda:99"}, {"lr": 0}, {"epochs": 0}, {"epoch": 3}]
)
def test_a_setting_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainSettings(**wrong)


def test_every_setting_has_its_line_of_text() -> None:
    source = Path(training_settings.__file__).read_text(encoding="utf-8")
    for name in TrainSettings.model_fields:
        assert re.search(rf'^    {name}: .*\n    """', source, re.MULTILINE), name
