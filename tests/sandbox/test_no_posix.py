"""A participant's commands on an imitated machine without POSIX (no_posix.py), at isolation none.

The imitation stands for macOS and Windows as far as its docstring says, and no further.
"""

import json
import os
import subprocess
import zipfile
from pathlib import Path

import crowd
import no_posix
import psutil
import pytest
from conftest import GOOD, Command, drawn_image
from photo_server import SIZE, photograph, serving
from safetensors import safe_open

from starter.cli.start import FIRST
from starter.contract.errors import Status
from starter.contract.submissions import discover
from starter.contract.system.files import own_folder, remove_abandoned
from starter.data.dataset import Dataset, open_dataset

ROOT = Path(__file__).parents[2]
PROBE = """
import ctypes, os, select, signal, socket, subprocess, sys
if sys.argv[1:]:
    sys.exit(subprocess.call([sys.executable, "-I", "-c", *sys.argv[1:]]))

def refused(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except (OSError, ImportError, TypeError) as error:
        return type(error).__name__

names = [(os, "fork"), (os, "pidfd_open"), (os, "getuid"), (os, "O_NOFOLLOW"), (os, "statvfs"),
         (socket, "AF_UNIX"), (socket, "send_fds"), (signal, "SIGKILL"), (select, "poll")]
print(*(f"{module.__name__}.{name}" for module, name in names if hasattr(module, name)))
print(*(refused(__import__, name) for name in ("fcntl", "resource", "pwd")))
print(refused(open, "/proc/self/stat"), refused(os.listdir, "/proc"), refused(ctypes.CDLL, None))
print(refused(select.select, [0], [], []), refused(os.symlink, "a", "b"))
import filelock, psutil
print(psutil.Process().memory_info().rss > 2**20, filelock.FileLock is filelock.UnixFileLock)
with open("a", "w", encoding="utf-8") as file:
    file.write("two\\nlines\\n")
    print(refused(os.remove, "a"), refused(os.replace, "a", "b"))
print(open("a", "rb").read())
open("b", "wb").close()
print(refused(os.rename, "a", "b"), refused(os.replace, "a", "b"))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python from which POSIX is hidden, with this one's packages."""
    return no_posix.make_python(tmp_path_factory.mktemp("no_posix") / "venv", ROOT)


@pytest.fixture
def elsewhere(python: Path, place: Path) -> Command:
    """The command line in the competition's folder, on the imitated machine, with its code page."""

    def call(*arguments: str | Path, expected: int = 0) -> subprocess.CompletedProcess[str]:
        command = [str(python), "-m", "starter", *map(str, arguments)]
        environment = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
        run = subprocess.run(
            command, cwd=place, env=environment, capture_output=True, encoding="cp1252", check=False
        )
        assert run.returncode == expected, run.stdout + run.stderr
        return run

    return call


@pytest.fixture
def entry(place: Path) -> Path:
    """The good plugin, under a name that no code page of western Europe has."""
    path = place / "submissions" / "분리수거.py"
    path.parent.mkdir()
    path.write_text(GOOD, encoding="utf-8")
    return path


def results(run: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(run.stdout)["results"]
    return found


def test_posix_is_hidden_in_a_child_of_a_child_and_libraries_keep_working(
    python: Path, tmp_path: Path
) -> None:
    command = [python, "-c", PROBE, PROBE, PROBE]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert run.stdout.splitlines() == [
        "",
        "ModuleNotFoundError ModuleNotFoundError ModuleNotFoundError",
        "FileNotFoundError FileNotFoundError TypeError",
        "OSError OSError",
        "True True",
        "PermissionError PermissionError",
        r"b'two\r\nlines\r\n'",
        "FileExistsError None",
    ]


@pytest.mark.long
@pytest.mark.parametrize("switches", [(), ("--smoke",)])
def test_a_score_is_the_same(
    elsewhere: Command, starter: Command, entry: Path, switches: tuple[str, ...]
) -> None:
    command = ("score", entry, "--json", "-", "--isolation", "none", *switches)
    (here,), (there,) = results(starter(*command)), results(elsewhere(*command))

    assert there["status"] == "ok"
    for name in ("name", "macs", "macro_f1", "score", "params", "thop_macs", "num_images"):
        assert there[name] == here[name], name


@pytest.mark.long
def test_a_name_that_the_code_page_lacks_is_shown_as_escapes(elsewhere: Command, entry: Path) -> None:
    run = elsewhere("score", entry, "--isolation", "none")

    assert rf"{entry.stem.encode('ascii', 'backslashreplace').decode()}  ok  macro-F1 1.0000" in run.stdout


@pytest.mark.long
def test_a_plugin_is_validated_and_profiled(elsewhere: Command, entry: Path, place: Path) -> None:
    elsewhere("validate", entry, "--layers", "--isolation", "none")
    elsewhere("profile", entry, "--html", "page.html", "--isolation", "none")

    assert b"\r" not in (place / "page.html").read_bytes()
    assert entry.stem in (place / "page.html").read_text(encoding="utf-8")


DISK = "import tempfile\nwith open(tempfile.mkstemp()[0], 'wb') as f:\n    while True: f.write(bytes(2**20))"


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sleep", "noise", "memory", "disk", "crash", "exit", "forged"])
def test_a_limit_is_kept(elsewhere: Command, entry: Path, kind: str) -> None:
    """A nameless file, as in the crowd, is Linux's own."""
    text = DISK if kind == "disk" else crowd._AT_IMPORT[kind]
    entry.write_text(f"{GOOD}\n{text}\n", encoding="utf-8")
    (result,) = results(elsewhere("score", entry, "--json", "-", "--isolation", "none", expected=1))

    assert Status(str(result["status"])) in crowd.EXPECTED[kind]


CHILDREN = """
import subprocess, sys, time
SLEEP = "import time; time.sleep(600)"
START = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', @], stdout=-3, stderr=-3).pid)"
child = subprocess.Popen([sys.executable, "-c", SLEEP])
started = subprocess.run([sys.executable, "-c", START.replace("@", repr(SLEEP))], capture_output=True)
with open(PIDS, "w", encoding="utf-8") as file:
    file.write(f"{child.pid} {int(started.stdout)}")
time.sleep(600)
"""


@pytest.mark.long
def test_what_a_plugin_has_started_ends_with_it(elsewhere: Command, entry: Path, place: Path) -> None:
    """A child, and a grandchild whose parent has ended."""
    pids = place / "pids"
    entry.write_text(f"{GOOD}{CHILDREN.replace('PIDS', repr(str(pids)))}", encoding="utf-8")
    (result,) = results(elsewhere("score", entry, "--json", "-", "--isolation", "none", expected=1))

    assert result["status"] == "timeout"
    started = [int(pid) for pid in pids.read_text(encoding="utf-8").split()]
    assert len(started) == 2
    for pid in started:
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.long
def test_a_first_plugin_is_written_trained_and_packed(elsewhere: Command, place: Path) -> None:
    elsewhere("init", "first", "--dir", "own")
    own = place / "own" / "first"
    assert (own / "plugin.py").read_bytes() == (FIRST / "plugin.py").read_bytes()
    (own / "plugin.py").write_text(GOOD, encoding="utf-8", newline="\n")
    (own / "weights.safetensors").unlink()

    elsewhere("train", "own/first", "--epochs", "2", "--batch-size", "8")
    elsewhere("train", "own/first", "--epochs", "1", "--batch-size", "8")  # in the place of the others
    elsewhere("pack", "own/first", "--out", "first.zip")

    with safe_open(own / "weights.safetensors", framework="pt") as tensors:
        assert set(tensors.keys()) == {"head.weight", "head.bias"}
    with zipfile.ZipFile(place / "first.zip") as archive:
        assert {"first/plugin.py", "first/weights.safetensors"} < set(archive.namelist())
        assert archive.read("first/plugin.py") == GOOD.encode()


@pytest.mark.long
def test_a_plugin_is_compressed(elsewhere: Command, place: Path) -> None:
    pytest.importorskip("torch_pruning")
    data = ("--data", ROOT / "data" / "waste")  # the six classes that the first plugin is trained on
    elsewhere("init", "first", "--dir", "own")
    elsewhere("compress", "own/first", "--out", "own/half", "--method", "prune", "--no-score", *data)
    check = ("validate", "own/first", "own/half", "--json", "-", "--isolation", "none", *data)
    macs = [int(str(result["macs"])) for result in results(elsewhere(*check))]

    assert macs[1] < macs[0]
    assert b"\r" not in (place / "own" / "half" / "plan.json").read_bytes()


@pytest.mark.long
def test_a_search_trains_in_two_processes(elsewhere: Command, place: Path) -> None:
    pytest.importorskip("optuna")
    budget = ("--trials", "2", "--jobs", "2", "--epochs", "1", "--batch-size", "8", "--max-macs", "3000000")
    elsewhere("search", "--out", "found", *budget)

    assert discover([place / "found" / "front"])
    assert b"\r" not in (place / "found" / "index.html").read_bytes()


@pytest.mark.slow
def test_data_sets_are_made_checked_and_shown(elsewhere: Command, place: Path) -> None:
    for number in range(24):
        path = place / "photos" / ("glass", "금속")[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(drawn_image(number % 2, number))
    elsewhere("data", "folder", "photos", "--out", "sorted")
    elsewhere("data", "synth", "--out", "scenes", "--scenes", "60", "--width", "200", "--height", "160")
    scenes = place / "scenes"
    elsewhere("data", "crops", scenes / "annotations.json", "--images", scenes / "images", "--out", "cut")
    elsewhere("data", "check", "sorted")
    shown = elsewhere("data", "show", "sorted", "--html", "page.html", "--png", "sheet.png")

    assert open_dataset(place / "sorted").info.classes == ("glass", "금속")
    assert len(open_dataset(place / "cut").images.ids()) > 0
    assert b"\r" not in (place / "sorted" / "train.csv").read_bytes()
    assert (place / "sheet.png").is_file()
    assert r"\uae08\uc18d" in shown.stdout


def test_photographs_are_downloaded(elsewhere: Command, place: Path) -> None:
    with serving() as server:
        for number in range(6):
            server.files[f"/{number}.jpg"] = photograph(number)
        coco = {
            "images": [
                {"id": n, "file_name": f"{n}.jpg", "width": SIZE[0], "height": SIZE[1],
                 "flickr_url": f"{server.url}/{n}.jpg"}
                for n in range(6)
            ],
            "annotations": [
                {"id": 2 * n + c, "image_id": n, "category_id": c, "bbox": [20 + 100 * c, 30, 80, 100]}
                for n in range(6) for c in (0, 1)
            ],
            "categories": [{"id": 0, "name": "Drink can"}, {"id": 1, "name": "Clear plastic bottle"}],
        }  # fmt: skip
        (place / "taco.json").write_text(json.dumps(coco), encoding="utf-8")
        (place / "two.toml").write_text(
            '[classes]\nMetal = ["Drink can"]\nPlastic = ["Clear plastic bottle"]\n', encoding="utf-8"
        )
        options = ("--mapping", "two.toml", "--test-share", "0.5")
        elsewhere("data", "taco", "--annotations", "taco.json", "--out", "taco", *options)

    assert len(open_dataset(place / "taco").images.ids()) == 12
    assert not list(place.rglob(".partial"))


@pytest.mark.long
def test_a_board_is_shown_and_a_report_verified(
    elsewhere: Command, place: Path, entry: Path, easy_dataset: Dataset
) -> None:
    elsewhere("batch", entry.parent, "--isolation", "none")
    assert list((place / ".starter").rglob("*.npy"))
    for _ in range(2):  # the second in the place of the first
        elsewhere("leaderboard", "--html", "site", "--csv", "board.csv", "--reports", "reports")
    elsewhere("verify", "reports")

    assert entry.stem in (place / "board.csv").read_text(encoding="utf-8")
    assert b"\r" not in (place / "site" / "index.html").read_bytes()
    (predictions,) = (place / "reports").rglob("predictions.csv")
    assert len(predictions.read_bytes().split(b"\n")) == len(easy_dataset.test_ids()) + 2


ABANDON = """
import os, sys
from pathlib import Path
from starter.contract.system.files import own_folder
with own_folder(Path(sys.argv[1]), "own-") as folder:
    (folder / "file").touch()
    print(folder, flush=True)
    if sys.argv[2:]:
        os._exit(1)
    sys.stdin.read()
"""


def test_a_folder_lasts_as_long_as_its_owner(python: Path, tmp_path: Path) -> None:
    command = [str(python), "-c", ABANDON, str(tmp_path)]
    left = subprocess.run([*command, "killed"], capture_output=True, text=True, check=False).stdout.strip()
    assert (Path(left) / "file").exists()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        kept = owner.stdout.readline().strip()
        remove_abandoned(tmp_path, "own-")
        assert (Path(kept) / "file").exists()
    with own_folder(tmp_path, "own-") as own:
        remove_abandoned(tmp_path, "own-")
        assert own.is_dir()

    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_every_test_that_is_for_all_systems_can_be_imported_there(python: Path) -> None:
    command = [python, "-m", "pytest", "--collect-only", "--quiet", "-p", "no:cacheprovider"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-3000:]
    assert "tests/cli/test_cli.py::" in run.stdout
