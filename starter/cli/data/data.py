"""`starter data ...`: make and check data sets."""

import contextlib
import sys
from collections.abc import Collection, Iterator
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from starter.cli.common import err, out, progress
from starter.cli.data.options import CropCommand, DatasetCommand, MappingOption, Out, Seed, with_options
from starter.cli.exits import EXIT_OK, EXIT_USAGE
from starter.contract.errors import StarterError
from starter.contract.system.files import write_table
from starter.contract.text import inline, typed
from starter.report.problems import MOST_TOLD, list_problems, print_few, print_problems
from starter.report.terminal import pad, print_line

if TYPE_CHECKING:  # the command line starts without them
    from starter.data.check import CheckReport
    from starter.data.coco.report import CropReport

data_app = typer.Typer(help="Make and check data sets.", no_args_is_help=True, rich_markup_mode=None)


def _shipped(mapping: Path | None) -> Path | None:
    """Return the mapping file, or the one of that name that comes with the kit."""
    if mapping is None or mapping.is_file():
        return mapping
    ours = Path(str(files("starter.data.coco"))) / "mappings" / f"{mapping.name}.toml"
    return ours if ours.is_file() else mapping


def _command() -> str:
    """Return the command as it was typed, for dataset.toml."""
    return typed("starter", *sys.argv[1:])


@data_app.command()
def synth(
    target: Out,
    scenes: Annotated[int, typer.Option(min=1, help="Number of pictures.")] = 100,
    seed: Seed = 0,
    width: Annotated[int, typer.Option(min=96, help="Width of a picture in pixels.")] = 352,
    height: Annotated[
        int, typer.Option(min=96, help="Height of a picture in pixels; some pictures swap width and height.")
    ] = 288,
) -> None:
    """Draw littered scenes with COCO boxes in the six categories."""
    from starter.data.synthetic.scenes import draw_scenes

    with progress("drawing") as tick:
        draw_scenes(target, num_scenes=scenes, seed=seed, size=(width, height), on_progress=tick)
    print_line(out, f"{target}  {scenes:,} scenes")
    shown = typed(target / "annotations.json", "--images", target / "images")
    print_line(err, f"next: starter data crops {shown} --out DIR")


@data_app.command()
@with_options
def crops(
    annotations: Annotated[Path, typer.Argument(help="A COCO file.")],
    target: Out,
    images: Annotated[Path, typer.Option(help="Folder that the COCO file's file names are relative to.")],
    *,
    mapping: MappingOption = None,
    crop: CropCommand,
    dataset: DatasetCommand,
) -> int:
    """Cut the boxes of a COCO file into a data set, with all crops of a photograph on one side of the split.

    Exits like `starter data check` on the new data set, and with 1 if --strict rejects an annotation.
    """
    return cut(annotations, images, target, mapping, crop, dataset)


def cut(
    annotations: Path,
    images: Path,
    target: Path,
    mapping: Path | None,
    crop: CropCommand,
    dataset: DatasetCommand,
    lost: Collection[str] = (),
) -> int:
    """Cut boxes into a data set and print what became of them; those of `lost` photographs are skipped.

    Returns:
        The exit code of a check of the data set.
    """
    from starter.data.coco.crops import crop_dataset

    with listed_beside(target), progress("cutting") as tick:
        report = crop_dataset(
            annotations, images, target, mapping=_shipped(mapping), options=crop.options,
            shares=dataset.shares, near_duplicates=dataset.near_duplicates, lost=lost,
            zip_images=dataset.zip_images, description=dataset.description(_command()), on_progress=tick,
        )  # fmt: skip
    _show_crops(report, _report_path(target))
    return show_check(target)


@contextlib.contextmanager
def listed_beside(target: Path) -> Iterator[None]:
    """Write all problems of an error to a file beside the data set if there are too many to print."""
    try:
        yield
    except StarterError as error:
        error.listed_in = list_problems(error.problems, target)
        raise


def _report_path(target: Path) -> Path:
    """Return where the report of a new data set's making is."""
    return target.with_name(f"{target.resolve().name}-report.csv")


def _show_crops(report: "CropReport", path: Path) -> None:
    for row in [*report.rows, report.total]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(row.skipped.items()))
        goes_to = row.class_name or ("" if row.category == "all" else "skipped")
        counts = f"{row.boxes:6,} boxes {row.used:6,} used  {reasons}".rstrip()
        print_line(out, f"{pad(inline(row.category), 28)} {pad(inline(goes_to), 12)} {counts}")
    for note in report.remarks:
        print_line(out, inline(note))
    for reason, boxes in report.faults.items():
        places = (filter(None, (f"annotation {box.annotation}", box.file_name, box.found)) for box in boxes)
        print_few(err, [inline(f"skipped, {reason}: {', '.join(place)}") for place in places], path)
    print_few(
        err, [f"shape differs from the annotation: {inline(other)}" for other in report.other_shape], path
    )
    report.write(path)
    print_line(err, f"written: {path}")


@data_app.command()
@with_options
def folder(
    images: Annotated[Path, typer.Argument(help="A folder with one folder of images for each class.")],
    target: Out,
    *,
    train_list: Annotated[
        list[Path] | None, typer.Option(help="Text file that lists training images; repeatable.")
    ] = None,
    validation_list: Annotated[
        Path | None, typer.Option(help="Text file that lists validation images.")
    ] = None,
    test_list: Annotated[Path | None, typer.Option(help="Text file that lists evaluation images.")] = None,
    dataset: DatasetCommand,
) -> int:
    """Make a data set from class folders of images, with a stratified split.

    Exits like `starter data check` on the new data set.
    """
    from starter.data.folders import import_folder

    with listed_beside(target):
        report = import_folder(
            images, target, shares=dataset.shares, near_duplicates=dataset.near_duplicates,
            train_lists=train_list or (), validation_list=validation_list, test_list=test_list,
            zip_images=dataset.zip_images, description=dataset.description(_command()),
        )  # fmt: skip
    print_line(out, f"{target}  {report.used:,} images")
    for reason, count in ((r, n) for r, n in report.skipped.items() if n):
        print_line(out, f"  {count:,} files skipped: {reason}")
    if report.alike:
        print_line(out, f"  {report.alike:,} near-duplicate pairs, each kept on one side of the split")
    if report.not_found:
        path = write_table(_report_path(target), ("not_found",), ([name] for name in report.not_found))
        print_few(err, [f"listed, but not in the folder: {name}" for name in report.not_found], path)
    return show_check(target)


@data_app.command()
def check(path: Annotated[Path, typer.Argument(help="The data set's folder.")]) -> int:
    """Check a data set and show its classes; exit with 2 if anything is wrong."""
    return show_check(path)


def show_check(path: Path) -> int:
    """Check a data set, print what was found, and return the exit code."""
    from starter.data.check import check as check_dataset

    with listed_beside(path):
        report = check_dataset(path)
    print_check(report)
    return EXIT_USAGE if report.problems else EXIT_OK


def print_check(report: "CheckReport") -> None:
    """Print the classes, sizes and duplicates on stdout, and what is wrong on stderr."""
    validation = any(row.validation for row in report.classes)
    heading = " validation" if validation else ""
    print_line(out, f"{'class':16} {'train':>7}{heading} {'public':>7} {'private':>7}")
    for row in report.classes:
        train = f"{row.train - row.validation:7,} {row.validation:10,}" if validation else f"{row.train:7,}"
        print_line(out, f"{pad(inline(row.class_name), 16)} {train} {row.public:7,} {row.private:7,}")
    _print_groups(report, " " * (7 + len(heading)))
    if report.width and report.height:
        w, h = report.width, report.height
        sizes = f"{w.least} x {h.least} to {w.most} x {h.most}, median {w.median:g} x {h.median:g}"
        print_line(out, f"{report.images:,} images, {sizes} pixels")
    for exact, kind in ((True, "the same file"), (False, "nearly the same")):
        found = [d for d in report.duplicates if d.exact == exact]
        leaking = [d for d in found if d.leaks]
        if found:
            print_line(out, f"{kind}: {len(found):,} times, {len(leaking):,} of them across splits")
        for same in leaking[:10]:
            places = zip(same.image_ids, same.splits, same.labels, strict=True)
            print_line(out, "  " + ", ".join(f"{i} ({split}, {label})" for i, split, label in places))
    if report.fingerprint:
        print_line(out, report.fingerprint)
    print_problems(err, report.problems, str(report.path), list_problems(report.problems, report.path))


def _print_groups(report: "CheckReport", training: str) -> None:
    """Print the images of each group, of which none is in training, and where they are few."""
    rows = [(report.grouped_by, "public", "private")] if report.groups else []
    rows += [(group.name, f"{group.public:,}", f"{group.private:,}") for group in report.groups]
    for name, public, private in rows:
        print_line(out, f"{pad(inline(name), 16)} {training} {public:>7} {private:>7}")
    for warning in report.warnings[:MOST_TOLD]:
        print_line(err, f"warning: {inline(warning)}")
    if more := report.warnings[MOST_TOLD:]:
        print_line(err, f"... and {len(more):,} more warnings of this kind")
