"""Files that are whole or absent."""

from pathlib import Path

import pytest

from starter.contract.system.files import atomic_write, replace_with, write_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = write_whole(tmp_path / "a.json", "old\n")
    with atomic_write(target) as partial:
        partial.write_text("new\n")
        assert target.read_bytes() == b"old\n"
    assert target.read_bytes() == b"new\n"
    assert names(tmp_path) == ["a.json"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = write_whole(tmp_path / "a.json", "old\n")

    def fail() -> None:
        with atomic_write(target) as partial:
            partial.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with pytest.raises(FileNotFoundError):
        replace_with(target, tmp_path / "nowhere")
    assert target.read_bytes() == b"old\n"
    assert names(tmp_path) == ["a.json"]


def test_what_a_killed_run_left_is_no_part_of_a_new_folder(tmp_path: Path) -> None:
    (tmp_path / ".site.partial").mkdir()
    (tmp_path / ".site.partial" / "half").touch()
    with atomic_write(tmp_path / "site") as partial:
        partial.mkdir()
        (partial / "index.html").touch()
    assert names(tmp_path) == ["site"]
    assert names(tmp_path / "site") == ["index.html"]


def test_a_folder_that_appeared_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    def be_late() -> None:
        with atomic_write(tmp_path / "site") as partial:
            partial.mkdir()
            (tmp_path / "site").mkdir()
            (tmp_path / "site" / "mine").touch()

    with pytest.raises(OSError, match="site"):
        be_late()
    assert names(tmp_path) == ["site"]
    assert names(tmp_path / "site") == ["mine"]


def test_several_may_write_one_file_each_with_a_part_of_its_own(tmp_path: Path) -> None:
    with (
        atomic_write(tmp_path / "a", tmp_path / "1") as one,
        atomic_write(tmp_path / "a", tmp_path / "2") as two,
    ):
        one.write_text("same")
        two.write_text("same")
    assert names(tmp_path) == ["a"]
