"""What a plugin may import, which versions are installed, and the lock: with packages that are here."""

import base64
import csv
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import crowd
import pytest
from conftest import Command
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from starter.cli.app import load
from starter.contract.competition import load_competition
from starter.contract.errors import Code, UsageError
from starter.contract.system.packages import (
    allowed_packages,
    differences,
    hidden_modules,
    installed_version,
    locked,
    requirement,
)
from starter.data.dataset import Dataset
from starter.organizer.cluster.node import work_of
from starter.organizer.environment import require_versions

DOCUMENT = (Path(__file__).parents[2] / "docs" / "environment.md").read_text(encoding="utf-8")
HYPOTHESIS = installed_version("hypothesis")


def allow(place: Path, *lines: str) -> None:
    rules = place / "competition.toml"
    text = rules.read_text().replace("wall_seconds = 6\n", "wall_seconds = 60\n")  # no test here is of time
    rules.write_text(text + "\n[environment]\n" + "\n".join(lines) + "\n")


def write_plugins(place: Path, **heads: str) -> Path:
    """The good plugin, with something in front of it."""
    folder = place / "plugins"
    folder.mkdir(exist_ok=True)
    for name, head in heads.items():
        (folder / f"{name}.py").write_text(f"{head}\n{crowd.GOOD}")
    return folder


def problems_of(starter: Command, place: Path, *paths: Path) -> dict[str, list[dict[str, str]]]:
    starter("validate", *paths, "--json", "found.json", expected=1)
    found = json.loads((place / "found.json").read_text())["results"]
    return {result["name"]: result["problems"] for result in found}


def test_what_the_kit_needs_is_always_allowed_and_what_tests_need_is_not() -> None:
    allowed = allowed_packages(())
    assert {"macs-starter", "torch", "torchvision", "numpy", "pillow", "sympy"} <= allowed
    assert not {"pytest", "timm", "mypy"} & allowed
    hidden = hidden_modules(())
    assert hidden["timm"] == "timm"
    assert hidden["_pytest"] == "pytest"
    assert not {"torch", "torchvision", "numpy", "PIL", "starter", "sympy", "json"} & hidden.keys()


def test_an_allowed_package_brings_what_it_needs() -> None:
    assert {"timm", "huggingface-hub", "tqdm"} <= allowed_packages(("timm",))
    assert not {"timm", "huggingface_hub", "tqdm"} & hidden_modules(("timm==1.*",)).keys()
    assert "pytest" in hidden_modules(("timm==1.*",))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('packages = ["timm = 1"]', "PEP 508"),
        ('packages = ["timm @ https://example.org/timm.whl"]', "names an address"),
        ('packages = ["ti-mm", "Ti_mm>1"]', "named more than once: ti-mm"),
        ("package = []", "Extra inputs"),
    ],
)
def test_a_wrong_list_of_packages_is_refused(place: Path, line: str, said: str) -> None:
    allow(place, line)
    with pytest.raises(UsageError) as caught:
        load_competition(place / "competition.toml")
    (found,) = caught.value.problems
    assert found.code is Code.BAD_COMPETITION
    assert said in found.expected


@pytest.mark.long
def test_an_import_of_another_package_is_refused_at_every_stage(starter: Command, place: Path) -> None:
    """On import, in the hook and in forward(); installed or not; the message says what is allowed."""
    allow(place, 'packages = ["einops>=0.8"]')
    later = crowd.GOOD.replace("    return Submission(", "    import hypothesis\n    return Submission(")
    inside = crowd.GOOD.replace(
        "        return self.head", "        import hypothesis\n        return self.head"
    )
    folder = write_plugins(
        place, first="import hypothesis.strategies", absent="import no_such_module", asked="import einops"
    )
    (folder / "hook.py").write_text(later)
    (folder / "forward.py").write_text(inside)
    own = folder / "own"
    own.mkdir()
    head = (
        "import hypothesis, numpy, sympy, scipy, PIL\nassert hypothesis.MINE\n"
        "try:\n    import pytest\nexcept ImportError:\n    pytest = None\nassert pytest is None\n"
    )
    (own / "plugin.py").write_text(f"{head}{crowd.GOOD}")
    (own / "hypothesis.py").write_text("MINE = True")

    found = problems_of(starter, place, folder)

    assert found["own"] == []
    for name, line in (("first", "first.py:1"), ("hook", "hook.py:20"), ("forward", "forward.py:16")):
        (told,) = found[name]
        assert told["code"] == Code.PACKAGE_NOT_ALLOWED
        assert told["where"].startswith(line)
        assert told["got"] == (
            f"import hypothesis: the package hypothesis {HYPOTHESIS} is installed here, but not allowed"
        )
        assert "torch, torchvision, numpy" in told["expected"]
        assert "einops>=0.8" in told["expected"]
        assert "ask the organizer" in told["hint"]
    assert [(p["code"], p["got"]) for p in found["absent"]] == [
        (Code.PACKAGE_NOT_ALLOWED, "import no_such_module: no such module")
    ]
    if importlib.util.find_spec("einops") is None:
        (told,) = found["asked"]
        assert (told["code"], told["hint"]) == (Code.IMPORT_FAILED, "Install it: pip install 'einops>=0.8'")


@pytest.mark.long
def test_without_a_list_whatever_is_installed_can_be_imported(starter: Command, place: Path) -> None:
    folder = write_plugins(place, first="import hypothesis", absent="import no_such_module")
    found = problems_of(starter, place, folder)
    assert found["first"] == []
    assert [p["code"] for p in found["absent"]] == [Code.IMPORT_FAILED]


@pytest.mark.long
def test_a_batch_refuses_another_environment_unless_any_will_do(starter: Command, place: Path) -> None:
    allow(place, 'packages = ["hypothesis<1", "no-such-package", "numpy>=1; python_version < \'3\'"]')
    write_plugins(place, net="import hypothesis")

    run = starter("batch", "plugins", expected=2)
    text = " ".join(run.stderr.split())
    assert "U180" in text
    assert f"hypothesis {HYPOTHESIS}" in text
    assert "hypothesis<1" in text
    assert "no-such-package not installed" in text
    assert "--any-environment" in text
    assert "numpy" not in text
    assert not (place / ".starter").exists()

    run = starter("batch", "plugins", "--any-environment", "--json", "found.json")
    assert f"another environment: hypothesis {HYPOTHESIS}, not hypothesis<1" in run.stderr
    (record,) = json.loads((place / "found.json").read_text())["results"]
    assert record["result"]["status"] == "ok"
    assert record["versions"]["hypothesis"] == HYPOTHESIS
    assert record["versions"]["no-such-package"] == "not installed"
    assert {"python", "torch", "torchvision", "starter", "machine"} <= record["versions"].keys()


@pytest.mark.long
def test_another_list_leaves_results_as_they_are(starter: Command, place: Path) -> None:
    """No figure depends on it; an entry that it has refused is tried again on demand."""
    write_plugins(place, net="", other="import hypothesis")
    allow(place, "packages = []")
    assert "2 results: 1 ok, 1 invalid" in starter("batch", "plugins").stdout
    rules = place / "competition.toml"
    rules.write_text(rules.read_text().replace("packages = []", 'packages = ["hypothesis"]'))
    assert "2 entries: 2 done" in starter("batch", "plugins").stdout
    assert "1 results: 1 ok" in starter("batch", "plugins", "--retry", "failed").stdout


@pytest.mark.slow
def test_the_doctor_and_env_say_what_is_installed(starter: Command, place: Path) -> None:
    assert "hypothesis" not in starter("env").stdout
    assert "whatever is installed" in starter("env").stderr
    allow(place, 'packages = ["hypothesis", "pytest<2"]')
    lines = starter("doctor").stdout.splitlines()
    assert f"ok    hypothesis {HYPOTHESIS} (any)" in lines
    assert f"no    pytest {installed_version('pytest')} (<2)" in lines
    assert "      to get what the rules name: pip install 'pytest<2'" in lines

    shown = [line.split() for line in starter("env").stdout.splitlines()]
    assert shown[:2] == [["hypothesis", HYPOTHESIS], ["pytest", installed_version("pytest"), "(<2)"]]
    assert ["torch", installed_version("torch")] in shown


def test_a_node_with_other_versions_than_the_driver_is_refused(place: Path, easy_dataset: Dataset) -> None:
    allow(place, 'packages = ["hypothesis"]')
    rules = load_competition(place / "competition.toml")
    work = work_of(rules, easy_dataset, isolation=None, cache_mb=1, device="cpu")
    assert work.installed == {"hypothesis": HYPOTHESIS}
    require_versions(work.installed)
    with pytest.raises(UsageError) as caught:
        require_versions({"hypothesis": "1.0"})
    assert caught.value.problems[0].got == f"hypothesis {HYPOTHESIS} there, 1.0 here"


def test_a_lock_is_read_with_its_markers_and_without_its_hashes() -> None:
    text = (
        "# made by somebody\n"
        f"hypothesis=={HYPOTHESIS} \\\r\n    --hash=sha256:{'0' * 64} \\\r\n    --hash=sha256:{'1' * 64}\r\n"
        "no-such-package==1.0 ; sys_platform == 'none' \\\n    --hash=sha256:00\n"
        "pytest==1.0\n"
    )
    pins = locked(text)
    assert [pin.name for pin in pins] == ["hypothesis", "no-such-package", "pytest"]
    assert [(found.name, found.expected) for found in differences(pins)] == [("pytest", "pytest==1.0")]


def test_a_local_version_satisfies_the_pin_of_the_public_one() -> None:
    assert requirement("torch==2.9.0").specifier.contains(Version("2.9.0+cpu"))


def wheel(folder: Path, name: str, version: str, requires: list[str]) -> None:
    """Write an empty wheel that needs something."""
    stem = f"{canonicalize_name(name).replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    needs = "".join(f"Requires-Dist: {text}\n" for text in requires)
    extras = {e for text in requires for e in re.findall(r"extra == ['\"]([\w.-]+)['\"]", text)}
    provides = "".join(f"Provides-Extra: {extra}\n" for extra in sorted(extras))
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{provides}{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = io.StringIO()
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        csv.writer(record, lineterminator="\n").writerow([path, f"sha256={digest}", len(text)])
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as archive:
        for path, text in (*files.items(), (f"{info}/RECORD", record.getvalue())):
            archive.writestr(path, text)


def everything_needed(roots: list[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield name, version and needs of each package that some system might need."""
    waiting, seen = [Requirement(text) for text in roots], set()
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
            version, requires = str(Version(found.version).public), found.requires or []
        except importlib.metadata.PackageNotFoundError:  # for another system
            bounds = [bound.version.removesuffix(".*") for bound in one.specifier]
            version = next(v for v in [*bounds, "1.0"] if one.specifier.contains(v))
            requires = []
        yield one.name, version, requires
        waiting += [Requirement(text) for text in requires if "extra ==" not in text or one.extras]


def look_only_in(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let uv know a folder instead of a registry."""
    values = {"FIND_LINKS": wheels, "OFFLINE": 1, "NO_CONFIG": 1, "CACHE_DIR": wheels.with_name("cache")}
    for name, value in values.items():
        monkeypatch.setenv(f"UV_{name}", str(value))


@pytest.mark.slow
def test_the_lock_holds_what_is_installed_and_a_batch_asks_for_it(
    starter: Command, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By uv itself, against a folder of empty wheels of what is installed here."""
    pytest.importorskip("uv", reason="uv is not installed: pip install -e '.[lock]'")
    wheels = place / "wheels"
    wheels.mkdir()
    own = [text for text in importlib.metadata.requires("macs-starter") or () if "extra ==" not in text]
    for package in everything_needed([*own, "hypothesis"]):
        wheel(wheels, *package)
    look_only_in(wheels, monkeypatch)
    allow(place, 'packages = ["hypothesis"]')

    run = starter("env", "--out", "environment.txt")

    text = (place / "environment.txt").read_text()
    pins = {pin.name: str(pin.specifier) for pin in locked(text)}
    assert f"environment.txt  {len(locked(text))} packages" in run.stdout
    assert pins["hypothesis"] == f"=={HYPOTHESIS}"
    assert pins["torch"] == f"=={Version(installed_version('torch')).public}"
    assert {"numpy", "torchvision", "sortedcontainers"} <= pins.keys()
    assert "pytest" not in pins
    assert text.count("--hash=sha256:") == len(locked(text))
    assert "://" not in text
    assert str(place) not in text
    assert "U106" in starter("env", "--out", "environment.txt", expected=2).stderr

    rules = place / "competition.toml"
    rules.write_text(rules.read_text() + 'lock = "environment.txt"\n')
    write_plugins(place, net="import hypothesis")
    assert "evaluate   net/net" in starter("batch", "plugins", "--dry-run").stdout
    (place / "environment.txt").write_text(text.replace(f"hypothesis=={HYPOTHESIS}", "hypothesis==1.0"))
    refused = " ".join(starter("batch", "plugins", expected=2).stderr.split())
    assert "hypothesis==1.0" in refused
    assert "--require-hashes" in refused
    assert f"no    hypothesis {HYPOTHESIS} (==1.0)" in starter("doctor").stdout


@pytest.mark.slow
def test_versions_that_no_registry_has_are_named_by_uv(
    starter: Command, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("uv", reason="uv is not installed: pip install -e '.[lock]'")
    (place / "wheels").mkdir()
    look_only_in(place / "wheels", monkeypatch)
    failed = starter("env", "--out", "lock.txt", expected=2).stderr
    assert "U181" in failed
    assert "uv pip compile" in failed
    assert "No solution found" in failed
    assert not (place / "lock.txt").exists()


@pytest.mark.slow
def test_a_lock_that_is_missing_is_named_with_the_command_that_writes_it(
    starter: Command, place: Path
) -> None:
    allow(place, 'lock = "environment.txt"')
    text = " ".join(starter("batch", "plugins", expected=2).stderr.split())
    assert "U104" in text
    assert "starter env --out environment.txt" in text
    assert "FAIL  environment: U104" in starter("doctor", expected=3).stdout


def test_without_uv_the_command_says_how_to_install_it(place: Path) -> None:
    """In a process that has neither the package nor the program."""
    code = (
        "import sys, os\n"
        "from starter.contract.system.hiding import hide\n"
        "hide(['uv'])\n"
        "os.environ['PATH'] = ''\n"
        "sys.argv = ['starter', 'env', '--out', 'lock.txt']\n"
        "from starter.cli.app import main\n"
        "main()\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "U501" in run.stderr
    assert "pip install 'macs-starter[lock]'" in " ".join(run.stderr.split())


def test_the_document_shows_every_option_and_its_rules_are_valid(place: Path) -> None:
    shown = {
        word
        for rest in re.findall(r"^\$ starter env(.*)$", DOCUMENT, re.MULTILINE)
        for word in shlex.split(rest)
    }
    options = {o for option in load("env").params for o in option.opts if o.startswith("--")}
    assert options - {"--help", "--competition"} <= shown
    for block in re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL):
        folder = place / "shown"
        folder.mkdir(exist_ok=True)
        (folder / "competition.toml").write_text(f'name = "shown"\n{block}')
        assert load_competition(folder / "competition.toml").environment.packages
