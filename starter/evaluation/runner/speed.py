"""Have graphs timed beside the baseline's: it is exported once, and lies where the runner reads it."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from starter.contract.competition import CompetitionFile, Limits
from starter.contract.errors import Code, ParticipantError, problem
from starter.contract.hookspecs import Competition
from starter.contract.protocol import RunnerReply, RunnerRequest, SpeedRequest
from starter.contract.submissions import SubmissionSource, discover_one
from starter.evaluation.runner.client import export
from starter.evaluation.runner.process import Runner
from starter.sandbox.protocol import Sandbox


@dataclass(frozen=True)
class SpeedPlan:
    """How submissions are timed beside the baseline; the numbers are SpeedRequest's."""

    baseline: SubmissionSource
    """What they are compared with."""
    seconds: float = 4.0
    """Seconds of processor time per batch size and repetition."""
    takings: int = 1
    """How often all batch sizes are timed."""
    seed: int = 0
    """Of the order of the blocks, the images and where memory lies."""
    must_tell: bool = False
    """Whether a missing ratio is a failure of this machine, because a score depends on it."""

    @classmethod
    def of(cls, competition: CompetitionFile) -> Self | None:
        """Return how a competition has entries timed; None where their time is neither scored nor limited."""
        if not competition.asks_for_speed:
            return None
        baseline = discover_one(competition.path(competition.baseline))
        return cls(baseline, takings=competition.score.speed_takings, must_tell=True)


class SpeedMeasurer:
    """Times graphs beside the baseline's.

    Args:
        plan: how.
        folder: where the baseline's graph is kept; exists and is empty.
    """

    quiet = threading.Lock()
    """Held while a graph is timed: of several jobs in one process none exports or times meanwhile."""

    def __init__(self, plan: SpeedPlan, folder: Path) -> None:
        self._plan = plan
        self.folder = folder

    def prepare(
        self, competition: Competition, limits: Limits, sandbox: Sandbox, stop: threading.Event
    ) -> None:
        """Export the baseline, if that has not been done; arguments as `export`'s.

        Raises:
            HostError: the sandbox does not start, or broke.
            ParticipantError: the baseline cannot be exported.
        """
        if any(self.folder.iterdir()):
            return
        source = self._plan.baseline
        problems = tuple(source.problems(limits))
        if not problems:
            problems = export(source, competition, limits, self.folder, sandbox, stop=stop).report.problems
        if problems:
            raise ParticipantError(problems)

    def reply(self, runner: Runner, counted: RunnerRequest) -> RunnerReply:
        """Time a counted graph in the runner.

        Args:
            runner: it reads the folder of the baseline's graph.
            counted: what it has been asked.

        Raises:
            HostError: as `Runner.ask`.
        """
        speed = SpeedRequest(
            graph=self.folder / "graph",
            weights=self.folder / "weights",
            seconds=self._plan.seconds,
            takings=self._plan.takings,
            seed=self._plan.seed,
        )
        with self.quiet:
            reply = runner.ask(counted.model_copy(update={"image_ids": (), "profile": False, "speed": speed}))
        if self._plan.must_tell and reply.speed is not None and reply.speed.ratio is None:
            got = "; ".join(f"batch {b.batch}: {b.verdict}" for b in reply.speed.batches)
            return reply.model_copy(
                update={"problems": (problem(Code.CANNOT_TELL, where="the timing", got=got),)}
            )
        return reply
