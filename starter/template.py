"""`starter init`: write a submission that scores as it is.

The files are in starter/templates/first: a plugin, and weights that `starter train`
made for it on the packaged data.
"""

import shutil
from pathlib import Path

from starter.discovery import Candidate, Kind
from starter.errors import Code, ParticipantError, usage_error

TEMPLATE = Path(__file__).parent / "templates" / "first"


def write_template(name: str, folder: Path) -> Path:
    """Copy the template to `folder`/`name` and return that path.

    Raises:
        UsageError: the name cannot be a row's name, or the target exists.
    """
    target = folder / name
    if target.exists():
        raise usage_error(Code.TARGET_EXISTS, where=str(target), got="a file or folder of that name")
    wrong = [p for p in Candidate(name, target, Kind.FOLDER).problems() if p.code is Code.BAD_NAME]
    if wrong:
        raise ParticipantError(wrong)
    target.mkdir(parents=True)
    for file in ("plugin.py", "weights.safetensors"):
        shutil.copyfile(TEMPLATE / file, target / file)
    return target
