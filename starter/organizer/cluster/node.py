"""A node's side of a Ray cluster: an actor with a sandbox and a runner that stay warm.

It gets rules, images without labels and one submission at a time, and gives back what the
submission costs and answers. Nothing here needs Ray: driver.py makes an actor of `Worker`.
"""

import hashlib
import io
import os
import secrets
import stat
import tempfile
import threading
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from starter import __version__
from starter.contract.competition import CompetitionFile
from starter.contract.errors import Code, HostError, Problem, Record, StarterError, UsageError, host_error
from starter.contract.hookspecs import Competition
from starter.contract.isolation import Level
from starter.contract.protocol import KeptImages, RunnerHello
from starter.contract.submissions import SubmissionSource
from starter.contract.system.files import atomic_write
from starter.data.dataset import Dataset
from starter.evaluation.measure import Images, LocalMeasurer, Measurement
from starter.evaluation.runner.speed import SpeedPlan
from starter.organizer.environment import installed_here, require_versions
from starter.sandbox.choice import choose
from starter.submission.content import submission_files


class Hello(Record):
    """What a worker says first."""

    starter: str
    """The kit's version there."""
    isolation: Level = Level.NONE
    """How it locks submissions in."""
    machine: str = ""
    """What it runs on."""
    runner: RunnerHello = RunnerHello()
    """What it counts and runs with."""
    problems: tuple[Problem, ...] = ()
    """Why it cannot work."""


@dataclass(frozen=True)
class Work:
    """What every worker is sent once: nothing in it depends on a label."""

    rules: CompetitionFile
    """The competition's rules."""
    cost_rules: dict[str, bytes]
    """The organizer's files of cost rules, by their names in the rules."""
    images: bytes
    """images.zip."""
    ids: tuple[str, ...]
    """Which images, in order."""
    competition: Competition
    """What a plugin may know of the data set."""
    isolation: str | None
    """The level that is asked for."""
    cache_mb: int
    """How much a node keeps of decoded images."""
    device: str
    """What graphs are run on: cpu or cuda."""
    baseline: "Sent | None" = None
    """What entries are timed beside; None: they are not timed."""
    installed: dict[str, str] = field(default_factory=dict)
    """The versions, on the driver, of the packages that the rules name."""


@dataclass(frozen=True)
class Sent:
    """One submission on its way to a worker."""

    source: SubmissionSource
    """Which; its path is the driver's."""
    files: dict[str, bytes]
    """What it consists of."""

    @classmethod
    def of(cls, source: SubmissionSource) -> Self:
        """Return a submission with the bytes of its files."""
        files = submission_files(source)
        return cls(source, {name: path.read_bytes() for name, path in files.items()})

    def written(self, place: Path) -> SubmissionSource:
        """Write its files into a folder; return where it is now."""
        for name, data in self.files.items():
            path = place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return replace(self.source, path=place / self.source.path.name)


def work_of(
    rules: CompetitionFile, dataset: Dataset, *, isolation: str | None, cache_mb: int, device: str
) -> Work:
    """Return what the workers of a batch need."""
    ids = tuple(row.image_id for row in dataset.solution())
    plan = SpeedPlan.of(rules)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for image_id in sorted(ids):
            archive.writestr(zipfile.ZipInfo(image_id), dataset.images.read(image_id))
    return Work(
        rules=rules,
        cost_rules={name: rules.path(name).read_bytes() for name in rules.operator_costs},
        images=file.getvalue(),
        ids=ids,
        competition=dataset.competition,
        isolation=isolation,
        cache_mb=cache_mb,
        device=device,
        baseline=Sent.of(plan.baseline) if plan else None,
        installed=installed_here(rules),
    )


def node_folder() -> Path:
    """Return this user's folder for images on a node; nobody else can read it.

    Raises:
        HostError: somebody else has made it.
    """
    folder = Path(tempfile.gettempdir()) / f"starter-images-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise host_error(Code.WORKER_FAILED, where=str(folder), got="not a folder of this user")
    return folder


def _unpacked(root: Path, images: bytes) -> Path:
    """Return a data set's folder with nothing but images; several workers of a node may make it at once."""
    root.mkdir(exist_ok=True)
    target = root / "images.zip"
    if not target.exists():
        with atomic_write(target, root / secrets.token_hex(8)) as partial:
            partial.write_bytes(images)
    return root


class Worker:
    """An actor: measures submissions on its node.

    Args:
        work: what it is sent once.
    """

    def __init__(self, work: Work) -> None:
        self._hello = Hello(starter=__version__)
        try:
            self._start(work)
        except StarterError as error:
            self._hello = self._hello.model_copy(update={"problems": error.problems})

    def _start(self, work: Work) -> None:
        require_versions(work.installed)
        node = node_folder()
        self._place = tempfile.TemporaryDirectory(prefix="starter-", ignore_cleanup_errors=True)
        root = Path(self._place.name)
        root.chmod(0o711)  # a submission's process becomes another user, and has its own folder in it
        self._tempdir, tempfile.tempdir = tempfile.tempdir, self._place.name
        costs = []
        for number, data in enumerate(work.cost_rules.values()):
            path = root / f"costs{number}.py"
            path.write_bytes(data)
            costs.append(str(path))
        rules = work.rules.model_copy(update={"operator_costs": tuple(costs)})
        isolation = choose(rules, work.isolation)
        digest = hashlib.sha256(work.images).hexdigest()
        kept = KeptImages(folder=node / "decoded", limit_mb=work.cache_mb, fingerprint=digest)
        images = Images(_unpacked(node / digest, work.images), work.ids, work.competition, kept)
        speed = None
        if work.baseline is not None:
            source = work.baseline.written(root / "baseline")
            speed = SpeedPlan(source, takings=rules.score.speed_takings, must_tell=True)
        self._measurer = LocalMeasurer(
            rules, images, isolation=isolation, threads=1, device=work.device, speed=speed
        )
        self._sandbox = self._measurer.sandbox()
        self._stop = threading.Event()

    def hello(self) -> Hello:
        """Say what this is, once it is ready."""
        if not self._hello.problems:
            try:
                runner = self._measurer.hello
            except StarterError as error:
                return self._hello.model_copy(update={"problems": error.problems})
            about = {"isolation": self._measurer.isolation, "machine": self._measurer.machine}
            return self._hello.model_copy(update={**about, "runner": runner})
        return self._hello

    def measure(self, sent: Sent) -> Measurement | UsageError:
        """Measure one submission; an error is returned, for Ray would wrap it."""
        with tempfile.TemporaryDirectory(prefix="starter-", ignore_cleanup_errors=True) as place:
            source = sent.written(Path(place))
            try:
                exported = self._measurer.export(source, self._sandbox, self._stop)
                found = self._measurer.run(source, lambda: exported)
            except HostError as error:
                found = Measurement(source, problems=error.problems)
            except UsageError as error:
                return error
        return replace(found, source=sent.source)

    def close(self) -> None:
        """End the sandbox and the runner."""
        if not self._hello.problems:
            self._sandbox.close()
            self._measurer.close()
            tempfile.tempdir = self._tempdir
            self._place.cleanup()
