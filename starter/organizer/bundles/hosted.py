"""Write a competition that a host evaluates in public: its public part, and a platform's files around it.

Whoever reads the folder reads all of it, so it holds no Private image, and no figure of one. The Private part
is evaluated where it stays: `starter batch` on the organizer's machine.
"""

import shutil
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path

from starter import __version__
from starter.contract.competition import FILE_NAME, CompetitionFile
from starter.contract.errors import Code, usage_error
from starter.contract.results import Reference
from starter.contract.system.files import write_whole
from starter.data.dataset import SOLUTION_NAME, Dataset, open_dataset
from starter.evaluation.baseline import write_reference
from starter.organizer.bundles.public import (
    BASELINE,
    DATA,
    check,
    copy_baseline,
    write_public_data,
    write_rules,
)

REQUIREMENTS = "requirements.txt"


def write_competition(
    folder: Path, rules: CompetitionFile, dataset: Dataset, reference: Reference, *, platform: str
) -> dict[str, str]:
    """Write competition.toml, the public part of the data, and the baseline with its public figures.

    Args:
        folder: where; it exists or is made.
        rules: the competition's.
        dataset: all of the data.
        reference: the baseline's figures on all of it.
        platform: named where a rule is refused.

    Returns:
        dict: what was written, by its name in the folder, with what it is.

    Raises:
        UsageError: as `check` does; U202, no image is Public.
    """
    rules = rules.counted_as(reference)
    check(rules, dataset, reference, platform)
    usages = {row.usage for row in dataset.solution()}
    if "Public" not in usages:
        raise usage_error(
            Code.BAD_DATASET,
            where=str(dataset.root / SOLUTION_NAME),
            expected="Public images: the Private ones stay with you",
            got="no row with the Usage Public",
        )
    hidden = rules.calendar.model_copy(update={"reveal": None})  # there is nothing to reveal
    write_rules(folder, rules.model_copy(update={"calendar": hidden}))
    write_public_data(folder / DATA, dataset)
    copy_baseline(rules, folder / BASELINE)
    fingerprint = open_dataset(folder / DATA).fingerprint()
    public = reference.shown_on("Public").model_copy(update={"dataset_fingerprint": fingerprint})
    write_reference(public, folder / BASELINE)
    return {
        FILE_NAME: "the rules",
        f"{DATA}/": "the training images, and the Public images with their labels; no Private image",
        f"{BASELINE}/": "the plugin that scores 1, with its figures on the Public images",
    }


def write_template(platform: str, folder: Path, texts: Mapping[str, str]) -> None:
    """Copy a platform's files, and the requirement that installs this version of the kit.

    Args:
        platform: a folder of bundles/platforms.
        folder: where to.
        texts: what stands for `{{ NAME }}` in README.md.
    """
    with as_file(files("starter.organizer.bundles").joinpath("platforms", platform)) as template:
        shutil.copytree(template, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for name, text in texts.items():
        readme = readme.replace(f"{{{{ {name} }}}}", text)
    write_whole(folder / "README.md", readme)
    with (folder / REQUIREMENTS).open("a", encoding="utf-8", newline="\n") as file:
        file.write(f"macs-starter=={__version__}\n")
