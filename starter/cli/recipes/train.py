"""`starter train`: the recipe's switches, one to one, and what a run gave."""

from pathlib import Path
from typing import Annotated

import typer

from starter.cli.common import (
    DataOption,
    JsonOption,
    RulesOption,
    can_be_made,
    err,
    open_data,
    out,
    progress,
    typed,
    write_json,
)
from starter.contract.competition import load_competition
from starter.contract.submissions import discover_one
from starter.contract.system.processors import available
from starter.report.terminal import print_line

_NOT_SETTINGS = frozenset({"path", "data", "competition", "json_to", "resume", "tensorboard", "teacher"})


def train(  # noqa: PLR0913, PLR0917 - the recipe's switches, one to one
    path: Annotated[Path, typer.Argument(help="The plugin; its weights are written beside it.")],
    data: DataOption = None,
    competition: RulesOption = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 60,
    batch_size: Annotated[int, typer.Option(help="Images per step.")] = 64,
    optimizer: Annotated[str, typer.Option(help="adamw or sgd.")] = "adamw",
    lr: Annotated[float, typer.Option(help="The highest learning rate; try 0.3 with sgd.")] = 3e-3,
    weight_decay: Annotated[float, typer.Option(help="On weights, not on norms and biases.")] = 0.05,
    warmup: Annotated[float, typer.Option(help="Share of the steps in which the rate rises.")] = 0.05,
    label_smoothing: Annotated[
        float, typer.Option(help="Share of the target spread over all classes.")
    ] = 0.1,
    balance: Annotated[str, typer.Option(help="Class weights in the loss: none, sqrt or inverse.")] = "sqrt",
    sampling: Annotated[
        str, typer.Option(help="shuffle: each image once an epoch; balanced: each class equally often.")
    ] = "shuffle",
    ema_decay: Annotated[float, typer.Option(help="How slowly the averaged weights follow.")] = 0.995,
    augment: Annotated[float, typer.Option(help="Strength of the augmentation, 0 to 3.")] = 1.0,
    flip: Annotated[bool, typer.Option(help="Mirror images left to right.")] = True,
    policy: Annotated[
        str, typer.Option(help="A policy on top: none, randaugment or trivialaugment.")
    ] = "none",
    mixup: Annotated[float, typer.Option(help="Mix pairs of images; try 0.2.")] = 0.0,
    cutmix: Annotated[float, typer.Option(help="Paste boxes of other images; try 1.")] = 0.0,
    teacher: Annotated[
        list[Path] | None, typer.Option(help="A trained plugin to learn from; repeatable.")
    ] = None,
    teacher_weight: Annotated[
        float, typer.Option(help="Share of the loss that compares with the teachers.")
    ] = 0.7,
    temperature: Annotated[float, typer.Option(help="How soft the compared answers are.")] = 2.0,
    teacher_views: Annotated[
        int, typer.Option(help="Ask teachers about this many views of each image, once; 0: at every step.")
    ] = 0,
    clip_norm: Annotated[float, typer.Option(help="The largest norm of the gradient.")] = 5.0,
    validation_share: Annotated[
        float, typer.Option(help="Share that chooses the best epoch; 0: none.")
    ] = 0.15,
    patience: Annotated[
        int, typer.Option(help="End after this many epochs without a better one; 0: never.")
    ] = 0,
    from_weights: Annotated[
        bool, typer.Option("--from-weights", help="Go on from the weights there.")
    ] = False,
    amp: Annotated[
        str, typer.Option(help="Mixed precision: auto (on CUDA), off, bfloat16 or float16.")
    ] = "auto",
    channels_last: Annotated[bool, typer.Option(help="Keep images pixel by pixel in memory.")] = True,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Refuse operators that do not repeat themselves.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The same seed repeats a run on the same machine.")] = 0,
    seeds: Annotated[
        int, typer.Option(help="Train that many seeds and keep the best; tells mean and spread.")
    ] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was killed.")] = False,
    tensorboard: Annotated[
        Path | None, typer.Option(callback=can_be_made, help="Folder for TensorBoard's files.")
    ] = None,
    json_to: JsonOption = None,
) -> None:
    """Train a plugin's model; this runs its code here, so only your own."""
    switches = {k: v for k, v in locals().items() if k not in _NOT_SETTINGS}
    import torch
    from pydantic import ValidationError

    from starter.recipes.training.loop import TrainSettings
    from starter.recipes.training.loop import train as run

    try:
        settings = TrainSettings(**switches, teachers=tuple(teacher or ()))
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise typer.BadParameter(
            f"{first['msg']}, got {first['input']!r}", param_hint=f"--{option}"
        ) from error
    dataset = open_data(data, load_competition(competition))
    torch.set_num_threads(available().threads)
    with progress("training") as tick:
        report = run(
            discover_one(path),
            dataset,
            settings,
            resume=resume,
            tensorboard=tensorboard,
            log=lambda line: print_line(err, line),
            progress=tick,
        )
    if json_to is not None:
        write_json(json_to, report.model_dump(mode="json"))
    if report.replaced is not None:
        print_line(err, f"the weights before are kept: {report.replaced}")
    if json_to == "-":
        return
    shown = "" if report.macro_f1 is None else f", validation macro F1 {report.macro_f1:.4f}"
    if report.macro_f1_mean is not None and report.macro_f1_std is not None:
        spread = f"{report.macro_f1_mean:.4f} +- {report.macro_f1_std:.4f}"
        shown += f" (the best of {len(report.runs)} seeds: {spread})"
    print_line(out, f"{report.weights}  epoch {report.best_epoch}{shown}, {report.seconds:.0f} s")
    print_line(err, f"next: starter score {typed(path)}")
