"""`starter data taco`: photographs by the URLs of a COCO file, and the data set of their boxes."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from starter.cli.common import can_be_made, err, out, progress
from starter.cli.data.data import cut, data_app
from starter.cli.data.options import CropCommand, DatasetCommand, MappingOption, Out, with_options
from starter.cli.exits import EXIT_OK
from starter.contract.errors import Code, usage_error
from starter.contract.text import typed
from starter.report.problems import print_few
from starter.report.terminal import print_line

if TYPE_CHECKING:  # the command line starts without it
    from starter.data.coco.photographs import Photograph


class PhotographSize(StrEnum):
    """What --size takes."""

    FULL = "full"
    SMALL = "640"


@data_app.command()
@with_options
def taco(  # noqa: PLR0913 - options of the command line
    target: Out,
    annotations: Annotated[
        Path, typer.Option(help="A COCO file with URLs: TACO's official or unofficial one, or a similar one.")
    ],
    *,
    photographs: Annotated[
        Path | None,
        typer.Option(callback=can_be_made, help="Folder for the photographs; default: OUT-photographs."),
    ] = None,
    size: Annotated[
        PhotographSize, typer.Option(help="full: the originals; 640: copies of 640 pixels where they exist.")
    ] = PhotographSize.FULL,
    base_url: Annotated[
        str, typer.Option(help="URL of a mirror's folder to download the file names from.")
    ] = "",
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Number of parallel downloads.")] = 8,
    tries: Annotated[int, typer.Option(min=1, help="Number of tries per photograph.")] = 5,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Give up a try after this many seconds without data.")
    ] = 20,
    max_mb: Annotated[int, typer.Option(min=1, help="Reject files larger than this, in MiB.")] = 64,
    accept_losses: Annotated[
        bool, typer.Option("--accept-losses", help="Make the data set even if another run could add to it.")
    ] = False,
    cut_boxes: Annotated[
        bool, typer.Option("--crop/--no-crop", help="Cut the boxes into a data set, or only download.")
    ] = True,
    mapping: MappingOption = Path("taco-6"),
    crop: CropCommand,
    dataset: DatasetCommand,
) -> int:
    """Download TACO's photographs from the URLs in its file and cut their boxes into a data set.

    The same command resumes where the last run stopped. Exits like `starter data check` on the data set.
    """
    from starter.data.coco.annotations import read_coco
    from starter.data.coco.http_download import FetchRules
    from starter.data.coco.photographs import DownloadOptions, download_photographs, report_path

    photographs = photographs or target.with_name(f"{target.name}-photographs")
    rules = FetchRules(tries=tries, timeout=timeout, most_bytes=max_mb * 2**20)
    images = read_coco(annotations).images
    with progress("downloading", estimate=True) as tick:
        found = download_photographs(
            images, photographs, DownloadOptions(size.value, base_url, jobs, rules), tick
        )  # fmt: skip
    _report(found, report_path(photographs))
    _refuse_gaps(found, photographs, accept_losses=accept_losses)
    if not cut_boxes:
        shown = typed(annotations, "--images", photographs)
        print_line(err, f"next: starter data crops {shown} --out DIR")
        return EXIT_OK
    if target.exists():
        _refuse_remaking(target, found)
        return EXIT_OK
    lost = [photograph.file_name for photograph in found if not photograph.is_here]
    return cut(annotations, photographs, target, mapping, crop, dataset, lost)


def _report(found: "Sequence[Photograph]", path: Path) -> None:
    from starter.data.coco.photographs import losses

    counts = {status: sum(p.status == status for p in found) for status in ("downloaded", "kept")}
    missing = len(found) - sum(counts.values())
    megabytes = sum(p.bytes for p in found if p.status == "downloaded") / 1e6
    print_line(
        out,
        f"{len(found):,} photographs: {counts['downloaded']:,} downloaded ({megabytes:,.1f} MB), "
        f"{counts['kept']:,} already there, {missing:,} lost",
    )
    print_few(out, [f"  {count:,} lost: {reason}" for reason, count in losses(found)], path)
    print_line(err, f"written: {path}")


def _refuse_gaps(found: "Sequence[Photograph]", photographs: Path, *, accept_losses: bool) -> None:
    """Stop where a data set would lack what another run may bring, or would be empty."""
    here = sum(p.is_here for p in found)
    later = [p for p in found if p.status == "not yet"]
    if here and (accept_losses or not later):
        return
    got = f"{len(found) - here:,} of {len(found):,} are missing"
    if later:
        got += f"; another run may download {len(later):,}; the first: {later[0].url}: {later[0].reason}"
    raise usage_error(Code.NO_PHOTOGRAPHS, where=str(photographs), got=got)


def _refuse_remaking(target: Path, found: "Sequence[Photograph]") -> None:
    """Leave a data set that is there; say so if it was made of fewer photographs."""
    new = sum(p.status == "downloaded" for p in found)
    if new:
        raise usage_error(
            Code.TARGET_EXISTS, where=str(target), got=f"it was made without {new:,} new photographs",
            hint="Remove it and run the same command again, or name another folder with --out.",
        )  # fmt: skip
    print_line(err, f"{target} already exists and no photograph is new: nothing to do")
