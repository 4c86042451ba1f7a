"""What is released: one name, one version, one set of URLs, and the competition inside the wheel."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import starter
from starter.cli.app import app
from starter.contract.competition import FILE_NAME, load_competition
from starter.contract.errors import UsageError
from starter.evaluation.evaluate import read_reference

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def tracked() -> list[Path]:
    """Return the files of the repository that are text."""
    run = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)  # noqa: S607
    if run.returncode:
        pytest.skip("no git here")
    paths = [ROOT / name for name in run.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:1000]]


def test_the_version_stands_in_one_file() -> None:
    """The package's `__version__` is what the build, the citation and the changelog go by."""
    assert "version" in PROJECT["dynamic"]
    assert "version" not in PROJECT
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.*)$", citation, re.MULTILINE) == [starter.__version__]
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[(.*?)\]", changes, re.MULTILINE)[:2] in (
        ["Unreleased"],
        ["Unreleased", starter.__version__],
    )


def test_the_projects_urls_stand_in_pyproject_and_the_notebook_only() -> None:
    home = PROJECT["urls"]["Homepage"]
    owner = home.split("/")[-2]
    assert all(owner in url for url in PROJECT["urls"].values())
    address = re.compile(rf"https?://[^\s\"'`)<>\\]*\b{owner}\b[^\s\"'`)<>\\]*")
    found = {
        path.relative_to(ROOT).as_posix(): set(address.findall(path.read_text(encoding="utf-8")))
        for path in tracked()
    }
    assert {name: urls for name, urls in found.items() if urls} == {
        "pyproject.toml": set(PROJECT["urls"].values()),
        "notebooks/quickstart.ipynb": {home},
    }


def test_pip_installs_the_kit_by_its_name_in_the_index_and_never_by_its_import_name() -> None:
    wrong = re.compile(r"pip install [^\n&|;]*(?<![\w/.-])starter(?![\w./-])")
    for path in tracked():
        if path.suffix in {".md", ".toml", ".py", ".ipynb", ".ini", ".yml"} and path != Path(__file__):
            assert not wrong.search(path.read_text(encoding="utf-8")), path
    assert PROJECT["name"] in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_wheel_holds_what_the_packaged_rules_name() -> None:
    (packaged,) = re.findall(
        r"^PACKAGED = (.*)$", (ROOT / "hatch_build.py").read_text(encoding="utf-8"), re.MULTILINE
    )
    rules = load_competition(ROOT / FILE_NAME)
    assert set(ast.literal_eval(packaged)) == {FILE_NAME, rules.dataset, rules.baseline, rules.submissions}


def test_a_new_competition_has_rules_data_baseline_and_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["new", "mine"], catch_exceptions=False)

    assert done.exit_code == 0, done.output
    rules = load_competition(tmp_path / "mine" / FILE_NAME)
    assert rules.path(rules.dataset).is_relative_to(tmp_path)
    assert read_reference(rules.path(rules.baseline)).macs == 16_815_480
    assert (rules.path(rules.submissions) / "distilled.safetensors").is_file()
    assert not list((tmp_path / "mine").rglob("__pycache__"))


def test_a_new_competition_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(UsageError, match="U106"):
        CliRunner().invoke(
            app, ["new", str(tmp_path / "mine")], catch_exceptions=False, standalone_mode=False
        )


def test_outside_a_competition_the_next_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as refused:
        load_competition()
    assert "starter new my_competition" in str(refused.value.problems[0].hint)
