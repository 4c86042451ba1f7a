"""Codabench's side, as its own code does it: reads a bundle, and runs the two steps of a submission.

After codalab/codabench: src/apps/competitions/unpackers/v2.py (what a bundle must hold), tasks.py there
(`_send_to_compute_worker`: what each step gets) and compute_worker/compute_worker.py (`Run`: folders, mounts,
dropped capabilities, what is kept). Docker is imitated by the kernel: new namespaces, a root that
holds system, Python environment and the mounts, no capability, no new privileges, Docker's default filter.
"""

import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

PACKAGE = Path(__file__).parents[2] / "starter"
WEAKEN = Path(__file__).with_name("weaker_host.py")
COMMANDS = {
    "$input": {"ingestion": "/app/input_data", "program": "/app/input"},
    "$output": {"ingestion": "/app/output", "program": "/app/output"},
    "$program": {"ingestion": "/app/program", "program": "/app/program"},
    "$ingestion_program": {"ingestion": "/app/program", "program": "/app/program"},
    "$submission_program": {"ingestion": "/app/ingested_program", "program": "/app/ingested_program"},
}
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/sys")
DEVICES = ("null", "zero", "full", "random", "urandom")


def lacks() -> str:
    """Return why this machine cannot imitate a container; nothing if it can."""
    if not hasattr(os, "getuid") or os.getuid() != 0:
        return "only root can imitate a container: run the tests as root"
    for tool in ("unshare", "setpriv", "mount", "chroot"):
        if shutil.which(tool) is None:
            return f"no {tool} here: apt install util-linux coreutils"
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--ipc", "--fork", "true"], check=False, capture_output=True
    )
    return "no new namespaces here: run the tests on a machine that allows them" if tried.returncode else ""


@dataclass
class Competition:
    """A bundle as the platform has unpacked it."""

    folder: Path
    yaml: dict[str, Any]

    @classmethod
    def unpacked(cls, bundle: Path, folder: Path) -> "Competition":
        """Unpack a bundle and check what V2Unpacker checks."""
        with zipfile.ZipFile(bundle) as archive:
            archive.extractall(folder)
        found = cls(folder, yaml.safe_load((folder / "competition.yaml").read_text(encoding="utf-8")))
        found._check()
        return found

    def _check(self) -> None:
        values = self.yaml
        assert str(values["version"]) == "2"
        assert values["title"]
        for page in values["pages"]:
            assert page["title"]
            assert (self.folder / page["file"]).read_text(encoding="utf-8")
        assert (self.folder / values["terms"]).read_text(encoding="utf-8")
        assert (self.folder / values["image"]).read_bytes().startswith(b"\x89PNG")
        tasks = [task["index"] for task in values["tasks"]]
        assert len(set(tasks)) == len(tasks)
        for task in values["tasks"]:
            for kind in ("ingestion_program", "scoring_program", "input_data", "reference_data"):
                assert (self.folder / task[kind]).is_dir()
        for solution in values["solutions"]:
            assert (self.folder / solution["path"]).is_file()
            assert set(solution["tasks"]) <= set(tasks)
        ends: list[datetime] = []
        for phase in sorted(values["phases"], key=lambda phase: phase["index"]):
            assert set(phase["tasks"]) <= set(tasks)
            assert (self.folder / phase["starting_kit"]).is_dir()
            assert (self.folder / phase["public_data"]).is_dir()
            # A value that YAML reads as a date is moved to midnight.
            assert isinstance(phase["start"], str)
            start = datetime.fromisoformat(phase["start"])
            assert not ends or start >= ends[-1]
            ends += [datetime.fromisoformat(phase["end"])] if "end" in phase else []
        for board in values["leaderboards"]:
            assert board["key"]
            assert [column["index"] for column in board["columns"]] == list(range(len(board["columns"])))

    def task(self, index: int) -> dict[str, Path]:
        """Return the folders of a task."""
        kinds = ("ingestion_program", "scoring_program", "input_data", "reference_data")
        (task,) = (task for task in self.yaml["tasks"] if task["index"] == index)
        return {kind: self.folder / task[kind] for kind in kinds}


@dataclass
class Ran:
    """What became of a step."""

    output: Path
    """What the platform keeps of it."""
    codes: dict[str, int] = field(default_factory=dict)
    """The exit codes, by "program" and "ingestion"."""
    logs: dict[str, str] = field(default_factory=dict)
    """stdout and stderr."""


class Worker:
    """A compute worker with a folder of its own.

    Args:
        place: where runs are made.
        copies: whether files of a submission without `metadata` are copied into the output, as workers of
            today do.
    """

    def __init__(self, place: Path, *, copies: bool = True) -> None:
        self._place = place
        self._copies = copies
        self._count = 0

    def predict(self, submission: Path, task: dict[str, Path]) -> Ran:
        """Run the prediction step on a zip that was submitted."""
        root = self._root()
        with zipfile.ZipFile(submission) as archive:
            archive.extractall(root / "program")
        shutil.copytree(task["ingestion_program"], root / "ingestion_program")
        shutil.copytree(task["input_data"], root / "input_data")  # no reference data: `if is_scoring`
        return self._start(root, is_scoring=False)

    def score(self, predicted: Ran, task: dict[str, Path]) -> Ran:
        """Run the scoring step on what a prediction step left."""
        root = self._root()
        shutil.copytree(task["scoring_program"], root / "program")
        shutil.copytree(task["reference_data"], root / "input" / "ref")
        shutil.copytree(predicted.output, root / "input" / "res")
        return self._start(root, is_scoring=True)

    def _root(self) -> Path:
        self._count += 1
        root = self._place / f"run{self._count}"
        root.mkdir(parents=True)
        return root

    def _start(self, root: Path, *, is_scoring: bool) -> Ran:
        ran = Ran(root / "output")
        self._run(root, root / "program", "program", ran, is_scoring=is_scoring)
        self._run(root, root / "ingestion_program", "ingestion", ran, is_scoring=is_scoring)
        ran.output.mkdir(exist_ok=True)
        assert not (ran.output / "metadata").exists(), "the platform refuses an output with a file metadata"
        (ran.output / "metadata").write_text(yaml.safe_dump({"exitCode": ran.codes.get("program")}))
        return ran

    def _run(self, root: Path, program: Path, kind: str, ran: Ran, *, is_scoring: bool) -> None:
        if not program.exists():
            return
        names = [name for name in ("metadata.yaml", "metadata") if (program / name).exists()]
        if not names:
            assert kind == "program", "Program directory missing 'metadata.yaml/metadata'"
            if self._copies:
                shutil.copytree(program, root / "output")
            return
        metadata = yaml.safe_load((program / names[0]).read_text(encoding="utf-8"))
        command = metadata.get("command") if isinstance(metadata, dict) else None
        if not command:
            return
        for variable, values in COMMANDS.items():
            command = command.replace(variable, values[kind])
        mounts = {program: "/app/program", root / "output": "/app/output"}
        if kind == "ingestion":
            mounts[root / "program"] = "/app/ingested_program"
        if is_scoring:
            mounts |= {root / "shared": "/app/shared", root / "input": "/app/input"}
        if (root / "input_data").exists():
            mounts[root / "input_data"] = "/app/input_data"
        for path in mounts:
            path.mkdir(exist_ok=True)
        run = container(command, mounts, self._place / f"{root.name}-{kind}")
        ran.codes[kind], ran.logs[kind] = run.returncode, run.stdout + run.stderr


def container(command: str, mounts: dict[Path, str], root: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as Docker does for a compute worker: as root without a capability, in a root of its own.

    Args:
        command: the words of `metadata`.
        mounts: what is mounted where; nothing else of the machine's files is there but system and Python.
        root: a new folder for the root.
    """
    environment = {
        path for path in (sys.prefix, sys.base_prefix, str(PACKAGE)) if not path.startswith("/usr/")
    }
    own_tmp = shlex.quote(str(root / "tmp"))  # before what is bound, which may lie below the machine's
    lines = ["set -e", "mount --make-rprivate /"]
    lines.append(f"mkdir -p {own_tmp} && mount -t tmpfs -o mode=1777 tmpfs {own_tmp}")

    def bind(source: str, target: str, options: str = "") -> None:
        there = shlex.quote(f"{root}{target}")
        lines.append(f"mkdir -p {there} && mount --bind {shlex.quote(source)} {there}")
        if options:
            lines.append(f"mount -o remount,bind,{options} {there}")

    for path in SYSTEM:
        if Path(path).is_symlink():
            lines.append(f"ln -s {Path(path).readlink()} {shlex.quote(f'{root}{path}')}")
        elif Path(path).exists():
            bind(path, path, "ro")
    for path in sorted(environment):
        bind(path, path, "ro")
    if found := shutil.which("bwrap"):
        lines.append(f"mount --bind /dev/null {shlex.quote(f'{root}{found}')}")
    for name in DEVICES:
        device = shlex.quote(f"{root}/dev/{name}")
        lines.append(
            f"mkdir -p {shlex.quote(f'{root}/dev')} && touch {device} && mount --bind /dev/{name} {device}"
        )
    for source, target in mounts.items():
        bind(str(source.resolve()), target)
    quoted = shlex.quote(str(root))
    lines += [
        f"cd {quoted} && mkdir -p proc root opt",
        "mkdir dev/shm && mount -t proc proc proc",
        "mount -t tmpfs -o mode=1777 tmpfs dev/shm",
        f"cp {shlex.quote(str(WEAKEN))} opt/weaker_host.py",
    ]
    variables = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "PYTHONUNBUFFERED": "1",
        "HOME": "/root",
        **{name: value for name, value in os.environ.items() if name == "OMP_NUM_THREADS"},
    }
    words = ["exec", "chroot", str(root), "/usr/bin/env", "--chdir=/app/program"]
    words += ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    words += [sys.executable, "/opt/weaker_host.py", "docker", "/usr/bin/env", "-i"]
    words += [f"{name}={value}" for name, value in variables.items()]
    lines.append(f"{shlex.join(words)} {command}")
    root.mkdir()
    return subprocess.run(
        ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "bash", "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
