"""The driver's side of a Ray cluster: `starter batch --engine ray`.

Workers (node.py) measure on the nodes; labels, scores and the store never leave this
process. A submission whose worker is lost with its node goes to another; nothing else is tried
twice. Nodes may come and go; one that cannot lock submissions in as strictly as the competition
asks is not used.
"""

import contextlib
import itertools
import logging
import math
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeVar

import ray
import ray.exceptions
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from starter import __version__
from starter.contract.errors import Code, UsageError, host_error, usage_error
from starter.contract.submissions import SubmissionSource
from starter.evaluation.evaluate import Evaluator
from starter.evaluation.measure import Images, Measurement, MeasurerProtocol, WorkerLostError
from starter.organizer.cluster.node import Hello, Sent, Work, Worker

_T = TypeVar("_T")

_AHEAD = 2
"""How many submissions a worker is given at once, so that it does not wait for the next."""

_CONNECT_SECONDS = 10.0
_START_SECONDS = 300.0
_POLL_SECONDS = 0.5

_GRACE_SECONDS = 30.0
"""How long a batch waits for nodes when there is none."""

_LOST_WORKERS = 3
"""A node on which this many workers failed to start is not used."""


class RemoteMeasurer:
    """Measures on a worker of the cluster, as `measure.MeasurerProtocol` says.

    Args:
        actor: the worker.
        hello: what it has said.
        ended: called when it is given up.
    """

    def __init__(self, actor: ActorHandle[Any], hello: Hello, ended: Callable[[], None]) -> None:
        self._actor = actor
        self._ended = ended
        self.hello = hello.runner
        self.isolation, self.machine = hello.isolation, hello.machine

    def measure(
        self, sources: Iterable[SubmissionSource], *, meanwhile: Callable[[], None] = lambda: None
    ) -> Iterator[Measurement]:
        """Yield the measurement of each submission, in order.

        Raises:
            WorkerLostError: the worker is gone.
            UsageError: the data set has broken images.
            HostError: the kit failed in the worker.
        """
        coming, waiting = iter(sources), deque["ray.ObjectRef[Measurement | UsageError]"]()
        meanwhile()
        while True:
            for source in itertools.islice(coming, _AHEAD - len(waiting)):
                waiting.append(self._actor.measure.remote(Sent.of(source)))
            if not waiting:
                return
            found = _answer(waiting.popleft())
            if isinstance(found, UsageError):
                raise found
            yield found

    def close(self) -> None:
        """End the worker."""
        self._ended()
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(self._actor)


def _answer(reference: "ray.ObjectRef[_T]", seconds: float | None = None) -> _T:
    """Return what a worker answers.

    Raises:
        WorkerLostError: it is gone, or does not answer in time.
        HostError: the kit failed in it.
    """
    try:
        return ray.get(reference, timeout=seconds)
    except ray.exceptions.RayTaskError as error:
        raise host_error(
            Code.RUNNER_FAILED, where="a worker of the cluster", got=str(error)[-2000:]
        ) from error
    except (ray.exceptions.RayError, TimeoutError) as error:
        raise WorkerLostError(str(error)) from error


class Cluster:
    """The workers of a Ray cluster: nodes may come and go.

    Args:
        work: what each worker is sent.
        address: of the cluster, as ray.init takes it.
        resources: processors and GPUs that each worker asks for.
        jobs: how many workers at most; None: as many as there is room for.
        evaluator: makes an evaluator of whoever measures.
        on_node_event: called with what happens to nodes.

    Raises:
        UsageError: there is no cluster at the address.
    """

    def __init__(
        self,
        work: Work,
        address: str,
        resources: dict[str, float],
        *,
        jobs: int | None,
        evaluator: Callable[[Callable[[Images], MeasurerProtocol]], Evaluator],
        on_node_event: Callable[[str], None],
    ) -> None:
        try:
            if address != "auto":  # Ray would try for minutes
                host, _, port = address.rpartition(":")
                socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, OverflowError, ValueError, RuntimeError) as error:
            raise usage_error(Code.NO_CLUSTER, where=address, got=str(error)[:300]) from error
        self._work = ray.put(work)
        self._resources = {name: amount for name, amount in resources.items() if amount}
        self._jobs = jobs
        self._evaluator = evaluator
        self._on_node_event = on_node_event
        self._busy: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._refused: dict[str, str] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let go of the cluster; workers that are still there end."""
        ray.shutdown()

    def idle(self) -> list[Callable[[], Evaluator]]:
        """Return what makes an evaluator, for each worker that there is room for."""
        with self._lock:
            found: list[Callable[[], Evaluator]] = []
            most = self._jobs or math.inf
            for node, room in self._nodes():
                while self._busy[node] < room and self._busy.total() < most:
                    self._busy[node] += 1
                    found.append(partial(self._evaluator, partial(self._connect, node)))
        return found

    def wait(self) -> str:
        """Return why no worker will come; nothing while there is hope."""
        until = time.monotonic() + _GRACE_SECONDS
        while not list(self._nodes()):
            if self._refused:
                return "; ".join(f"{node[:8]}: {why}" for node, why in self._refused.items())
            if time.monotonic() > until:
                return "no node is running"
            time.sleep(_POLL_SECONDS)
        return ""

    def _nodes(self) -> Iterator[tuple[str, int]]:
        """Yield each node that may be used, with how many workers it has room for."""
        for node in ray.nodes():  # type: ignore[no-untyped-call]
            if node["Alive"] and node["NodeID"] not in self._refused:
                there = node["Resources"]
                room = min(int(there.get(name, 0) / amount) for name, amount in self._resources.items())
                if room:
                    yield node["NodeID"], room

    def _connect(self, node: str, _: Images) -> RemoteMeasurer:
        """Start a worker on a node.

        Raises:
            WorkerLostError: it does not start, or the node may not be used.
        """
        options = {
            "num_cpus": self._resources.get("CPU", 0),
            "num_gpus": self._resources.get("GPU", 0),
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
        }
        ended = partial(self._ended, node)
        try:
            actor: Any = ray.remote(Worker).options(**options).remote(self._work)
            hello: Hello = _answer(actor.hello.remote(), _START_SECONDS)
        except WorkerLostError as error:
            self._lost[node] += 1
            if self._lost[node] >= _LOST_WORKERS:
                self._refuse(node, f"{_LOST_WORKERS} workers did not start: {error}")
            ended()
            raise
        worker = RemoteMeasurer(actor, hello, ended)
        if hello.starter != __version__ or hello.problems:
            why = "; ".join(f"{p.code} {p.got}" for p in hello.problems)
            self._refuse(node, why or f"starter {hello.starter} there, {__version__} here")
            worker.close()
            raise WorkerLostError(why)
        return worker

    def _refuse(self, node: str, why: str) -> None:
        with self._lock:
            if node not in self._refused:
                self._refused[node] = why
                self._on_node_event(f"node {node[:8]} is not used: {why}")

    def _ended(self, node: str) -> None:
        with self._lock:
            self._busy[node] -= 1
