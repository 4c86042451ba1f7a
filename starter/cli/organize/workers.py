"""Who evaluates the entries of `starter batch`: jobs on this machine, or the workers of a Ray cluster."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from starter.cli.common import err, in_force, isolation_for, open_data
from starter.cli.organize.batch_options import Engine
from starter.contract.system.processors import available
from starter.contract.text import inline
from starter.report.terminal import print_line

if TYPE_CHECKING:
    from starter.contract.competition import CompetitionFile
    from starter.contract.protocol import KeptImages
    from starter.contract.results import Reference
    from starter.data.dataset import Dataset
    from starter.evaluation.evaluate import Evaluator
    from starter.evaluation.records import Context
    from starter.organizer.batch import Workers
    from starter.organizer.cluster.node import Work


@dataclass(frozen=True)
class Contest:
    """What entries are evaluated by and on."""

    rules: "CompetitionFile"
    """The rules in force."""
    dataset: "Dataset"
    """The images and labels."""
    reference: "Reference"
    """The baseline's figures."""

    def __post_init__(self) -> None:
        """See that the rules can be applied to the data set.

        Raises:
            UsageError: a floor for groups, and no groups.
        """
        from starter.evaluation.scorer import require_groups

        require_groups(self.rules.score, self.dataset)

    @classmethod
    def of(cls, rules: "CompetitionFile", data: Path | None) -> Self:
        """Return the contest by some rules, on their data set or on another."""
        from starter.evaluation.evaluate import read_reference

        reference = read_reference(rules.path(rules.baseline))
        rules = in_force(rules, reference)
        return cls(rules, open_data(data, rules), reference)

    @cached_property
    def holds_under(self) -> "Context":
        """What results hold under."""
        from starter.evaluation.records import Context

        return Context.of(self.rules, self.dataset.fingerprint(), self.reference)

    @property
    def evaluator(self) -> "Callable[..., Evaluator]":
        """What makes an evaluator of a measurer."""
        from starter.evaluation.evaluate import REFERENCE_FILE, Evaluator

        path: Path = self.rules.path(self.rules.baseline) / REFERENCE_FILE
        return partial(Evaluator, self.rules, self.dataset, reference=self.reference, reference_path=path)


@dataclass(frozen=True)
class Engines:
    """Where entries are evaluated, as the command line says; its options are described there."""

    engine: Engine
    jobs: int | None
    isolation: str | None
    cache_mb: int
    cluster: str
    cpus: float
    gpus: float

    def workers(self, contest: Contest, todo: int | None) -> "Workers":
        """Return who evaluates so many entries; None: any number may come."""
        if self.engine is Engine.RAY:
            return self._on_cluster(contest)
        jobs = self.jobs or 1
        return self._in_this_machine(contest, jobs if todo is None else min(jobs, todo))

    def _in_this_machine(self, contest: Contest, jobs: int) -> "Workers":
        """Return jobs that share the cores and the kept images."""
        from starter.evaluation.measure import Images, LocalMeasurer
        from starter.evaluation.runner.speed import SpeedPlan
        from starter.organizer.batch import LocalJobs

        rules, kept = contest.rules, self._kept_images(contest)
        chosen = isolation_for("batch", rules, self.isolation)
        threads = max(1, available().threads // max(1, jobs))
        speed = SpeedPlan.of(rules)

        def measurer(images: Images) -> LocalMeasurer:
            own = replace(images, kept=kept)
            return LocalMeasurer(rules, own, isolation=chosen, threads=threads, speed=speed)

        return LocalJobs(partial(contest.evaluator, measurer=measurer), jobs)

    def _kept_images(self, contest: Contest) -> "KeptImages":
        from starter.contract.protocol import KeptImages

        folder = contest.rules.path(".starter") / "images"
        return KeptImages(folder=folder, limit_mb=self.cache_mb, fingerprint=contest.holds_under.data)

    def _on_cluster(self, contest: Contest) -> "Workers":
        """Return the workers of a Ray cluster."""
        work = self._work(contest)
        from starter.organizer.cluster.driver import Cluster

        evaluator = contest.evaluator
        return Cluster(
            work,
            self.cluster,
            {"CPU": self.cpus, "GPU": self.gpus},
            jobs=self.jobs,
            evaluator=lambda measurer: evaluator(measurer=measurer),
            on_node_event=lambda text: print_line(err, inline(text)),
        )

    def _work(self, contest: Contest) -> "Work":
        """Return what the workers of a Ray cluster are sent."""
        from starter.contract.system.extras import require_extra

        require_extra("ray", "--engine ray")
        from starter.organizer.cluster.node import work_of

        device = "cuda" if self.gpus else "cpu"
        return work_of(
            contest.rules,
            contest.dataset,
            isolation=self.isolation,
            cache_mb=self.cache_mb,
            device=device,
        )
