"""The level on hosts that can do less, imitated by the kernel itself; never a lower one than was promised.

The command is run whole, as its user runs it, and its plugin leaves a mark where it has run.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import isolations
import pytest
from conftest import GOOD
from usual import usually

from starter.contract.isolation import Level
from starter.contract.results import Reference
from starter.data.dataset import Dataset
from starter.evaluation.baseline import write_reference
from starter.sandbox import lockdown

WEAKEN = [sys.executable, str(Path(__file__).parents[1] / "helpers" / "weaker_host.py")]
STARTER = [sys.executable, "-m", "starter"]
LEVELS = {isolations.named(name).level for name in isolations.available()}

pytestmark = pytest.mark.skipif(
    bool(lockdown.missing()), reason=lockdown.missing() or "everything is there to be weakened"
)


@dataclass(frozen=True)
class Ran:
    """What `starter validate` said of one plugin."""

    code: int
    """The exit code."""
    result: dict[str, Any] | None
    """The plugin's result; None where nothing was evaluated."""
    error: str
    """What stood on stderr."""
    marked: bool
    """Whether the plugin could write outside its sandbox: it ran, at no level at all."""

    @property
    def has_run(self) -> bool:
        """Whether any of the plugin's code has run, wherever."""
        return self.marked or "the plugin runs" in str(self.result) or "the plugin runs" in self.error


@pytest.fixture
def place(tmp_path: Path, easy_dataset: Dataset) -> Path:
    """A competition with one good plugin that says that it runs."""
    (tmp_path / "competition.toml").write_text(
        f'name = "Weaker"\ndataset = "{easy_dataset.root}"\n', encoding="utf-8"
    )
    mark = f"""
import sys
print("the plugin runs", file=sys.stderr)
try:
    open({str(tmp_path / "mark")!r}, "w").close()
except OSError:
    pass
"""
    (tmp_path / "net.py").write_text(mark + GOOD, encoding="utf-8")
    return tmp_path


def validate(place: Path, *options: str, weaken: str | None = None, **environment: str) -> Ran:
    prefix = [*WEAKEN, weaken] if weaken else []
    command = [*prefix, *STARTER, "validate", "net.py", "--json", "-", *options]
    run = subprocess.run(
        command, cwd=place, capture_output=True, text=True, check=False, timeout=200, env=environment or None
    )
    results = json.loads(run.stdout)["results"] if run.stdout.startswith("{") else [None]
    return Ran(run.returncode, results[0], run.stderr, (place / "mark").exists())


KINDS = ("no_namespaces", "docker", "no_landlock", "neither", "no_seccomp", "old_kernel")
LEAVES = {
    "no_namespaces": Level.LOCKDOWN,
    "docker": Level.LOCKDOWN,
    "no_landlock": Level.BOX,
}
"""The strictest level that a host leaves; nothing: none."""


def expected_level(kind: str) -> Level:
    """Return the strictest level that such a host leaves of those that this machine has."""
    left = LEAVES.get(kind, Level.NONE)
    return left if left in LEVELS else Level.NONE


@pytest.mark.slow
@pytest.mark.parametrize("kind", usually("no_landlock", "neither", of=KINDS))
def test_your_own_code_takes_the_strictest_level_that_a_weaker_host_has(kind: str, place: Path) -> None:
    level = expected_level(kind)
    ran = validate(place, weaken=kind)

    assert ran.code == 0, ran.error
    assert ran.result is not None
    assert (ran.result["isolation"], ran.result["status"]) == (level, "ok")
    assert ran.has_run
    assert ran.marked is (level is Level.NONE)
    assert ran.error.startswith("isolation none: ") is (level is Level.NONE)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if expected_level(kind) is Level.NONE])
@pytest.mark.parametrize(
    "command", [("batch", "net.py"), ("validate", "net.py", "--isolation", "lockdown")], ids=" ".join
)
def test_strangers_code_is_not_run_there_nor_yours_where_you_ask_for_more(
    kind: str, command: tuple[str, ...], place: Path, reference: Reference
) -> None:
    (place / "baseline").mkdir()
    write_reference(reference, place / "baseline")
    run = subprocess.run(
        [*WEAKEN, kind, *STARTER, *command], cwd=place, capture_output=True, text=True, check=False
    )

    assert run.returncode == 3
    assert "H104" in run.stderr
    assert "starter doctor" in run.stderr
    assert "the plugin runs" not in run.stdout + run.stderr
    assert not (place / "mark").exists()


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        ("no_namespaces", ["no    isolation box: bwrap: "]),
        ("docker", ["no    isolation box: bwrap: "]),
        ("no_landlock", ["no    isolation lockdown: Landlock 3 or newer (Linux 6.2); this kernel has none"]),
        (
            "neither",
            [
                "no    isolation box: bwrap: ",
                "no    isolation lockdown: Landlock 3 or newer",
                "ok    your own code runs at isolation none",
                "no    strangers' code needs isolation lockdown (batch, rejudge)",
            ],
        ),
    ],
)
def test_the_doctor_names_what_is_missing_and_how_to_get_it(kind: str, lines: list[str], place: Path) -> None:
    if Level.BOX not in LEVELS:
        pytest.skip(isolations.lacks("box"))
    command = [*WEAKEN, kind, *STARTER, "doctor"]
    run = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False, timeout=60)
    said = " ".join(run.stdout.split())

    for line in lines:
        assert " ".join(line.split()) in said
    assert "to get it:" in said
    assert ("ok isolation box, without Landlock in it" in said) is (kind == "no_landlock")


@pytest.mark.long
def test_at_no_isolation_the_mark_is_made(place: Path) -> None:
    """Or the other tests would show nothing."""
    ran = validate(place, "--isolation", "none")
    assert ran.code == 0
    assert ran.marked
    assert ran.has_run


FAILING_BWRAP = """#!/bin/sh
echo x >> "{count}"
[ $(wc -l < "{count}") -gt {works} ] && {{ echo "bwrap: the machine has changed its mind" >&2; exit 1; }}
exec {bwrap} "$@"
"""


@pytest.mark.parametrize("works", [0, 1])
def test_a_box_that_fails_is_never_replaced_by_less(works: int, place: Path) -> None:
    """Bubblewrap fails at once, or after the level has been chosen by it."""
    if Level.BOX not in LEVELS:
        pytest.skip(isolations.lacks("box"))
    folder = place / "bin"
    folder.mkdir()
    script = FAILING_BWRAP.format(count=folder / "count", works=works, bwrap=shutil.which("bwrap"))
    (folder / "bwrap").write_text(script, encoding="utf-8")
    (folder / "bwrap").chmod(0o755)
    path = f"{folder}:/usr/bin:/bin"

    asked = ["--isolation", "box"] if works == 0 else []
    ran = validate(place, *asked, PATH=path)
    assert ran.code == 3
    assert "changed its mind" in ran.error + str(ran.result)
    assert not ran.has_run
    tried_as_root_too = works == 0 and isolations.IS_ROOT  # after the worker's own user could not
    assert (folder / "count").read_text().count("x") == works + 1 + tried_as_root_too


@pytest.mark.long
@pytest.mark.skipif(
    not isolations.IS_ROOT, reason="only root has capabilities to lose: run the tests as root"
)
def test_a_containers_root_without_capabilities_still_locks_in_and_counts(place: Path) -> None:
    """Root that may not become another user keeps the level; the process that counts needs no capability."""
    without = [str(shutil.which("setpriv")), "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    command = [*without, *WEAKEN, "docker", *STARTER, "validate", "net.py", "--json", "-"]
    run = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run.stderr
    (result,) = json.loads(run.stdout)["results"]
    assert (result["isolation"], result["status"]) == (expected_level("docker"), "ok")
