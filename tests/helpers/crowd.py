"""The good plugin, and a crowd of entries as an organizer gets them: a tenth of them is poison.

Each entry's name begins with what it is; `EXPECTED` says how it must end.
"""

import io
import re
import zipfile
from pathlib import Path

from starter.contract.competition import load_competition
from starter.contract.errors import Status
from starter.data.dataset import Dataset
from starter.evaluation.evaluate import read_reference
from starter.evaluation.records import Context
from starter.organizer.store.store import Store

GOOD = '''
import torch
from torch import nn
from torchvision.transforms import v2
from starter import Submission, hookimpl

class Network(nn.Module):
    """Three templates of colour: exactly right on the drawn data set."""
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 3)
        with torch.no_grad():
            self.head.weight.copy_(torch.eye(3))
            self.head.bias.zero_()
    def forward(self, images):
        return self.head(images.mean((2, 3)))

@hookimpl
def starter_submission(competition):
    return Submission(
        model=Network(),
        transforms=[v2.Resize((8, 8)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
    )
'''
"""3 x 3 MACs in the head, 3 x 8 x 8 in the mean: 201."""

LIMITS = """
[limits]
wall_seconds = 6
cpu_seconds = 60
memory_mb = 1200
scratch_mb = 16
submission_mb = 2
submission_files = 50
"""
"""For competition.toml: so that poison is stopped soon."""

_AT_IMPORT = {
    "timeout": "while True: pass",
    "sleep": "import time\ntime.sleep(3600)",
    "memory": "held = []\nwhile True: held.append(bytearray(2**24))",
    "crash": "import ctypes\nctypes.string_at(0)",
    "exit": "import os\nos._exit(0)",
    "forged": (
        "import os, json\n"
        "for fd in range(3, 64):\n"
        "    try: os.write(fd, b'{\"report\": 2}\\n{}')\n"
        "    except OSError: pass\n"
        "os._exit(0)"
    ),
    "noise": "while True: print('x' * 2**20)",
    "disk": "import tempfile\nf = tempfile.TemporaryFile()\nwhile True: f.write(bytes(2**20))",
}
_ZIPS = ("slip", "bomb", "cut")
POISONS = (*_AT_IMPORT, *_ZIPS)
EXPECTED = {
    "honest": {Status.OK},
    "timeout": {Status.TIMEOUT},
    "sleep": {Status.TIMEOUT},
    "memory": {Status.MEMORY, Status.CRASH},
    "crash": {Status.CRASH},
    "exit": {Status.CRASH},
    "forged": {Status.CRASH, Status.INVALID, Status.OUTPUT},
    "noise": {Status.OUTPUT, Status.TIMEOUT},
    "disk": {Status.DISK},
    "slip": {Status.INVALID},
    "bomb": {Status.INVALID},
    "cut": {Status.INVALID},
}


def honest(number: int) -> str:
    """A plugin that scores; each number makes another content."""
    return GOOD.replace("v2.Resize((8, 8))", f"v2.Resize(({8 + number % 5}, 8))") + f"# {number}\n"


def write_crowd(folder: Path, count: int, *, every: int = 10) -> dict[str, str]:
    """Write entries, one of `every` so many poison; return what each is by its name."""
    folder.mkdir()
    kinds = {}
    for number in range(count):
        kind = POISONS[number // every % len(POISONS)] if number % every == every - 3 else "honest"
        name = f"{kind}{number:03d}"
        kinds[name] = kind
        if kind in _ZIPS:
            (folder / f"{name}.zip").write_bytes(_poisoned(kind, number))
            continue
        source = honest(number) + "\n" + _AT_IMPORT.get(kind, "")
        shape = number % 3
        if shape == 0:
            (folder / f"{name}.py").write_text(source)
        elif shape == 1:
            (folder / name).mkdir()
            (folder / name / "plugin.py").write_text(source)
        else:
            (folder / f"{name}.zip").write_bytes(_zipped({f"{name}/plugin.py": source.encode()}))
    return kinds


def _zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def _poisoned(kind: str, number: int) -> bytes:
    plugin = honest(number).encode()
    if kind == "slip":
        return _zipped({"plugin.py": plugin, "../../evil.py": b"x"})
    if kind == "bomb":
        return _zipped({"plugin.py": plugin, "zeros.bin": bytes(2**25)})
    return _zipped({"plugin.py": plugin})[:-40]


def stored(place: Path, data: Dataset) -> dict[str, tuple[Status, float]]:
    """The status and the time of each result in the store, by the entry's name."""
    rules = load_competition(place / "competition.toml")
    with Store(f"sqlite:///{place / '.starter' / 'results.sqlite'}") as store:
        now = Context.of(rules, data.fingerprint(), read_reference(place / "baseline"))
        context = store.context_id(now)
        names = {e.submission: e.name for e in store.entries()}
        found = {}
        for submission in store.statuses(context):
            kept = store.record(context, submission)
            assert kept is not None
            found[names[submission]] = kept[0].result.status, kept[0].evaluated_at.timestamp()
        return found


def told(stderr: str) -> list[str]:
    """The entries of which a run said that they are stored."""
    return re.findall(r"^\d+/\d+  (\S+)", stderr, re.MULTILINE)
