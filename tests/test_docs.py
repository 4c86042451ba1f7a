"""The documents say what the code does, and their commands are the ones that are run."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from starter.cli.app import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def load_update() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_update", ROOT / "docs" / "update.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


UPDATE = load_update()


@pytest.mark.parametrize("name", UPDATE.FILES)
def test_the_generated_parts_are_up_to_date(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert UPDATE.updated(text, UPDATE.PARTS) == text, "run: tox -e docs"


def test_ci_runs_the_readmes_own_commands() -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    commands = re.findall(r"^python3 -m venv .*tox -e \w+$", README, re.MULTILINE)
    assert [c.split()[-1] for c in commands] == ["score", "test"]
    assert all(f"\n{command}\n" in ci for command in commands)
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert all(f" run: {command}\n" in workflow for command in commands)


def test_every_command_that_the_documents_show_exists() -> None:
    documents = [README, *(p.read_text(encoding="utf-8") for p in (ROOT / "docs").glob("*.md"))]
    shown = {
        word for text in documents for word in re.findall(r"(?:^|`)starter ([a-z]+)", text, re.MULTILINE)
    }
    assert shown
    assert shown <= COMMANDS.keys(), f"not commands: {sorted(shown - COMMANDS.keys())}"


def test_every_link_between_documents_leads_somewhere() -> None:
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_packaged_data_set_has_the_fingerprint_of_its_readme_and_of_the_reference() -> None:
    from starter.data.dataset import open_dataset
    from starter.evaluation.evaluate import read_reference

    fingerprint = open_dataset(ROOT / "data" / "waste").fingerprint()

    assert fingerprint in (ROOT / "data" / "waste" / "README.md").read_text(encoding="utf-8")
    assert read_reference(ROOT / "baseline").dataset_fingerprint == fingerprint
