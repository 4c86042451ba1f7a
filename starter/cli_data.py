"""`starter data ...`: make and check data sets. Joined to the command line by cli.py."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from starter.cli_shared import can_be_made, err, out, progress
from starter.scoreboard import describe, say, tell

data_app = typer.Typer(help="Make and check data sets.", no_args_is_help=True)

Out = Annotated[Path, typer.Option("--out", callback=can_be_made, help="The new folder.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same split or drawing.")]
Share = Annotated[float, typer.Option(min=0, max=1, help="Share of the images that is evaluated on.")]
PublicShare = Annotated[float, typer.Option(min=0, max=1, help="Share of those that is Public.")]
Zip = Annotated[bool, typer.Option("--zip", help="Put the images into one images.zip.")]
Name = Annotated[str, typer.Option(help="The data set's name.")]
Version = Annotated[str, typer.Option(help="The data set's version.")]
Licence = Annotated[str, typer.Option(help="The images' licence.")]
Source = Annotated[str, typer.Option(help="Where the images are from.")]


def _shipped(mapping: Path | None) -> Path | None:
    """Return the mapping file, or the one of that name that comes with the kit."""
    if mapping is None or mapping.is_file():
        return mapping
    ours = Path(__file__).parent / "mappings" / f"{mapping.name}.toml"
    return ours if ours.is_file() else mapping


def _command() -> tuple[str]:
    """Return the command as it was typed, for dataset.toml."""
    return (shlex.join(["starter", *sys.argv[1:]]),)


@data_app.command()
def synth(
    target: Out,
    scenes: Annotated[int, typer.Option(min=1, help="How many pictures.")] = 100,
    seed: Seed = 0,
    width: Annotated[int, typer.Option(min=96, help="Of a picture, pixels.")] = 352,
    height: Annotated[int, typer.Option(min=96, help="Of a picture; some are turned upright.")] = 288,
) -> None:
    """Draw littered scenes with COCO boxes in the six categories."""
    from starter.synthetic import draw_scenes

    with progress("drawing") as tick:
        draw_scenes(target, num_scenes=scenes, seed=seed, size=(width, height), progress=tick)
    say(out, f"{target}  {scenes:,} scenes")
    shown = shlex.quote(str(target))
    say(err, f"next: starter data crops {shown}/annotations.json --images {shown}/images --out DIR")


@data_app.command()
def crops(  # noqa: PLR0913, PLR0917 - the importer's options, one to one
    annotations: Annotated[Path, typer.Argument(help="A COCO file.")],
    target: Out,
    images: Annotated[Path, typer.Option(help="The folder that its file names are in.")],
    mapping: Annotated[
        Path | None, typer.Option(help="TOML: categories to classes; `taco-6` is shipped.")
    ] = None,
    min_size: Annotated[int, typer.Option(min=1, help="Boxes with a shorter side are skipped, pixels.")] = 24,
    margin: Annotated[
        float, typer.Option(min=0, help="Context around a box, share of its longer side.")
    ] = 0.0,
    max_side: Annotated[int | None, typer.Option(min=1, help="Scale crops down to this, pixels.")] = None,
    quality: Annotated[int, typer.Option(min=1, max=100, help="JPEG quality.")] = 90,
    test_share: Share = 0.3,
    public_share: PublicShare = 0.5,
    seed: Seed = 0,
    zip_images: Zip = False,
    name: Name = "",
    version: Version = "1",
    licence: Licence = "not stated",
    source: Source = "",
) -> None:
    """Cut a COCO file's boxes into a data set, all crops of one photograph on one side."""
    from starter.coco import crop_dataset

    with progress("cutting") as tick:
        report = crop_dataset(
            annotations,
            images,
            target,
            name=name,
            mapping=_shipped(mapping),
            min_size=min_size,
            margin=margin,
            max_side=max_side,
            quality=quality,
            seed=seed,
            test_share=test_share,
            public_share=public_share,
            zip_images=zip_images,
            version=version,
            licence=licence,
            source=source,
            made_by=_command(),
            progress=tick,
        )
    for row in [*report.rows, report.total]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(row.skipped.items()))
        goes_to = row.class_name or ("" if row.category == "all" else "skipped")
        say(
            out, f"{row.category:28} {goes_to:12} {row.boxes:6,} boxes {row.used:6,} used  {reasons}".rstrip()
        )
    for other in report.other_size:
        say(err, f"not of the annotated size: {other}")
    _show_check(target)


@data_app.command()
def folder(  # noqa: PLR0913, PLR0917 - as above
    images: Annotated[Path, typer.Argument(help="A folder with one folder of images for each class.")],
    target: Out,
    train_list: Annotated[
        list[Path] | None, typer.Option(help="Text file of training images; repeatable.")
    ] = None,
    test_list: Annotated[Path | None, typer.Option(help="Text file of evaluation images.")] = None,
    test_share: Share = 0.3,
    public_share: PublicShare = 0.5,
    seed: Seed = 0,
    zip_images: Zip = False,
    name: Name = "",
    version: Version = "1",
    licence: Licence = "not stated",
    source: Source = "",
) -> None:
    """Make a data set from class folders of images, with a stratified split."""
    from starter.dataset_import import import_folder

    report = import_folder(
        images,
        target,
        name=name,
        seed=seed,
        test_share=test_share,
        public_share=public_share,
        train_lists=train_list or (),
        test_list=test_list,
        zip_images=zip_images,
        version=version,
        licence=licence,
        source=source,
        made_by=_command(),
    )
    say(out, f"{target}  {report.used:,} images")
    for reason, count in ((r, n) for r, n in report.skipped.items() if n):
        say(out, f"  {count:,} files left out: {reason}")
    for missing in report.not_found:
        say(err, f"listed, but not in the folder: {missing}")
    _show_check(target)


@data_app.command()
def check(path: Annotated[Path, typer.Argument(help="The data set's folder.")]) -> int:
    """Check a data set and show its classes; exit 2 if anything is wrong with it."""
    return _show_check(path)


def _show_check(path: Path) -> int:
    from starter.dataset_check import check as check_dataset

    report = check_dataset(path)
    say(out, f"{'class':16} {'train':>7} {'public':>7} {'private':>7}")
    for class_name, *counts in report.rows():
        say(out, f"{class_name:16} " + " ".join(f"{n:7,}" for n in counts))
    if report.width and report.height:
        w, h = report.width, report.height
        sizes = f"{w.least} x {h.least} to {w.most} x {h.most}, median {w.median:g} x {h.median:g}"
        say(out, f"{report.images:,} images, {sizes} pixels")
    if report.fingerprint:
        say(out, report.fingerprint)
    for problem in report.problems:
        tell(err, describe(problem, str(path)))
    return 2 if report.problems else 0
