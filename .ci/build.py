"""Build sdist and wheel, and score the packaged data with nothing but the wheel installed: `tox -e build`.

The wheel is built from the sdist, installed into an empty environment and run from an empty folder, so that
a file that only a clone has is missed here and not by the first user. --keep DIR keeps both files there.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path | None = None, expected: int = 0) -> str:
    """Run a command and return what it prints; fail where it ends otherwise than expected."""
    print("$", *command, flush=True)  # noqa: T201 - the log of the build
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if done.returncode != expected:
        sys.exit(f"exit code {done.returncode}, not {expected}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def check_metadata(wheel: Path) -> None:
    """See that the wheel has the name, version and URLs of pyproject.toml, and the competition's files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        found = Parser().parsestr(archive.read(metadata).decode())
    assert found["Name"] == project["name"], found["Name"]
    assert {line.split(", ")[0] for line in found.get_all("Project-URL", [])} == project["urls"].keys()
    for name in ("competition.toml", "data/waste/images.zip", "baseline/reference.json"):
        assert f"starter/packaged/{name}" in names, f"{name} is not in the wheel"
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests/")], names


def check_installed(wheel: Path, folder: Path) -> None:
    """Install the wheel alone; score the packaged data in a folder of the user's."""
    environment, empty = folder / "environment", folder / "empty"
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    empty.mkdir()
    run("uv", "venv", "--quiet", "--python", sys.executable, environment)
    run("uv", "pip", "install", "--quiet", "--python", environment, wheel)
    starter = scripts / "starter"
    assert wheel.name.split("-")[1] == run(starter, "--version").strip()
    assert "starter new my_competition" in run(starter, "score", cwd=empty, expected=2)
    run(starter, "new", "my_competition", cwd=empty)
    board = run(starter, "score", cwd=empty / "my_competition")
    assert "5 submissions: 5 ranked" in board, board
    run(starter, "init", "mine", cwd=empty / "my_competition")
    print(run(starter, "score", "submissions/mine", cwd=empty / "my_competition"))  # noqa: T201 - as above


def main() -> None:
    """Build, check, and keep the files where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="where sdist and wheel go, such as dist")
    keep = parser.parse_args().keep
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run("uv", "build", "--quiet", "--out-dir", folder / "dist", ROOT)
        (wheel,) = (folder / "dist").glob("*.whl")
        check_metadata(wheel)
        check_installed(wheel, folder)
        if keep:
            shutil.copytree(folder / "dist", keep, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
