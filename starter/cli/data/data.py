"""`starter data ...`: make and check data sets."""

import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from starter.cli.common import can_be_made, err, out, progress, typed
from starter.cli.exits import EXIT_OK, EXIT_USAGE
from starter.report.terminal import describe, pad, print_line, print_wrapped

if TYPE_CHECKING:  # the command line starts without them
    from starter.data.check import CheckReport
    from starter.data.coco.crops import CropReport

data_app = typer.Typer(help="Make and check data sets.", no_args_is_help=True, rich_markup_mode=None)

Out = Annotated[Path, typer.Option("--out", callback=can_be_made, help="The new folder.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same split or drawing.")]
Share = Annotated[float, typer.Option(min=0, max=1, help="Share of the images that is evaluated on.")]
PublicShare = Annotated[float, typer.Option(min=0, max=1, help="Share of those that is Public.")]
ValidationShare = Annotated[
    float,
    typer.Option(min=0, max=1, help="Share of the others to mark for validation; 0: none."),
]
NearDuplicates = Annotated[
    bool, typer.Option(help="Keep pictures that are nearly the same on one side of the split.")
]
MappingOption = Annotated[
    Path | None, typer.Option("--mapping", help="TOML: categories to classes; shipped: `taco-6`, `taco-9`.")
]
MinSize = Annotated[int, typer.Option(min=1, help="Boxes with a shorter side are skipped, pixels.")]
Margin = Annotated[float, typer.Option(min=0, help="Context around a box, share of its longer side.")]
MaxSide = Annotated[int | None, typer.Option(min=1, help="Scale crops down to this, pixels.")]
Quality = Annotated[int, typer.Option(min=1, max=100, help="JPEG quality.")]
Zip = Annotated[bool, typer.Option("--zip", help="Put the images into one images.zip.")]
Name = Annotated[str, typer.Option(help="The data set's name.")]
Version = Annotated[str, typer.Option(help="The data set's version.")]
Licence = Annotated[str, typer.Option(help="The images' licence.")]
Source = Annotated[str, typer.Option(help="Where the images are from.")]


def _shipped(mapping: Path | None) -> Path | None:
    """Return the mapping file, or the one of that name that comes with the kit."""
    if mapping is None or mapping.is_file():
        return mapping
    ours = Path(str(files("starter.data.coco"))) / "mappings" / f"{mapping.name}.toml"
    return ours if ours.is_file() else mapping


def _command() -> tuple[str]:
    """Return the command as it was typed, for dataset.toml."""
    return (typed("starter", *sys.argv[1:]),)


@data_app.command()
def synth(
    target: Out,
    scenes: Annotated[int, typer.Option(min=1, help="How many pictures.")] = 100,
    seed: Seed = 0,
    width: Annotated[int, typer.Option(min=96, help="Of a picture, pixels.")] = 352,
    height: Annotated[int, typer.Option(min=96, help="Of a picture; some are turned upright.")] = 288,
) -> None:
    """Draw littered scenes with COCO boxes in the six categories."""
    from starter.data.synthetic.scenes import draw_scenes

    with progress("drawing") as tick:
        draw_scenes(target, num_scenes=scenes, seed=seed, size=(width, height), progress=tick)
    print_line(out, f"{target}  {scenes:,} scenes")
    shown = typed(target / "annotations.json", "--images", target / "images")
    print_line(err, f"next: starter data crops {shown} --out DIR")


@data_app.command()
def crops(  # noqa: PLR0913, PLR0917 - the importer's options, one to one
    annotations: Annotated[Path, typer.Argument(help="A COCO file.")],
    target: Out,
    images: Annotated[Path, typer.Option(help="The folder that its file names are in.")],
    mapping: MappingOption = None,
    min_size: MinSize = 24,
    margin: Margin = 0.0,
    max_side: MaxSide = None,
    quality: Quality = 90,
    test_share: Share = 0.3,
    public_share: PublicShare = 0.5,
    validation_share: ValidationShare = 0.0,
    near_duplicates: NearDuplicates = True,
    seed: Seed = 0,
    zip_images: Zip = False,
    name: Name = "",
    version: Version = "1",
    licence: Licence = "not stated",
    source: Source = "",
) -> None:
    """Cut a COCO file's boxes into a data set, all crops of one photograph on one side."""
    from starter.data.coco.crops import CropOptions
    from starter.data.writer import Shares

    cut(
        annotations, images, target, mapping,
        options=CropOptions(min_size, margin, max_side, quality),
        shares=Shares(test_share, public_share, validation_share, seed),
        near_duplicates=near_duplicates, zip_images=zip_images,
        name=name, version=version, licence=licence, source=source,
    )  # fmt: skip


def cut(annotations: Path, images: Path, target: Path, mapping: Path | None, **options: Any) -> None:
    """Cut boxes into a data set and print what became of them; `options` are crop_dataset's."""
    from starter.data.coco.crops import crop_dataset

    with progress("cutting") as tick:
        report = crop_dataset(
            annotations, images, target, mapping=_shipped(mapping), made_by=_command(), progress=tick,
            **options,
        )  # fmt: skip
    _show_crops(report)
    show_check(target)


def _show_crops(report: "CropReport") -> None:
    for row in [*report.rows, report.total]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(row.skipped.items()))
        goes_to = row.class_name or ("" if row.category == "all" else "skipped")
        print_line(
            out, f"{row.category:28} {goes_to:12} {row.boxes:6,} boxes {row.used:6,} used  {reasons}".rstrip()
        )
    if report.scaled:
        print_line(
            out,
            f"{report.scaled:,} pictures of another size than annotated: their boxes were scaled",
        )
    if report.alike:
        print_line(out, f"{len(report.alike):,} pairs of near-duplicate pictures, each pair on one side")
    for other in report.other_shape:
        print_line(err, f"not of the annotated shape: {other}")


@data_app.command()
def folder(  # noqa: PLR0913, PLR0917 - as above
    images: Annotated[Path, typer.Argument(help="A folder with one folder of images for each class.")],
    target: Out,
    train_list: Annotated[
        list[Path] | None, typer.Option(help="Text file of training images; repeatable.")
    ] = None,
    validation_list: Annotated[Path | None, typer.Option(help="Text file of validation images.")] = None,
    test_list: Annotated[Path | None, typer.Option(help="Text file of evaluation images.")] = None,
    test_share: Share = 0.3,
    public_share: PublicShare = 0.5,
    validation_share: ValidationShare = 0.0,
    near_duplicates: NearDuplicates = True,
    seed: Seed = 0,
    zip_images: Zip = False,
    name: Name = "",
    version: Version = "1",
    licence: Licence = "not stated",
    source: Source = "",
) -> None:
    """Make a data set from class folders of images, with a stratified split."""
    from starter.data.folders import import_folder
    from starter.data.writer import Shares

    report = import_folder(
        images,
        target,
        name=name,
        shares=Shares(test_share, public_share, validation_share, seed),
        near_duplicates=near_duplicates,
        train_lists=train_list or (),
        validation_list=validation_list,
        test_list=test_list,
        zip_images=zip_images,
        version=version,
        licence=licence,
        source=source,
        made_by=_command(),
    )
    print_line(out, f"{target}  {report.used:,} images")
    for reason, count in ((r, n) for r, n in report.skipped.items() if n):
        print_line(out, f"  {count:,} files left out: {reason}")
    if report.alike:
        print_line(out, f"  {report.alike:,} pairs nearly the same, each pair kept on one side")
    for missing in report.not_found:
        print_line(err, f"listed, but not in the folder: {missing}")
    show_check(target)


@data_app.command()
def check(path: Annotated[Path, typer.Argument(help="The data set's folder.")]) -> int:
    """Check a data set and show its classes; exit 2 if anything is wrong with it."""
    return show_check(path)


def show_check(path: Path) -> int:
    """Check a data set, print what was found, and return the exit code."""
    from starter.data.check import check as check_dataset

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
        print_line(out, f"{pad(row.class_name, 16)} {train} {row.public:7,} {row.private:7,}")
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
    for problem in report.problems:
        print_wrapped(err, describe(problem, str(report.path)))
