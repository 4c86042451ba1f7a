"""`starter train`: an option for each field of the recipe's settings, and the result of a run."""

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_origin

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from starter.cli.common import (
    DataOption,
    JsonOption,
    RulesOption,
    can_be_made,
    err,
    open_data,
    out,
    progress,
    write_json,
)
from starter.contract.competition import load_competition
from starter.contract.submissions import discover_one
from starter.contract.system.processors import available
from starter.contract.text import typed
from starter.recipes.training.settings import TrainReport, TrainSettings
from starter.report.terminal import print_line


def _is_repeatable(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is tuple


def _option_name(name: str) -> str:
    """Return a field's parameter name; that of a repeatable option is singular."""
    return name.removesuffix("s") if _is_repeatable(TrainSettings.model_fields[name]) else name


def _option(name: str, field: FieldInfo) -> inspect.Parameter:
    """Return a field as a Typer option with its name, default and help; the field checks the range."""
    option_name, default = _option_name(name), field.default
    kind: object = type(default)
    spelled = f"--{option_name.replace('_', '-')}"
    declared = [spelled] if default is False or _is_repeatable(field) else []  # no --no-from-weights
    if _is_repeatable(field):
        default, kind = None, list[Path] | None
    assert field.description is not None
    text = " ".join(field.description.partition("\n\n")[0].split())
    annotated: Any = Annotated  # mypy takes [] for an annotation, and here it is a call
    return inspect.Parameter(
        option_name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=annotated[kind, typer.Option(*declared, help=text)],
    )


def _settings(switches: Mapping[str, object]) -> TrainSettings:
    """Return the settings of a command line.

    Raises:
        typer.BadParameter: a value is outside its field's range.
    """
    values = {name: switches[_option_name(name)] for name in TrainSettings.model_fields}
    values = {name: () if value is None else value for name, value in values.items()}  # repeatable ones
    try:
        return TrainSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        spelled = _option_name(str(first["loc"][0])).replace("_", "-")
        raise typer.BadParameter(
            f"{first['msg']}, got {first['input']!r}", param_hint=f"--{spelled}"
        ) from error


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's `settings` parameter by an option for each field."""
    fields = TrainSettings.model_fields
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name == "settings":
            parameters += [_option(name, field) for name, field in fields.items()]
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def call(**given: object) -> None:
        switches = {_option_name(name): given.pop(_option_name(name)) for name in fields}
        command(**given, settings=_settings(switches))

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return call


@_with_options
def train(
    path: Annotated[Path, typer.Argument(help="The plugin; its weights are written next to it.")],
    *,
    data: DataOption = None,
    competition: RulesOption = None,
    settings: TrainSettings,
    resume: Annotated[bool, typer.Option("--resume", help="Resume a killed run.")] = False,
    tensorboard: Annotated[
        Path | None, typer.Option(callback=can_be_made, help="Folder for TensorBoard files.")
    ] = None,
    json_to: JsonOption = None,
) -> None:
    """Train your plugin's model. Its code runs here, without a sandbox."""
    import torch

    from starter.recipes.training.loop import train as run

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
            on_progress=tick,
        )
    if json_to is not None:
        write_json(json_to, report.model_dump(mode="json"))
    if report.replaced is not None:
        print_line(err, f"the previous weights are kept: {report.replaced}")
    if json_to != "-":
        print_line(out, _summary(report))
        print_line(err, f"next: starter score {typed(path)}")


def _summary(report: TrainReport) -> str:
    """Return the weights, their epoch and their score in one line."""
    shown = "" if report.macro_f1 is None else f", validation macro F1 {report.macro_f1:.4f}"
    if report.macro_f1_mean is not None and report.macro_f1_std is not None:
        spread = f"{report.macro_f1_mean:.4f} +- {report.macro_f1_std:.4f}"
        shown += f" (the best of {len(report.runs)} seeds: {spread})"
    return f"{report.weights}  epoch {report.best_epoch}{shown}, {report.seconds:.0f} s"
