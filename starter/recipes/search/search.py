"""`starter search`: find small networks on the Pareto front of MACs and macro F1.

Optuna proposes networks (NSGA-II, two objectives), the kit's counter measures the cost of each before
training, and a network outside the budget is not trained at all. Everything is kept: the
study in one SQLite file, each trained network as a plugin folder.
"""

import contextlib
import filecmp
import json
import multiprocessing
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import torch
from pydantic import BaseModel, ConfigDict, Field

from starter.contract.errors import Code, usage_error
from starter.contract.submissions import discover_one
from starter.contract.system.extras import require_extra
from starter.contract.system.files import atomic_write
from starter.contract.system.processors import available
from starter.data.dataset import Dataset, open_dataset
from starter.evaluation.scoring import pareto_front
from starter.plugin.count import count_model
from starter.plugin.load import load_plugin_apart
from starter.recipes.training.checkpoint import refuse_other_run
from starter.recipes.training.loop import train
from starter.recipes.training.settings import TrainSettings
from starter.submission import pipeline, transforms

if TYPE_CHECKING:
    import optuna

NUM_STAGES = 3
_STUDY = "starter"
_POPULATION = 20
_NO_BYTECODE = shutil.ignore_patterns("__pycache__")
_MOST_REFUSALS = 2000
"""Consecutive proposals outside the budget after which the search gives up."""


class SearchSettings(BaseModel):
    """The settings of a search."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trials: int = Field(default=40, ge=1)
    """Networks to train in total, including those of earlier calls."""
    min_macs: int = Field(default=500_000, ge=1)
    """Fewest MACs per image."""
    max_macs: int = Field(default=20_000_000, ge=1)
    """Most MACs per image."""
    jobs: int = Field(default=1, ge=1)
    """Networks trained at once, each on its share of the cores."""
    train: TrainSettings = TrainSettings(epochs=20)
    """The training options of each network."""


class Found(BaseModel):
    """One trained network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    """The network's number in the study."""
    macs: int
    """MACs of one image, by the kit's counter."""
    macro_f1: float
    """Validation macro F1 after its short training."""
    config: dict[str, Any]
    """Its config.json."""
    folder: str
    """Its plugin folder, inside the search's."""


class StageConfig(TypedDict):
    """Blocks of one width; the first one halves the resolution."""

    channels: int
    depth: int
    kernel: int
    expansion: int


class NetworkConfig(TypedDict):
    """The contents of config.json."""

    resolution: int
    stem: int
    stages: list[StageConfig]


def propose(trial: "optuna.Trial") -> NetworkConfig:
    """Draw a network: resolution, stem, and for each stage width, depth, kernel and expansion."""
    stages: list[StageConfig] = [
        {
            "channels": 4 * 2**i * trial.suggest_int(f"width{i}", 2, 16, log=True),
            "depth": trial.suggest_int(f"depth{i}", 1, 4),
            "kernel": trial.suggest_categorical(f"kernel{i}", [3, 5]),
            "expansion": trial.suggest_int(f"expansion{i}", 1, 4),
        }
        for i in range(NUM_STAGES)
    ]
    return {
        "resolution": trial.suggest_int("resolution", 32, 112, step=8),
        "stem": trial.suggest_int("stem", 8, 32, step=4),
        "stages": stages,
    }


def contraction_macs(config: NetworkConfig, num_classes: int) -> int:
    """Return the cost of a network's convolutions and its linear layer, a lower bound of its MACs.

    Counting a network takes seconds, and most proposals are too large.
    """
    side, channels = -(-config["resolution"] // 2), config["stem"]
    total = side**2 * 27 * channels
    for stage in config["stages"]:
        for i in range(stage["depth"]):
            wide = channels * stage["expansion"]
            if stage["expansion"] > 1:
                total += side**2 * channels * wide
            side = -(-side // 2) if i == 0 else side
            total += side**2 * wide * (stage["kernel"] ** 2 + stage["channels"])
            channels = stage["channels"]
    return total + channels * num_classes


def write_candidate(folder: Path, config: NetworkConfig) -> Path:
    """Write a network of the search space as a plugin without weights."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("plugin.py", "network.py"):
        text = files("starter.recipes.search").joinpath("mobile", name).read_text(encoding="utf-8")
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8", newline="\n")
    return folder


def write_front(folder: Path, found: Sequence[Found]) -> list[Found]:
    """Copy each network of the Pareto front to a plugin folder in front/; return them by rising MACs.

    A folder that has changed since then, for example by more training, is left alone.
    """
    best = []
    for i in pareto_front([(item.macs, item.macro_f1) for item in found]):
        place = _front_place(found[i])
        if not (folder / place).exists():
            (folder / place).parent.mkdir(exist_ok=True)
            with atomic_write(folder / place, folder / "front.partial") as partial:
                shutil.copytree(folder / found[i].folder, partial, ignore=_NO_BYTECODE)
        best.append(found[i].model_copy(update={"folder": place}))
    on_front = {item.folder for item in best}
    for item in found:
        place = _front_place(item)
        if place not in on_front and _alike(folder / item.folder, folder / place):
            shutil.rmtree(folder / place)
    return best


def _front_place(item: Found) -> str:
    return f"front/mobile-{item.macs / 1e6:.2f}M-{item.number}"


def _alike(one: Path, other: Path) -> bool:
    """Return whether two folders hold the same files, bytecode aside."""
    if not other.is_dir():
        return False
    names = [{path.name for path in folder.iterdir()} - {"__pycache__"} for folder in (one, other)]
    match, _, _ = filecmp.cmpfiles(one, other, names[0], shallow=False)
    return names[0] == names[1] == set(match)


class Search:
    """A study and its folder.

    Args:
        dataset: the data set to train on.
        settings: the settings of the search.
        study: the SQLite file; an existing one is resumed.
        folder: the folder for the plugins and the page.

    Raises:
        UsageError: U501, Optuna is missing; U502, the study was trained with other settings or data.
    """

    def __init__(self, dataset: Dataset, settings: SearchSettings, study: Path, folder: Path) -> None:
        require_extra("optuna", "starter search")
        import optuna  # noqa: PLC0415 - an optional package

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study.parent.mkdir(parents=True, exist_ok=True)
        self._dataset, self._settings, self._folder = dataset, settings, folder
        self._states = optuna.trial.TrialState
        directions: list[Literal["minimize", "maximize"]] = ["minimize", "maximize"]
        self._study = optuna.create_study(
            storage=f"sqlite:///{study.absolute()}",
            study_name=_STUDY,
            directions=directions,
            sampler=optuna.samplers.NSGAIISampler(population_size=_POPULATION),
            load_if_exists=True,
        )
        known = self._study.get_trials(deepcopy=False)
        # Another seed may go on: it chooses what is proposed, not what a network is worth.
        made = settings.train.model_dump(mode="json", exclude={"seed"}) | {"data": dataset.fingerprint()}
        if any(trial.state is self._states.COMPLETE for trial in known):
            refuse_other_run(str(study), self._study.user_attrs.get("training", made), made)
        self._study.set_user_attr("training", made)
        # Proposals are drawn in memory, where the many that are too large cost little. The seed
        # depends on what is known: a search that goes on must not draw the same networks again.
        sampler = optuna.samplers.NSGAIISampler(
            population_size=_POPULATION, seed=settings.train.seed + len(known)
        )
        self._drafts = optuna.create_study(directions=directions, sampler=sampler)
        for trial in known:
            if trial.state is self._states.COMPLETE:
                self._drafts.add_trial(trial)
            if trial.state is self._states.RUNNING:  # it was killed there
                self._study.tell(trial.number, state=self._states.FAIL)
                self._study.enqueue_trial(trial.params, user_attrs=trial.user_attrs)
                shutil.rmtree(self._place(trial.number), ignore_errors=True)

    def run(self, log: Callable[[str], None], on_progress: Callable[[int, int], None]) -> None:
        """Propose, count and train until there are enough trained networks."""
        running: dict[Future[float], optuna.Trial] = {}
        wanted = self._settings.trials
        threads = max(1, available().threads // self._settings.jobs)
        with _pool(self._settings.jobs) as submit:
            while True:
                done = len(self.found())
                on_progress(done, wanted)
                while len(running) < self._settings.jobs and done + len(running) < wanted:
                    trial = self._next()
                    place, settings = self._place(trial.number), self._settings.train.model_dump_json()
                    running[submit(train_candidate, place, self._dataset.root, settings, threads)] = trial
                if not running:
                    return
                for job in wait(running, return_when=FIRST_COMPLETED).done:
                    trial, f1 = running.pop(job), job.result()
                    macs = trial.user_attrs["macs"]
                    self._drafts.add_trial(self._study.tell(trial, (macs, f1)))
                    log(f"trial {trial.number:4d}  MACs {macs:>11,}  validation macro F1 {f1:.4f}")

    def found(self) -> list[Found]:
        """Return all trained networks, in the order of their numbers."""
        return [
            Found(
                number=trial.number,
                macs=round(trial.values[0]),
                macro_f1=trial.values[1],
                config=json.loads((self._place(trial.number) / "config.json").read_text(encoding="utf-8")),
                folder=self._place(trial.number).relative_to(self._folder).as_posix(),
            )
            for trial in self._study.get_trials(deepcopy=False, states=(self._states.COMPLETE,))
        ]

    def _place(self, number: int) -> Path:
        return self._folder / "trials" / f"trial-{number:04d}"

    def _next(self) -> "optuna.Trial":
        """Return the next network to train, written as a plugin; one that was interrupted comes first."""
        if not self._study.get_trials(deepcopy=False, states=(self._states.WAITING,)):
            self._enqueue()
        trial = self._study.ask()
        write_candidate(self._place(trial.number), propose(trial))
        return trial

    def _enqueue(self) -> None:
        """Draw networks until one is within the budget, and queue it for training."""
        least, most = self._settings.min_macs, self._settings.max_macs
        for _ in range(_MOST_REFUSALS):
            draft = self._drafts.ask()
            config = propose(draft)
            self._drafts.tell(draft, state=self._states.PRUNED)  # what is trained is added
            if contraction_macs(config, len(self._dataset.info.classes)) > most:
                continue
            macs = self._count(config)
            if least <= macs <= most:
                self._study.enqueue_trial(draft.params, user_attrs={"macs": macs})
                return
        raise usage_error(
            Code.NOTHING_FITS,
            where="starter search",
            got=f"{_MOST_REFUSALS} networks, none of {least:,} to {most:,} MACs",
        )

    def _count(self, config: NetworkConfig) -> int:
        with tempfile.TemporaryDirectory(prefix="starter-") as place:
            source = discover_one(write_candidate(Path(place) / "draft", config))
            submission = load_plugin_apart(source, self._dataset.competition).submission
            shape = pipeline.input_shape(transforms.describe(submission.transforms))
            return count_model(submission.model, shape, source).macs


def train_candidate(folder: Path, data: Path, settings: str, threads: int) -> float:
    """Train a network; return its validation macro F1."""
    torch.set_num_threads(threads)
    wanted = TrainSettings.model_validate_json(settings)
    report = train(discover_one(folder), open_dataset(data), wanted, log=lambda _: None)
    if report.interrupted:
        raise KeyboardInterrupt
    assert report.macro_f1 is not None
    return report.macro_f1


@contextlib.contextmanager
def _pool(jobs: int) -> Iterator[Callable[..., "Future[float]"]]:
    """Yield a function that starts a training: in separate processes, or in this one if there is only one."""
    if jobs > 1:
        # Spawned: a forked torch whose threads have computed can hang.
        with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield pool.submit
        return

    def at_once(call: Callable[..., float], *arguments: object) -> "Future[float]":
        done: Future[float] = Future()
        done.set_result(call(*arguments))
        return done

    yield at_once
