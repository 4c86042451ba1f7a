"""Honest plugins that ask much of their sandbox pass at each level: nothing is wrong, all is complete."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GOOD
from safetensors.torch import save_file

from starter.contract.competition import CompetitionFile
from starter.contract.hookspecs import Competition
from starter.contract.submissions import Kind, SubmissionSource
from starter.evaluation.runner.client import export
from starter.sandbox.protocol import Sandbox

COMPETITION = Competition(num_classes=3, class_names=("a", "b", "c"), mean=(0.5,) * 3, std=(0.2,) * 3)
LIMITS = CompetitionFile(name="demanding").limits

TIMM = """
import timm, torch
from torchvision.transforms import v2
from starter import Submission, hookimpl

@hookimpl
def starter_submission(competition):
    return Submission(
        model=timm.create_model("NAME", num_classes=competition.num_classes),
        transforms=[v2.Resize((SIDE, SIDE)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
    )
"""
PRESET = """
from torch import nn
from torchvision import models
from starter import Submission, hookimpl

@hookimpl
def starter_submission(competition):
    weights = models.get_model_weights("NAME").DEFAULT
    model = models.get_model("NAME", num_classes=competition.num_classes)
    return Submission(model=model, transforms=weights.transforms())
"""


def network(body: str, forward: str = "self.head(images.mean((2, 3)))") -> str:
    """Return the good plugin with more in its constructor and another forward."""
    body = "\n".join("        " + line for line in body.splitlines())
    text = GOOD.replace("            self.head.bias.zero_()", "            self.head.bias.zero_()\n" + body)
    return text.replace("self.head(images.mean((2, 3)))", forward)


PLUGINS = {
    "mobilenetv4": TIMM.replace("NAME", "mobilenetv4_conv_small").replace("SIDE", "32"),
    "ghostnet": TIMM.replace("NAME", "ghostnet_050").replace("SIDE", "32"),
    "convnext": TIMM.replace("NAME", "convnextv2_atto").replace("SIDE", "32"),
    "repvgg": TIMM.replace("NAME", "repvgg_a0").replace("SIDE", "32"),
    "vision_transformer": TIMM.replace("NAME", "vit_tiny_patch16_224").replace("SIDE", "224"),
    "efficientnet_preset": PRESET.replace("NAME", "efficientnet_b0"),
    "shufflenet_preset": PRESET.replace("NAME", "shufflenet_v2_x0_5"),
    "sleeps": "import time\ntime.sleep(3)\n" + GOOD,
    "heavy_imports": (
        "import asyncio, concurrent.futures, email, sqlite3, unittest, xml.dom.minidom\n"
        "import matplotlib.pyplot, scipy.signal, scipy.optimize, sklearn.ensemble\n" + GOOD
    ),
    "threads": network(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    parts = list(pool.map(lambda seed: torch.randn(64, 64) @ torch.randn(64, 64), range(32)))\n"
        "self.register_buffer('part', torch.stack(parts).mean((1, 2))[:3])",
        "self.head(images.mean((2, 3)) + self.part)",
    ),
    "temporary_files": network(
        "import mmap, os, tempfile, zipfile\n"
        "shared = mmap.mmap(-1, 2**28 + 2**20)  # memory that was never touched, and is no file\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    torch.save(self.state_dict(), os.path.join(folder, 'a.pt'))\n"
        "    self.load_state_dict(torch.load(os.path.join(folder, 'a.pt')))\n"
        "    with zipfile.ZipFile(os.path.join(folder, 'a.zip'), 'w') as archive:\n"
        "        archive.write(os.path.join(folder, 'a.pt'))\n"
        "with tempfile.NamedTemporaryFile() as file:\n"
        "    file.write(b'x' * 2**20); file.flush()"
    ),
    "logs_and_warns": (
        "import logging, sys, warnings\nlogging.basicConfig(filename='train.log', level=logging.DEBUG)\n"
        "logging.info('hello')\nwarnings.warn('careful')\nprint('progress', file=sys.stderr)\n" + GOOD
    ),
    "numpy_work": network(
        "import numpy as np\n"
        "u, s, v = np.linalg.svd(np.random.default_rng(0).normal(size=(300, 300)))\n"
        "self.register_buffer('scale', torch.tensor(s[:3] / s[0], dtype=torch.float32))",
        "self.head(images.mean((2, 3)) * self.scale)",
    ),
    "typing_and_caches": (
        "from __future__ import annotations\nimport dataclasses, enum, functools, inspect, typing\n"
        "T = typing.TypeVar('T')\n"
        "class Width(enum.IntEnum):\n    SMALL = 3\n"
        "@dataclasses.dataclass(frozen=True)\nclass Settings(typing.Generic[T]):\n    width: int = 3\n"
        "@functools.lru_cache\ndef settings() -> Settings[int]:\n    return Settings(Width.SMALL)\n"
        "assert typing.get_type_hints(settings)['return'] and dataclasses.asdict(settings())\n"
        "assert 'lru_cache' in inspect.getsource(inspect.getmodule(settings))\n" + GOOD
    ),
    "hooks": network(
        "self.norms = []\n"
        "self.head.register_forward_pre_hook(lambda module, inputs: (inputs[0].clamp(0, 1),))\n"
        "self.register_load_state_dict_post_hook(lambda module, keys: None)"
    ),
    "parametrized": network(
        "from torch.nn.utils import parametrizations\n"
        "self.conv = parametrizations.weight_norm(nn.Conv2d(3, 3, 3))",
        "self.head(self.conv(images).mean((2, 3)))",
    ),
    "functional": network(
        "self.queries = nn.Parameter(torch.randn(1, 4, 3))",
        "self.head(nn.functional.scaled_dot_product_attention(self.queries.expand(images.shape[0], -1, -1), "
        "images.flatten(2).transpose(1, 2), images.flatten(2).transpose(1, 2)).mean(1))",
    ),
    "half": network(
        "self.half_head = nn.Linear(3, 3).half()", "self.half_head(images.mean((2, 3)).half()).float()"
    ),
    "channels_last": network(
        "self.conv = nn.Conv2d(3, 8, 3)\nself.bn = nn.BatchNorm2d(8)\n"
        "self.to(memory_format=torch.channels_last)",
        "self.head(self.bn(self.conv(images)).mean((2, 3))[:, :3])",
    ),
    "grayscale": GOOD.replace("v2.Resize((8, 8)),", "v2.Resize((8, 8)), v2.Grayscale(),")
    .replace("nn.Linear(3, 3)", "nn.Linear(1, 3)")
    .replace("torch.eye(3)", "torch.ones(3, 1)"),
}


def write_big_weights(folder: Path) -> SubmissionSource:
    """120 MB of weights beside a single file."""
    text = network(
        "self.wide = nn.Linear(3000, 10000)", "self.head(images.mean((2, 3))) + self.wide.bias[:3]"
    )
    path = folder / "big.py"
    path.write_text(text, encoding="utf-8")
    weights = {
        "head.weight": torch.eye(3),
        "head.bias": torch.zeros(3),
        "wide.weight": torch.ones(10000, 3000),
        "wide.bias": torch.zeros(10000),
    }
    save_file(weights, folder / "big.safetensors")
    return SubmissionSource("big", path, Kind.FILE)


def write_package(folder: Path) -> SubmissionSource:
    """Several modules and packages, data files, and weights of their own name."""
    root = folder / "packaged"
    (root / "layers").mkdir(parents=True)
    (root / "data").mkdir()
    (root / "layers" / "__init__.py").write_text("from .scale import Scale\n", encoding="utf-8")
    (root / "layers" / "scale.py").write_text(
        "import importlib.resources, json\nfrom pathlib import Path\nimport numpy as np, torch\n"
        "DATA = Path(__file__).parents[1] / 'data'\n"
        "class Scale(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        by = json.loads((DATA / 'scale.json').read_text())['by']\n"
        "        table = np.load(DATA / 'table.npy', mmap_mode='r')\n"
        "        self.register_buffer('scale', torch.from_numpy(np.array(table)) * by)\n"
        "    def forward(self, x):\n        return x * self.scale\n",
        encoding="utf-8",
    )
    (root / "data" / "scale.json").write_text(json.dumps({"by": 2}), encoding="utf-8")
    np.save(root / "data" / "table.npy", np.ones(3, dtype=np.float32))
    text = "from layers import Scale\n" + network(
        "self.scale = Scale()", "self.head(self.scale(images.mean((2, 3))))"
    )
    (root / "plugin.py").write_text(text, encoding="utf-8")
    return SubmissionSource("packaged", root, Kind.FOLDER)


def write_plugin(name: str) -> Callable[[Path], SubmissionSource]:
    def write(folder: Path) -> SubmissionSource:
        path = folder / f"{name}.py"
        path.write_text(PLUGINS[name], encoding="utf-8")
        return SubmissionSource(name, path, Kind.FILE)

    return write


WRITERS = {name: write_plugin(name) for name in PLUGINS} | {
    "big_weights": write_big_weights,
    "package": write_package,
}


def test_there_are_enough_of_them() -> None:
    assert len(WRITERS) >= 20


@pytest.mark.long
@pytest.mark.parametrize("name", WRITERS)
def test_a_demanding_plugin_passes_unchanged(name: str, each_sandbox: Sandbox, tmp_path: Path) -> None:
    source = WRITERS[name](tmp_path)
    before = each_sandbox.pid
    found = export(source, COMPETITION, LIMITS, Path(tempfile.mkdtemp(dir=tmp_path)), each_sandbox)

    assert found.report.problems == (), found.log
    assert found.is_complete
    assert each_sandbox.pid == before
