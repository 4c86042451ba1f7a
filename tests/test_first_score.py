"""The first five minutes: what is installed, on which Python, and what is said where that cannot work."""

import configparser
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import download
import pytest

ROOT = Path(__file__).parents[1]
CHECK = ROOT / ".ci" / "python_version.py"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "first-score.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture
def complaint() -> Callable[[tuple[int, ...], str], str]:
    """What the check says about a Python."""
    check: Callable[[tuple[int, ...], str], str] = runpy.run_path(str(CHECK))["complaint"]
    return check


@pytest.fixture
def tox() -> configparser.ConfigParser:
    """The environments that tox makes."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "tox.ini", encoding="utf-8")
    return parser


@pytest.mark.parametrize("version", [(3, 10, 13), (3, 14, 0)])
def test_a_python_outside_the_range_is_refused_in_one_sentence_with_the_next_command(
    complaint: Callable[[tuple[int, ...], str], str], version: tuple[int, ...]
) -> None:
    said = complaint(version, "/usr/bin/python3")

    assert said.startswith("starter needs Python 3.11 to 3.13; /usr/bin/python3 is Python 3.1")
    assert "uvx --python 3.13 tox -e score" in said
    assert "\n" not in said


def test_the_range_is_that_of_the_package(complaint: Callable[[tuple[int, ...], str], str]) -> None:
    minors = [minor for minor in range(8, 20) if not complaint((3, minor, 0), "python")]
    assert PROJECT["requires-python"] == f">=3.{minors[0]},<3.{minors[-1] + 1}"


def test_the_check_is_toxs_first_command_and_passes_here(tox: configparser.ConfigParser) -> None:
    first = tox["testenv"]["commands_pre"].split("\n")[1]
    assert first == "python {tox_root}/.ci/python_version.py"
    assert subprocess.run([sys.executable, str(CHECK)], check=True, capture_output=True).stderr == b""


def test_scoring_installs_no_extra_and_only_the_tests_do(tox: configparser.ConfigParser) -> None:
    installs = {
        name: re.findall(r"--editable (\S+)", tox[name].get("commands_pre", "")) for name in tox.sections()
    }
    assert {name: what for name, what in installs.items() if what} == {
        "testenv": ["."],
        "testenv:test": [".[test]"],
    }


def test_uvs_switch_for_a_machine_without_a_gpu_reaches_uv(tox: configparser.ConfigParser) -> None:
    assert "UV_TORCH_BACKEND" in tox["testenv"]["pass_env"].split()
    assert "UV_TORCH_BACKEND=cpu" in README
    assert "UV_TORCH_BACKEND=cpu" in PAGE


def test_the_readme_is_short_and_its_scoreboard_is_the_pages() -> None:
    assert len(README.splitlines()) <= 120
    (board,) = re.findall(r"<!-- begin: board -->\n```text\n(.*?)```", README, re.DOTALL)
    assert f"```text\n{board}\n" in PAGE


def test_the_wheel_for_this_python_is_the_one_whose_size_counts() -> None:
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    wheels = [
        {"url": f"https://host/some-1.0-{tags}.whl", "size": size}
        for tags, size in {f"{tag}-none-any": 3, "py3-none-any": 5, "cp27-none-any": 7}.items()
    ]
    assert download.wheel_bytes({"wheels": wheels, "sdist": {"size": 11}}) == 3
    assert download.wheel_bytes({"wheels": wheels[1:], "sdist": {"size": 11}}) == 5
    assert download.wheel_bytes({"wheels": wheels[2:], "sdist": {"size": 11}}) == 11


def test_the_image_holds_what_the_rules_name_and_is_run_as_the_readme_says() -> None:
    let_in = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    rules = tomllib.loads((ROOT / "competition.toml").read_text(encoding="utf-8"))
    needed = {
        "starter",
        "competition.toml",
        "pyproject.toml",
        "hatch_build.py",
        PROJECT["readme"],
        *PROJECT["license-files"],
    }
    needed |= {rules[key].split("/")[0] for key in ("dataset", "baseline", "submissions")}

    assert needed == set(let_in)
    assert all((ROOT / name).exists() for name in let_in)
    lines = re.findall(r"^docker .*$", PAGE, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        assert f"# {line}" in (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("#   ", "# ")
