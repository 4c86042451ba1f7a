"""Names: which are welcome, which are refused and why, and which look like another."""

import unicodedata
from pathlib import Path

import pytest
from organizing import CONTEXT, entry

from starter.contract.competition import CompetitionFile
from starter.contract.errors import Code
from starter.contract.names import entry_fault, path_fault, skeleton, team_fault
from starter.contract.submissions import discover_one
from starter.organizer.entries import find
from starter.organizer.plan import Action, plan
from starter.organizer.store.store import Store


@pytest.mark.parametrize(
    "name",
    [
        "net",
        "v2.1-final_x",
        "étude",
        "Größe",
        "Łódź",
        "한국어",
        "팀2",
        "AI팀",
        "東京チーム",
        "ネット",
        "сеть",
        "δίκτυο",
    ],
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_of_one_writing_system_is_welcome(name: str, form: str) -> None:
    name = unicodedata.normalize(form, name)
    assert entry_fault(name) == team_fault(name) == path_fault(f"data/{name}.bin") == ""


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("аdmin", "different scripts: Cyrillic, Latin"),
        ("αlpha", "different scripts: Greek, Latin"),
        ("ｎｅｔ", "full-width"),
        ("ﬁnal", "full-width letters or other variants"),
        ("net\u200b", "control"),
        ("net\u202eyp", "control"),
        ("net\ufe0f", "invisible"),
        ("\u3164", "full-width letters or other variants"),
        ("\u1160", "invisible"),
        ("n" + "\u0489" * 3, "diacritics on one letter"),
    ],
)
def test_a_name_that_misleads_is_refused_with_its_reason(name: str, reason: str) -> None:
    assert reason in team_fault(name)
    assert reason in path_fault(f"data/{name}.bin")
    assert entry_fault(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "0 characters"),
        ("n" * 65, "65 characters"),
        ("a b", "' '"),
        (".net", "starts with '.'"),
        ("a/b", "'/'"),
    ],
)
def test_an_entrys_name_is_a_path_as_well(name: str, reason: str) -> None:
    assert reason in entry_fault(name)


def test_a_team_may_have_words() -> None:
    assert team_fault("The Reds & friends, 2nd year") == ""
    assert team_fault(" red") == "a space at the start or end"
    assert team_fault("n" * 65) == "65 characters"


@pytest.mark.parametrize(
    ("one", "other"),
    [("асе", "ace"), ("ΑΒΕ", "ABE"), ("team1", "teaml"), ("Ilya", "llya"), ("rob0t", "robOt")],
)
def test_names_that_look_alike_have_one_skeleton(one: str, other: str) -> None:
    assert one != other
    assert skeleton(one) == skeleton(other)


@pytest.mark.parametrize(
    ("one", "other"), [("étude", "etude"), ("net", "Net"), ("net-1", "net-2"), ("팀", "틴")]
)
def test_names_that_differ_to_the_eye_have_two(one: str, other: str) -> None:
    assert skeleton(one) != skeleton(other)


def test_a_name_that_the_disk_spells_apart_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / f"{unicodedata.normalize('NFD', 'étude')}.py"
    path.write_text("# a plugin\n")
    assert discover_one(path).name == unicodedata.normalize("NFC", "étude")
    assert [source.name for source in find([tmp_path])] == [discover_one(path).name]


def test_who_came_first_keeps_the_looks_of_a_name(tmp_path: Path) -> None:
    for name in ("red/асе", "blue/teаm", "rеd/other", "team1/net", "ok/étude", "blue/net"):
        path = tmp_path / "entries" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}\n")
    with Store(f"sqlite:///{tmp_path / 'kept.sqlite'}") as store:
        store.add(store.context_id(CONTEXT), [entry("red", "ace"), entry("teaml", "net")])
        planned = plan(find([tmp_path / "entries"]), CompetitionFile(name="test"), store, 1)
    refused = {(p.source.team, p.source.name): p.refused for p in planned if p.action is Action.REFUSED}

    assert refused == {
        ("red", "асе"): f"{Code.NAME_LOOKS_ALIKE} 'асе' looks like 'ace'",
        ("rеd", "other"): f"{Code.BAD_NAME} team 'rеd': letters of different scripts: Cyrillic, Latin",
        ("team1", "net"): f"{Code.NAME_LOOKS_ALIKE} 'team1' looks like 'teaml'",
    }
    assert {p.action for p in planned} == {Action.REFUSED, Action.EVALUATE}
