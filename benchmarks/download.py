"""What a first `tox -e score` downloads, and a first `tox -e test`: the sizes of the wheels that uv chooses.

Each row is one resolution by uv for this machine's system and Python; nothing is installed. The cpu rows are
those of UV_TORCH_BACKEND=cpu and need PyTorch's own index; where it cannot be reached, they say so.

    python benchmarks/download.py --uv .tox/score/bin/uv
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = {"score": (), "test": ("--extra", "test")}
"""Environments of tox.ini, and what each adds to the base dependencies."""
FOR_A_GPU = ("nvidia-", "cuda-", "triton")
"""How packages are named that only a GPU needs."""


class ResolutionError(Exception):
    """uv could not find the packages; the text is the end of what it printed."""


def resolved(uv: str, extras: tuple[str, ...], backend: str | None) -> list[dict[str, Any]]:
    """Return the packages that uv would install, each with its wheels.

    Raises:
        ResolutionError: an index cannot be reached, or nothing fits.
    """
    environment = os.environ | ({"UV_TORCH_BACKEND": backend} if backend else {})
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / "pylock.toml"
        command = [uv, "pip", "compile", "--quiet", "--format", "pylock.toml", "--output-file", str(lock)]
        command += ["--python", sys.executable, *extras, str(ROOT / "pyproject.toml")]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
        if run.returncode:
            raise ResolutionError(run.stderr.strip().splitlines()[-1].strip().removeprefix("cause: "))
        packages: list[dict[str, Any]] = tomllib.loads(lock.read_text(encoding="utf-8"))["packages"]
    return packages


def wheel_bytes(package: dict[str, Any]) -> int:
    """Return the size of the wheel that this Python would take, or of the source where there is no wheel."""
    ranks = {tag: rank for rank, tag in enumerate(sys_tags())}
    fitting = []
    for wheel in package.get("wheels", ()):
        tags = parse_wheel_filename(wheel["url"].rpartition("/")[2].replace("%2B", "+"))[3]
        fitting += [(ranks[tag], wheel["size"]) for tag in tags if tag in ranks]
    return int(min(fitting)[1] if fitting else package["sdist"]["size"])


def rows(uv: str) -> Iterator[str]:
    """Yield one line for each environment and backend."""
    for backend in (None, "cpu"):
        for name, extras in ENVIRONMENTS.items():
            start = f"{name:<8}{backend or 'default':<9}"
            try:
                packages = resolved(uv, extras, backend)
            except ResolutionError as error:
                yield f"{start}not measured, uv could not resolve it: {error}"
                continue
            sizes = {package["name"]: wheel_bytes(package) for package in packages}
            for_a_gpu = sum(size for key, size in sizes.items() if key.startswith(FOR_A_GPU))
            yield f"{start}{len(sizes):>8}{sum(sizes.values()) / 1e6:>13,.0f}{for_a_gpu / 1e6:>16,.0f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--uv", default="uv", help="the uv to ask; tox keeps one at .tox/score/bin/uv")
    uv = parser.parse_args().uv
    if shutil.which(uv) is None:
        parser.error(f"no program {uv}: run `tox -e score` once, then add --uv .tox/score/bin/uv")
    print(f"{'tox -e':<8}{'backend':<9}{'packages':>8}{'download, MB':>13}{'for a GPU, MB':>16}")
    for row in rows(uv):
        print(row, flush=True)


if __name__ == "__main__":
    main()
