"""Evaluate many submissions and keep the results in a store; resume where a batch stopped.

plan.py decides what to do with each entry; several jobs carry out the plan, each with its
own sandbox and runner. A watch (watch.py) adds entries while they work.
"""

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from starter.contract.competition import CompetitionFile
from starter.contract.errors import Code, Problem, Status, host_error, problem
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
"""How long a stopped batch waits for its jobs to finish what they have in hand, in seconds."""

_GIVING_UP = 5.0
"""How long it then waits for jobs whose workers it has ended, in seconds."""

_TICK = 0.2
"""How often a batch looks after its jobs, in seconds."""


@dataclass
class Progress:
    """How far a batch is."""

    total: int
    """How many are to be evaluated."""
    done: int = 0
    """How many have a result."""
    statuses: Counter[Status] = field(default_factory=Counter)
    """How they went."""
    seconds: deque[float] = field(default_factory=partial(deque, maxlen=50))
    """How long the last of them took."""


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
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waiting: deque[PlannedEntry] = deque()
        self._running: list[PlannedEntry] = []
        self._duplicates: dict[str, PlannedEntry] = {}
        self._workers: list[contextlib.ExitStack] = []
        self._is_open = False
        self.progress = Progress(0)
        self._stop = threading.Event()
        self._failures: list[BaseException] = []
        self._host_errors = 0
        self._lost: Counter[str] = Counter()
        self.add(entries)

    def add(self, entries: Sequence[PlannedEntry]) -> None:
        """Keep planned entries in the store, and have those evaluated that are to be."""
        self._store.add(self._context, [p.entry for p in entries])
        todo = [p for p in entries if p.action is Action.EVALUATE]
        with self._changed:
            self._waiting.extend(todo)
            self.progress.total += len(todo)
            busy = {item.submission for item in (*self._running, *self._waiting)}
            duplicates = (p for p in entries if p.action is Action.DUPLICATE and p.submission in busy)
            self._duplicates |= {p.submission: p for p in duplicates}
            self._changed.notify_all()

    def unfinished(self) -> tuple[list[PlannedEntry], list[PlannedEntry]]:
        """Return what is being evaluated and what waits for it, both in order."""
        with self._lock:
            return list(self._running), list(self._waiting)

    def stop(self) -> None:
        """End `run` soon: what is being evaluated may be finished within 20 s, or it has no result."""
        with self._changed:
            self._stop.set()
            self._changed.notify_all()

    def run(self, workers: Workers, *, more: Callable[[], bool] = lambda: False) -> Progress:
        """Evaluate until nothing is left, or `stop` is called; return how it went.

        Args:
            workers: who evaluates.
            more: called five times a second; it may `add` entries, and says whether any may still come:
                then idle workers are kept.

        Raises:
            HostError: the store, the runner or the sandbox failed, or no worker is left; what was
                finished is stored.
            UsageError: the data set or the reference is at fault.
        """
        threads: list[threading.Thread] = []
        try:
            self._is_open = more()
            while not self._stop.is_set():
                threads = [thread for thread in threads if thread.is_alive()]
                if not (self._waiting or threads or self._is_open):
                    break
                makers = workers.idle() if self._waiting else []
                threads += [self._started(make) for make in makers]
                if threads and not self._is_open:
                    threads[0].join(_TICK)
                elif not threads and self._waiting and (why := workers.wait()):
                    raise host_error(Code.NO_WORKERS, where="the cluster", got=why)
                else:
                    self._stop.wait(_TICK)
                self._is_open = more()
        finally:
            self.stop()
            workers.close()
            self._end(threads)
        if self._failures:
            raise self._failures[0]
        return self.progress

    def _end(self, threads: Sequence[threading.Thread]) -> None:
        """Wait for the jobs; end the workers of those that take too long."""
        until = time.monotonic() + _PATIENCE
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        for worker in list(self._workers):
            worker.close()
        for thread in threads:
            thread.join(_GIVING_UP)

    def _started(self, make: Callable[[], Evaluator]) -> threading.Thread:
        thread = threading.Thread(target=self._job, args=(make,), daemon=True)
        thread.start()
        return thread

    def _job(self, make: Callable[[], Evaluator]) -> None:
        """Work until nothing is left or the worker is lost, on a thread of its own."""
        places: dict[SubmissionSource, tuple[PlannedEntry, StagedEntry, contextlib.ExitStack]] = {}
        try:
            with contextlib.ExitStack() as worker:
                self._workers.append(worker)
                worker.callback(self._workers.remove, worker)
                evaluator = worker.enter_context(make())
                while self._is_more_waiting():
                    for measured in evaluator.evaluate(self._sources(evaluator, places), "Public"):
                        assert measured.measurement is not None
                        item, entry, place = places.pop(measured.measurement.source)
                        with place:
                            self._keep(evaluator, measured, entry, item)
        except WorkerLostError:
            self._again(item for item, _, _ in places.values())
        except BaseException as error:  # noqa: BLE001 - raised again where the command waits
            self._fail(error)
        finally:
            for _, _, place in places.values():
                place.close()

    def _is_more_waiting(self) -> bool:
        """Wait until an entry waits, and say so; no where none will come."""
        with self._changed:
            while not (self._stop.is_set() or self._waiting) and self._is_open:
                self._changed.wait(_TICK)
            return bool(self._waiting) and not self._stop.is_set()

    def _again(self, items: Iterable[PlannedEntry]) -> None:
        """Put back what a lost worker had in hand."""
        with self._lock:
            for item in items:
                self._lost[item.submission] += 1
                self._running.remove(item)
                self._waiting.append(item)

    def _fail(self, error: BaseException) -> None:
        if not self._stop.is_set():  # else it has failed because it was ended
            self._failures.append(error)
        self.stop()

    def _taken(self) -> PlannedEntry | None:
        """Take the next entry that waits; None where none does."""
        with self._lock:
            if self._stop.is_set() or not self._waiting:
                return None
            item = self._waiting.popleft()
            self._running.append(item)
            return item

    def _sources(
        self,
        evaluator: Evaluator,
        places: dict[SubmissionSource, tuple[PlannedEntry, StagedEntry, contextlib.ExitStack]],
    ) -> Iterator[SubmissionSource]:
        """Take entries that are left, and yield copies of those that can be run."""
        while item := self._taken():
            with contextlib.ExitStack() as place:
                try:
                    entry = place.enter_context(staged(item.source, self._competition.limits))
                except (FileNotFoundError, PermissionError):
                    if not self._is_open:
                        raise
                    entry = None
                if self._is_open and (entry is None or entry.submission != item.submission):
                    self._left(item)  # somebody is at it: the watch finds it again when it is whole
                    continue
                assert entry is not None
                if entry.submission != item.submission:  # somebody has changed it since it was planned
                    self._store.add(self._context, [replace(item, submission=entry.submission).entry])
                if problems := self._problems(item, entry):
                    self._keep(evaluator, refusal(entry.source, problems), entry, item)
                else:
                    places[entry.source] = item, entry, place.pop_all()
                    yield entry.source

    def _problems(self, item: PlannedEntry, entry: StagedEntry) -> tuple[Problem, ...]:
        """Return why an entry cannot be run."""
        if self._lost[entry.submission] < _LOST_WORKERS:
            return entry.problems
        got = f"{_LOST_WORKERS} workers were lost with it"
        return (problem(Code.MACHINE_FAILS, where=item.source.name, got=got),)

    def _left(self, item: PlannedEntry) -> None:
        """Forget an entry that is no longer as it was planned; another of the content takes its place."""
        with self._lock:
            self._running.remove(item)
            if other := self._duplicates.pop(item.submission, None):
                self._waiting.append(other)
            else:
                self.progress.total -= 1

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
            self._running.remove(item)
            self._duplicates.pop(item.submission, None)
            self.progress.done += 1
            self.progress.statuses[measured.result.status] += 1
            self.progress.seconds.append(measured.result.seconds)
            self._on_result(self.progress, record)
            self._host_errors = self._host_errors + 1 if measured.result.status is Status.HOST_ERROR else 0
            if self._host_errors >= _HOST_ERRORS and measured.result.error is not None:
                got = f"{_HOST_ERRORS} in a row, the last: {measured.result.error.got}"
                raise host_error(Code.MACHINE_FAILS, where=str(item.source.path), got=got)
