"""Whose code a command runs decides how little isolation it accepts; the policy stands in one place."""

import json
import os
import subprocess
import sys
from pathlib import Path

import isolations
import pytest
from conftest import GOOD, Command

from starter.cli.app import COMMANDS, load
from starter.contract.competition import CompetitionFile
from starter.contract.errors import Code, HostError
from starter.contract.isolation import NEVER_ISOLATED, TRUST, Level, Trust
from starter.sandbox import choice
from starter.sandbox.choice import choose


@pytest.fixture
def no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another system's Python looks like to the choice."""
    monkeypatch.setattr(sys, "platform", "darwin")


def commands_with(option: str) -> set[str]:
    """Return the commands that take an option, with their groups before them."""
    found = set()
    for name in COMMANDS:
        command = load(name)
        inner = getattr(command, "commands", {"": command})
        for sub, one in inner.items():
            if any(option in parameter.opts for parameter in one.params):
                found.add(f"{name} {sub}".strip())
    return found


def test_every_command_that_isolates_has_its_side() -> None:
    assert commands_with("--isolation") == TRUST.keys() - NEVER_ISOLATED


@pytest.mark.usefixtures("no_sandbox")
def test_your_own_code_runs_where_no_sandbox_is_and_says_why() -> None:
    isolation = choose(CompetitionFile(name="test"), trust=Trust.OWN)
    assert isolation.level is Level.NONE
    assert isolation.reasons == (
        "box: the sandbox needs Linux; this is darwin; lockdown: the sandbox needs Linux; this is darwin"
    )


@pytest.mark.usefixtures("no_sandbox")
@pytest.mark.parametrize(
    ("isolation", "requested", "trust"),
    [
        (None, None, Trust.STRANGERS),
        (None, "auto", Trust.STRANGERS),
        (None, "lockdown", Trust.OWN),
        (None, "box", Trust.OWN),
        ("lockdown", None, Trust.OWN),
        ("box", "auto", Trust.OWN),
    ],
)
def test_whoever_asks_for_more_is_refused_less(
    isolation: str | None, requested: str | None, trust: Trust
) -> None:
    rules = CompetitionFile.model_validate({"name": "test", "isolation": isolation})
    with pytest.raises(HostError) as caught:
        choose(rules, requested, trust=trust)
    assert [found.code for found in caught.value.problems] == [Code.NO_ISOLATION]


@pytest.mark.parametrize("trust", Trust)
def test_none_is_had_by_typing_it(trust: Trust) -> None:
    assert choose(CompetitionFile(name="test"), "none", trust=trust).level is Level.NONE
    assert choose(CompetitionFile(name="test", isolation="none"), trust=trust).level is Level.NONE


@pytest.mark.slow
def test_your_own_code_gets_the_strictest_level_that_works() -> None:
    if not isolations.available():
        pytest.skip(isolations.lacks("lockdown"))
    own, strangers = (choose(CompetitionFile(name="test"), trust=trust) for trust in Trust)
    assert own == strangers
    assert own.level is isolations.named(isolations.available()[0]).level


@pytest.mark.skipif(not isolations.IS_ROOT, reason="only root can stay root: run the tests as root")
def test_root_becomes_another_user_where_that_user_can_read_everything() -> None:
    found = choice.try_level(Level.LOCKDOWN, CompetitionFile(name="test"))
    if isinstance(found, str):
        pytest.skip(isolations.lacks("lockdown"))
    readable = not isolations.lacks("lockdown")
    assert (found.user is not None) is readable
    assert bool(found.why_root) is not readable


def without_sandbox(place: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as on a system whose Python cannot watch a process as the sandbox needs it."""
    code = "import os; del os.pidfd_open; from starter.cli.app import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, cwd=place, capture_output=True, text=True, check=False, env=os.environ | environment
    )


@pytest.fixture
def unruled(place: Path) -> Path:
    """A competition whose file says nothing of isolation, with one good plugin."""
    rules = place / "competition.toml"
    rules.write_text(rules.read_text().replace('isolation = "none"\n', ""))
    (place / "net.py").write_text(GOOD)
    return place


@pytest.mark.long
def test_one_line_announces_that_a_score_is_not_official(unruled: Path) -> None:
    run = without_sandbox(unruled, "score", "net.py", "--json", "-")
    (result,) = json.loads(run.stdout)["results"]

    assert run.returncode == 0, run.stderr
    assert (result["isolation"], result["official"], result["status"]) == ("none", False, "ok")
    assert run.stderr.count("\n") == 1
    assert run.stderr.startswith("isolation none: this machine has no sandbox (")
    assert "this Python lacks os.pidfd_open" in run.stderr
    assert run.stderr.endswith("starter doctor\n")


@pytest.mark.long
def test_who_typed_none_is_told_nothing(unruled: Path) -> None:
    run = without_sandbox(unruled, "validate", "net.py", STARTER_ISOLATION="none")
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.slow
def test_a_batch_is_refused_there_with_what_to_do(unruled: Path) -> None:
    """A variable that was set for one's own code does not weaken it."""
    run = without_sandbox(unruled, "batch", "net.py", STARTER_ISOLATION="none")
    assert run.returncode == 3
    assert "H104" in run.stderr
    assert "starter doctor" in run.stderr


def test_the_doctor_says_what_each_side_gets_there(unruled: Path) -> None:
    run = without_sandbox(unruled, "doctor")
    said = " ".join(run.stdout.split())
    assert run.returncode == 0
    assert "ok your own code runs at isolation none (score, validate," in said
    assert "no strangers' code needs isolation lockdown (batch, rejudge)" in said


@pytest.mark.usefixtures("unruled")
def test_a_score_in_the_sandbox_is_official(starter: Command) -> None:
    if not isolations.available():
        pytest.skip(isolations.lacks("lockdown"))
    (result,) = json.loads(starter("score", "net.py", "--json", "-").stdout)["results"]
    assert (result["isolation"], result["official"]) == (
        isolations.named(isolations.available()[0]).level,
        True,
    )
