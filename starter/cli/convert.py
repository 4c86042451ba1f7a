"""The command `starter convert`: weights of other tools as a safetensors file. app.py registers it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from starter.cli.common import RulesOption, can_be_made, err, out
from starter.contract.competition import Limits, load_competition
from starter.contract.errors import Code, usage_error
from starter.contract.text import inline, typed
from starter.report.terminal import print_line


def convert(
    path: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="A checkpoint from torch.save, or a safetensors file to correct.",
        ),
    ],
    out_path: Annotated[
        Path | None,
        typer.Option(
            "--out", callback=can_be_made, help="File to write; default: the same name with .safetensors."
        ),
    ] = None,
    entry: Annotated[
        str | None, typer.Option("--entry", help="State dict to convert if the file holds several.")
    ] = None,
    strip: Annotated[str, typer.Option("--strip", help="Prefix to remove from all names.")] = "",
    competition: RulesOption = None,
) -> None:
    """Convert the weights of a checkpoint to a safetensors file."""
    from starter.evaluation.runner.converter import converted

    target = out_path or path.with_suffix(".safetensors")
    if target.is_dir() or not target.absolute().parent.is_dir():
        raise typer.BadParameter(f"cannot write {target}: it is a folder, or its folder does not exist")
    if out_path is None and target.exists():
        again = typed("starter", "convert", path, "--out", target)
        raise usage_error(Code.TARGET_EXISTS, where=str(target), got="a file", hint=f"To replace it: {again}")
    limits = load_competition(competition).limits if competition else Limits()
    reply = converted(path, target, limits, entry=entry, strip=strip)
    if reply.choice:
        choose = typed(
            "starter", "convert", path, *(("--out", out_path) if out_path else ()), "--entry", "NAME"
        )
        told = f"; choose one: {choose}" if "state dicts" in reply.choice else ""
        raise typer.BadParameter(f"{path.name}: {reply.choice}{told}")
    _show(reply.tensors)
    for note in reply.notes:
        print_line(out, inline(note))
    print_line(out, f"{target}  {target.stat().st_size:,} bytes, {len(reply.tensors)} tensors")
    print_line(
        err,
        f'next: Submission(..., weights="{target.name}") in a folder with plugin.py; next to NAME.py, name '
        "it NAME.safetensors. Then: starter validate PLUGIN",
    )


def _show(tensors: tuple[tuple[str, tuple[int, ...], str], ...]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(overflow="fold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    for name, shape, dtype in tensors:
        table.add_row(Text(inline(name)), " x ".join(map(str, shape)) or "-", dtype)
    out.print(table)
