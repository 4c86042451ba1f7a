"""Evaluate many submissions and keep the results in a store; resume where a batch stopped.

plan.py decides what to do with each entry; several jobs carry out the plan, each with its
own sandbox and runner.
"""

import contextlib
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from starter.contract.competition import CompetitionFile
from starter.contract.errors import Code, Status, host_error, problem
from starter.contract.submissions import SubmissionSource
from starter.evaluation.evaluate import Evaluation, Evaluator
from starter.evaluation.measure import WorkerLostError
from starter.evaluation.recording import evidence_of, record_of, refusal
from starter.evaluation.records import Context, EvaluationRecord
from starter.organizer.entries import StagedEntry, staged
from starter.organizer.plan import Action, PlannedEntry
from starter.organizer.store.store import Store

_HOST_ERRORS = 3
"""This many consecutive failures of the machine end a batch."""

_LOST_WORKERS = 3
"""An entry that this many workers were lost with is not tried again."""

_PATIENCE = 20.0
"""How long a stopped batch waits for its jobs, in seconds."""


@dataclass
class Progress:
    """How far a batch is."""

    total: int
    """How many are to be evaluated."""
    done: int = 0
    """How many have a result."""
    statuses: Counter[Status] = field(default_factory=Counter)
    """How they went."""


class Workers(Protocol):
    """Who evaluates: so many jobs in this machine, or a cluster's nodes (organizer/cluster/driver.py)."""

    def idle(self) -> Sequence[Callable[[], Evaluator]]:
        """Return what makes an evaluator for each worker that has none yet, and count it as busy."""

    def wait(self) -> str:
        """Wait for a worker to come back; return why none will, or nothing while there is hope."""

    def close(self) -> None:
        """End what workers are doing: nobody waits for it any more."""


class LocalJobs:
    """A number of jobs on this machine.

    Args:
        evaluator: makes the evaluator of one.
        jobs: how many.
    """

    def __init__(self, evaluator: Callable[[], Evaluator], jobs: int) -> None:
        self._idle = [evaluator] * jobs

    def idle(self) -> Sequence[Callable[[], Evaluator]]:
        """Return each job once."""
        idle, self._idle = self._idle, []
        return idle

    def wait(self) -> str:
        """Say that none comes back."""
        return "no worker is left"

    def close(self) -> None:
        """Do nothing: a sandbox ends with its job."""


class Batch:
    """Works a plan off.

    Args:
        entries: what to do; they are kept in the store, whatever is done with them.
        store: where results go.
        context: under what they hold.
        competition: the rules.
        reason: why results that are there are judged again; a fault of this machine replaces none of them.
        on_result: called after each result with the progress and the record.
    """

    def __init__(
        self,
        entries: Sequence[PlannedEntry],
        store: Store,
        context: tuple[int, Context],
        competition: CompetitionFile,
        *,
        reason: str = "",
        on_result: Callable[[Progress, EvaluationRecord], None] = lambda *_: None,
    ) -> None:
        self._store = store
        self._reason = reason
        self._context, self._holds_under = context
        self._competition = competition
        self._on_result = on_result
        self._waiting: queue.SimpleQueue[PlannedEntry] = queue.SimpleQueue()
        todo = [p for p in entries if p.action is Action.EVALUATE]
        for item in todo:
            self._waiting.put(item)
        self.progress = Progress(len(todo))
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._failures: list[BaseException] = []
        self._host_errors = 0
        self._lost: Counter[str] = Counter()
        store.add(self._context, [p.entry for p in entries])

    def run(self, workers: Workers) -> Progress:
        """Evaluate until nothing is left; return how it went.

        Raises:
            HostError: the store, the runner or the sandbox failed, or no worker is left; what was
                finished is stored.
            UsageError: the data set or the reference is at fault.
        """
        threads: list[threading.Thread] = []
        try:
            while not self._stop.is_set():
                threads = [thread for thread in threads if thread.is_alive()]
                if self._waiting.empty() and not threads:
                    break
                makers = [] if self._waiting.empty() else workers.idle()
                threads += [self._started(make) for make in makers]
                if threads:
                    threads[0].join(0.2)
                elif why := workers.wait():
                    raise host_error(Code.NO_WORKERS, where="the cluster", got=why)
        finally:
            self._stop.set()
            workers.close()
            for thread in threads:
                thread.join(_PATIENCE)
        if self._failures:
            raise self._failures[0]
        return self.progress

    def _started(self, make: Callable[[], Evaluator]) -> threading.Thread:
        thread = threading.Thread(target=self._job, args=(make,), daemon=True)
        thread.start()
        return thread

    def _job(self, make: Callable[[], Evaluator]) -> None:
        """Work until nothing is left or the worker is lost, on a thread of its own."""
        places: dict[SubmissionSource, tuple[PlannedEntry, StagedEntry, contextlib.ExitStack]] = {}
        try:
            with make() as evaluator, contextlib.ExitStack() as held:
                for measured in evaluator.evaluate(self._sources(evaluator, places, held), "Public"):
                    assert measured.measurement is not None
                    item, entry, place = places.pop(measured.measurement.source)
                    self._keep(evaluator, measured, entry, item)
                    place.close()
        except WorkerLostError:
            self._again(item for item, _, _ in places.values())
        except BaseException as error:  # noqa: BLE001 - raised again where the command waits
            self._fail(error)

    def _again(self, items: Iterable[PlannedEntry]) -> None:
        """Put back what a lost worker had in hand."""
        for item in items:
            self._lost[item.submission] += 1
            self._waiting.put(item)

    def _fail(self, error: BaseException) -> None:
        self._failures.append(error)
        self._stop.set()

    def _sources(
        self,
        evaluator: Evaluator,
        places: dict[SubmissionSource, tuple[PlannedEntry, StagedEntry, contextlib.ExitStack]],
        held: contextlib.ExitStack,
    ) -> Iterator[SubmissionSource]:
        """Take entries that are left, and yield copies of those that can be run."""
        while not self._stop.is_set():
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                return
            place = held.enter_context(contextlib.ExitStack())
            entry = place.enter_context(staged(item.source, self._competition.limits))
            if entry.submission != item.submission:  # somebody has changed it since it was planned
                self._store.add(self._context, [replace(item, submission=entry.submission).entry])
            problems = entry.problems
            if self._lost[entry.submission] >= _LOST_WORKERS:
                got = f"{_LOST_WORKERS} workers were lost with it"
                problems = (problem(Code.MACHINE_FAILS, where=item.source.name, got=got),)
            if problems:
                self._keep(evaluator, refusal(entry.source, problems), entry, item)
                place.close()
            else:
                places[entry.source] = item, entry, place
                yield entry.source

    def _keep(
        self, evaluator: Evaluator, measured: Evaluation, entry: StagedEntry, item: PlannedEntry
    ) -> None:
        """Store one result."""
        record = record_of(
            evaluator,
            measured,
            submission=entry.submission,
            context=self._holds_under,
            limits=self._competition.limits,
            left_out=entry.left_out,
        )
        is_verdict = measured.result.status is not Status.HOST_ERROR
        if self._stop.is_set() and not is_verdict:
            return
        if is_verdict or not self._reason:  # jobs that store at the same time share a commit
            self._store.put(self._context, record, evidence_of(measured), reason=self._reason)
        with self._lock:
            self.progress.done += 1
            self.progress.statuses[measured.result.status] += 1
            self._on_result(self.progress, record)
            self._host_errors = self._host_errors + 1 if measured.result.status is Status.HOST_ERROR else 0
            if self._host_errors >= _HOST_ERRORS and measured.result.error is not None:
                got = f"{_HOST_ERRORS} in a row, the last: {measured.result.error.got}"
                raise host_error(Code.MACHINE_FAILS, where=str(item.source.path), got=got)
