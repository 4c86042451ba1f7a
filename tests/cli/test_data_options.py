"""Records whose fields are options of the command line."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from starter.cli.data.options import CropCommand, DatasetCommand, with_options
from starter.data.options import CropOptions, Description, Shares


@dataclass(frozen=True)
class Place:
    """Two options."""

    city: Annotated[str, typer.Option(help="Where it is.")]
    floor: Annotated[int, typer.Option("--storey", min=0, help="How high.")] = 3


def run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    seen = []

    @app.command()
    @with_options
    def command(name: str, *, loud: bool = False, place: Place, last: int = 1) -> None:
        """Say it."""
        seen.append((name, loud, place, last))

    result = CliRunner().invoke(app, arguments)
    return result.exit_code, str(seen[0]) if seen else result.output


def test_the_fields_of_a_record_are_options() -> None:
    assert run("a", "--city", "Seoul", "--storey", "0", "--loud") == (
        0,
        str(("a", True, Place("Seoul", 0), 1)),
    )
    assert run("a", "--city", "Seoul") == (0, str(("a", False, Place("Seoul", 3), 1)))


@pytest.mark.parametrize("wrong", [("--storey", "2"), ("--city", "Seoul", "--storey", "-1")])
def test_what_a_field_demands_is_demanded(wrong: tuple[str, ...]) -> None:
    code, told = run("a", *wrong)
    assert code == 2
    assert "Missing option" in told or "greater than or equal to 0" in told


def test_they_stand_in_the_help_where_the_record_stands() -> None:
    _, told = run("--help")
    assert told.index("--loud") < told.index("--city") < told.index("--storey") < told.index("--last")
    assert "Say it." in told
    assert "Where it is." in told


def test_two_parameters_of_one_name_are_no_command() -> None:
    def command(city: str, place: Place) -> None:
        """Nothing."""

    with pytest.raises(ValueError, match="duplicate parameter name: 'city'"):
        with_options(command)


def test_without_options_a_data_set_is_made_as_by_the_library() -> None:
    assert DatasetCommand().shares == Shares()
    assert DatasetCommand().description("x") == Description(source="", made_by=("x",))
    assert CropCommand().options == CropOptions()
