"""`starter init`: write a submission that scores as it is.

The files are in starter/submission/first: a plugin, and weights that `starter train`
made for it on the packaged data.
"""

import shutil
from pathlib import Path

from starter.contract.errors import Code, usage_error
from starter.contract.names import entry_fault

TEMPLATE = Path(__file__).parent / "first"


def write_template(name: str, folder: Path) -> Path:
    """Copy the template to `folder`/`name` and return that path.

    Raises:
        UsageError: the name cannot be a row's name, or the target exists.
    """
    if found := entry_fault(name):
        raise usage_error(Code.BAD_NAME, where="starter init", got=f"{name!r}: {found}")
    target = folder / name
    if target.exists():
        raise usage_error(Code.TARGET_EXISTS, where=str(target), got="a file or folder of that name")
    target.mkdir(parents=True)
    for file in ("plugin.py", "weights.safetensors"):
        shutil.copyfile(TEMPLATE / file, target / file)
    return target
