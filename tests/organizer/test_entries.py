"""Entries as they lie on the disk: which are taken, and which are refused before anything of them is read."""

import sys
from pathlib import Path

import pytest

from starter.contract.competition import Limits
from starter.contract.errors import Code
from starter.organizer.entries import find, staged

LIMITS = Limits()
links = pytest.mark.skipif(sys.platform == "win32", reason="only an administrator makes links there")


@pytest.fixture
def entries(tmp_path: Path) -> Path:
    """A folder of entries, and beside it what is nobody's."""
    for name in ("outside/net", "outside/team/net", "entries/red"):
        (tmp_path / name).mkdir(parents=True)
    for name in (
        "outside/net/plugin.py",
        "outside/team/net/plugin.py",
        "outside/net.py",
        "entries/red/own.py",
    ):
        (tmp_path / name).write_text("# a plugin\n")
    (tmp_path / "outside" / "net.zip").write_bytes(b"no zip")
    return tmp_path / "entries"


def refused(folder: Path) -> dict[str, list[str]]:
    """Return what is said of each entry that is refused."""
    found = {}
    for entry in find([folder]):
        with staged(entry, LIMITS) as copy:
            assert {problem.code for problem in copy.problems} <= {Code.LINKED_ENTRY}
            found[entry.name] = [problem.got for problem in copy.problems]
    assert found.pop("own") == []
    return found


@links
@pytest.mark.parametrize("name", ["net.py", "net.zip", "net"])
@pytest.mark.parametrize("team", ["", "red"])
def test_an_entry_that_is_a_link_is_refused(entries: Path, name: str, team: str) -> None:
    (entries / team / name).symlink_to(entries.parent / "outside" / name)
    assert refused(entries) == {"net": [f"{Path(team, name).as_posix()}: a link"]}


@links
def test_a_teams_folder_that_is_a_link_is_refused(entries: Path) -> None:
    (entries / "blue").symlink_to(entries.parent / "outside" / "team")
    assert refused(entries) == {"net": ["blue: a link"]}


@links
def test_a_link_in_an_entry_is_refused_by_its_name(entries: Path) -> None:
    (entries / "net").mkdir()
    (entries / "net" / "plugin.py").write_text("# a plugin\n")
    (entries / "net" / "labels.csv").symlink_to(entries.parent / "outside" / "net.py")
    (entries / "net" / "data").symlink_to(entries.parent / "outside")
    assert refused(entries) == {"net": ["net/data: a link", "net/labels.csv: a link"]}


@links
def test_the_weights_beside_a_plugin_are_no_link(entries: Path) -> None:
    (entries / "net.py").write_text("# a plugin\n")
    (entries / "net.safetensors").symlink_to(entries.parent / "outside" / "net.zip")
    assert refused(entries) == {"net": ["net.safetensors: a link"]}


@links
def test_the_folder_that_the_organizer_names_may_be_a_link(entries: Path) -> None:
    (entries.parent / "shortcut").symlink_to(entries)
    assert refused(entries.parent / "shortcut") == {}
