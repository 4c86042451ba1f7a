"""The options that several `starter data` commands have: records, each field of which is an option."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from starter.cli.common import can_be_made
from starter.data.options import CropOptions, Description, Orientation, Shares

Result = TypeVar("Result")

Out = Annotated[Path, typer.Option("--out", callback=can_be_made, help="Folder to create.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same split or drawing.")]
MappingOption = Annotated[
    Path | None,
    typer.Option(
        "--mapping", help="TOML file that maps categories to classes; included: `taco-6`, `taco-9`."
    ),
]


@dataclass(frozen=True)
class CropCommand:
    """How boxes are cut."""

    min_size: Annotated[
        int, typer.Option(min=1, help="Skip boxes with a side shorter than this, in pixels.")
    ] = CropOptions.min_size
    margin: Annotated[
        float, typer.Option(min=0, help="Context around a box, as a share of its longer side.")
    ] = CropOptions.margin
    max_side: Annotated[
        int | None, typer.Option(min=1, help="Scale crops down to this longer side, in pixels.")
    ] = CropOptions.max_side
    quality: Annotated[int, typer.Option(min=1, max=100, help="JPEG quality.")] = CropOptions.quality

    orientation: Annotated[
        Orientation,
        typer.Option(help="How to turn pictures whose shape fits their EXIF orientation both ways."),
    ] = CropOptions.orientation
    strict: Annotated[bool, typer.Option("--strict", help="Reject a file with any bad annotation.")] = (
        CropOptions.strict
    )

    @property
    def options(self) -> CropOptions:
        """What crop_dataset takes."""
        return CropOptions(**vars(self))


@dataclass(frozen=True)
class DatasetCommand:
    """How a data set is split, stored and described."""

    test_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the images used for evaluation.")
    ] = Shares.test
    public_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the evaluation images that are Public.")
    ] = Shares.public
    validation_share: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of the training images to mark for validation; 0: none."),
    ] = Shares.validation
    near_duplicates: Annotated[
        bool, typer.Option(help="Keep near-duplicate pictures on one side of the split.")
    ] = True
    seed: Seed = Shares.seed
    zip_images: Annotated[bool, typer.Option("--zip", help="Put the images into a single images.zip.")] = (
        False
    )
    name: Annotated[str, typer.Option(help="The data set's name.")] = Description.name
    version: Annotated[str, typer.Option(help="The data set's version.")] = Description.version
    licence: Annotated[str, typer.Option(help="Licence of the images.")] = Description.licence
    source: Annotated[str, typer.Option(help="Where the images come from.")] = ""

    @property
    def shares(self) -> Shares:
        """How the images are shared out."""
        return Shares(self.test_share, self.public_share, self.validation_share, self.seed)

    def description(self, made_by: str) -> Description:
        """Return what the command says of the data set; `made_by` is the command."""
        return Description(self.name, (), self.version, self.licence, self.source, (made_by,))


def with_options(command: Callable[..., Result]) -> Callable[..., Result]:
    """Give a command one option for each field of the records among its parameters.

    typer reads a function's signature: the one returned has the fields in the record's place.
    """
    signature = inspect.signature(command, eval_str=True)
    records = {
        name: inspect.signature(parameter.annotation, eval_str=True).parameters
        for name, parameter in signature.parameters.items()
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation)
    }

    @functools.wraps(command)
    def call(**values: object) -> Result:
        for name, options in records.items():
            record = signature.parameters[name].annotation
            values[name] = record(**{option: values.pop(option) for option in options})
        return command(**values)

    options = [
        option.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in signature.parameters.items()
        for option in records.get(name, {name: parameter}).values()
    ]
    call.__signature__ = signature.replace(parameters=options)  # type: ignore[attr-defined]
    call.__annotations__ = {option.name: option.annotation for option in options}
    return call
