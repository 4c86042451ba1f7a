"""`starter export`: write the counted network as an ONNX or PT2 file, and compare it with the kit."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from starter.cli.common import (
    DataOption,
    OwnIsolationOption,
    RulesOption,
    can_be_made,
    err,
    in_force,
    isolation_for,
    open_data,
    out,
)
from starter.contract.competition import load_competition
from starter.contract.errors import Code, UsageError, usage_error
from starter.contract.submissions import discover_one
from starter.contract.system.extras import require_extra
from starter.contract.system.processors import available
from starter.contract.text import inline, typed
from starter.report.terminal import print_line

if TYPE_CHECKING:
    from starter.recipes.export.export import ExportedFile

_ANY = "dynamic"
_MOST = 1024


def _batch(text: str | None) -> str | None:
    if text not in {None, _ANY} and not (text.isdecimal() and 1 <= int(text) <= _MOST):
        raise typer.BadParameter(f"must be {_ANY} or a number from 1 to {_MOST:,}, not {text!r}")
    return text


def export(  # noqa: PLR0913, PLR0917 - options of the command line
    path: Annotated[Path, typer.Argument(help="The submission: NAME.py or its folder.")],
    onnx: Annotated[
        Path | None,
        typer.Option("--onnx", callback=can_be_made, dir_okay=False, help="Write an ONNX file."),
    ] = None,
    pt2: Annotated[
        Path | None,
        typer.Option(
            "--pt2", callback=can_be_made, dir_okay=False, help="Write a file for torch.export.load."
        ),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            callback=_batch,
            help="Batch size: a number, or dynamic for any. Default: dynamic if possible, else 1.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    data: DataOption = None,
    competition: RulesOption = None,
    isolation: OwnIsolationOption = None,
) -> None:
    """Write the counted network as an ONNX or PT2 file."""
    targets = {kind: target for kind, target in (("onnx", onnx), ("pt2", pt2)) if target is not None}
    _check_targets(path, targets, batch, force=force)
    for module in ("onnx", "onnxscript", "onnxruntime"):
        require_extra(module, "starter export")
    import torch

    from starter.evaluation.evaluate import read_reference
    from starter.recipes.export.counted import count
    from starter.recipes.export.export import export as write
    from starter.recipes.export.export import export_any
    from starter.recipes.export.formats import Format

    rules = load_competition(competition)
    reference = None
    with contextlib.suppress(UsageError):  # only for its cost version
        reference = read_reference(rules.path(rules.baseline))
    rules = in_force(rules, reference)
    torch.set_num_threads(available().threads)
    chosen = isolation_for("export", rules, isolation)
    counted = count(discover_one(path), rules, open_data(data, rules), chosen)
    for name, target in targets.items():
        if batch is None:
            found = export_any(counted, Format(name), target, lambda line: print_line(err, inline(line)))
        else:
            found = write(counted, Format(name), target, None if batch == _ANY else int(batch))
        _show(found, counted.macs)


def _check_targets(path: Path, targets: dict[str, Path], batch: str | None, *, force: bool) -> None:
    if not targets:
        raise typer.BadParameter("name a file to write: --onnx FILE, --pt2 FILE, or both")
    if len({target.resolve() for target in targets.values()}) < len(targets):
        raise typer.BadParameter("--onnx and --pt2 name the same file")
    for target in targets.values():
        if target.exists() and not force:
            options = [word for kind, file in targets.items() for word in (f"--{kind}", file)]
            again = typed(
                "starter", "export", path, *options, *(("--batch", batch) if batch else ()), "--force"
            )
            raise usage_error(
                Code.TARGET_EXISTS, where=str(target), got="a file", hint=f"To replace it: {again}"
            )


def _show(found: "ExportedFile", macs: int) -> None:
    batch = "any number of images" if found.batch is None else f"{found.batch} at a time"
    print_line(out, f"{inline(str(found.path))}  {found.size:,} bytes, {batch}, {macs:,} MACs each")
    parity, runs_in = found.parity, "onnxruntime" if found.kind == "onnx" else "torch"
    print_line(
        out,
        f"  answers  logits on {parity.images} evaluation images within {parity.difference:.1e} of the "
        f"kit's; {parity.agreeing} of {parity.images} have the class of the official, rounded run",
    )
    print_line(
        out,
        f"  latency  {runs_in} {found.file_ms:.2f} ms, the kit {found.kit_ms:.2f} ms "
        f"(batch {found.batch or 1}, one thread, medians of alternating runs)",
    )
