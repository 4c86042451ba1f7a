"""The command `starter pack`: a zip to submit. app.py registers it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from starter.cli.common import JsonOption, RulesOption, can_be_made, err, out, write_json
from starter.contract.competition import load_competition
from starter.contract.errors import Code, ParticipantError, usage_error
from starter.contract.submissions import Kind, discover_one
from starter.contract.text import inline
from starter.report.terminal import print_line


def pack(
    path: Annotated[Path, typer.Argument(help="The submission: NAME.py or a folder.")],
    out_path: Annotated[
        Path | None,
        typer.Option("--out", callback=can_be_made, help="Zip to write; default: NAME.zip in this folder."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be packed; write nothing.")
    ] = False,
    allow_secret: Annotated[
        list[str] | None, typer.Option(help="Pack this file although it seems to hold a secret; repeatable.")
    ] = None,
    competition: RulesOption = None,
    json_to: JsonOption = None,
) -> None:
    """Pack a submission into a zip and show what it contains."""
    from starter.submission.packing import choose, manifest_of, write_zip

    rules = load_competition(competition)
    source = discover_one(path)
    if source.kind is Kind.ENTRY_POINT:
        raise usage_error(Code.NO_SUCH_PATH, where=str(path), got="an installed package")
    target = out_path or Path(f"{source.name}.zip")
    content = choose(source, rules.limits, allowed=allow_secret or ())
    if json_to != "-":
        _preview(content.files, content.left_out)
    if content.problems:
        raise ParticipantError(content.problems)
    if dry_run:
        manifest = manifest_of(source, content.files)
    else:
        manifest = write_zip(source, content, target, rules.limits)
    if json_to is not None:
        record = {"zip": None if dry_run else str(target), "left_out": content.left_out}
        write_json(json_to, record | {"manifest": manifest.model_dump(mode="json")})
    if json_to == "-":
        return
    print_line(out)
    if dry_run:
        print_line(err, "nothing was written: --dry-run")
    else:
        print_line(out, f"{target}  {target.stat().st_size:,} bytes  {manifest.submission}")
        print_line(err, f"next: submit {target}; the organizer's reader has accepted it")


def _preview(files: dict[str, Path], left_out: dict[str, str]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    table.add_column(style="dim")
    for name, path in sorted(files.items()):
        table.add_row(f"{path.stat().st_size:,}", Text(inline(name)), "")
    for name, reason in sorted(left_out.items()):
        table.add_row("-", Text(inline(name), style="dim"), reason)
    out.print(table)
