"""How long a million entries take on a cluster, and what they cost: a simulation, checked against a real run.

It follows each entry through the queue, a worker and the driver (organizer/cluster/driver.py): a worker has
at most two entries in hand, the driver judges and stores one result after another, a lost node gives its
entries back, and an entry that three nodes were lost with is given up. Durations are drawn from recorded
ones: a store's, or a file's with one number of seconds a line. Nodes, prices and losses are made up.

    python benchmarks/cluster_simulation.py --check --keep seconds.txt     200 tiny entries, run and simulated
    python benchmarks/cluster_simulation.py --durations seconds.txt --nodes 64 --workers 16 --lost-hours 20
    python benchmarks/cluster_simulation.py --durations sqlite:///results.sqlite --price 0.8

The check evaluates 40 entries, simulates 200 from what it has seen, evaluates 200, and compares.
"""

import argparse
import heapq
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import batch

from starter.contract.system.processors import available
from starter.data.dataset import Dataset, open_dataset
from starter.data.writer import Description, Item, write_dataset
from starter.organizer.store.store import Store

GIVEN_UP = 3
"""An entry that this many nodes were lost with has no verdict: organizer/batch.py."""
HOUR = 3600.0


@dataclass(frozen=True)
class Cluster:
    """What is simulated; times in seconds."""

    nodes: int
    workers: int
    """Of each node."""
    start: float
    """From a node's start until its workers take their first entry."""
    driver: float
    """What the driver takes for one result."""
    ahead: int = 2
    """How many entries a worker has in hand: 1 where it is the driver's own process."""
    lost_after: float = 0.0
    """The mean time until a node is lost; 0: never."""
    noticed_after: float = 30.0
    """From a node's loss until its entries are in the queue again."""
    replaced_after: float = 300.0
    """From a node's loss until another takes its place."""


@dataclass
class Outcome:
    """How a simulation went; times in seconds."""

    makespan: float = 0.0
    waits: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """From when each entry was there until a worker began with it."""
    busy: float = 0.0
    """What workers took for results that counted."""
    wasted: float = 0.0
    """What they took for entries that were lost with their node."""
    driver_busy: float = 0.0
    lost_nodes: int = 0
    again: int = 0
    """How many times an entry had to be evaluated again."""
    given_up: int = 0
    paid: float = 0.0
    """How long nodes were there, together."""


class Simulation:
    """One run of entries on a cluster.

    Args:
        cluster: the nodes and the driver.
        seconds: what each entry takes on a worker.
        arrivals: when each is submitted, ascending.
        rng: draws the losses of nodes.
    """

    def __init__(
        self, cluster: Cluster, seconds: np.ndarray, arrivals: np.ndarray, rng: np.random.Generator
    ) -> None:
        self._cluster = cluster
        self._seconds, self._arrivals = seconds.tolist(), arrivals.tolist()
        self._next = 0
        self._again: deque[tuple[float, int]] = deque()
        self._losses: dict[int, int] = {}
        self._rng = rng
        count = cluster.nodes * cluster.workers
        self._life = [0] * count
        """How many nodes each worker's place has had: events of an earlier one are void."""
        self._stored = [0.0] * count
        """When the driver was done with each worker's last result."""
        self._hand: list[tuple[float, int] | None] = [None] * count
        """When each worker began, and with which entry."""
        self._events: list[tuple[float, int, int]] = []
        """When, which worker or (negative) node, of which life."""
        self._since = [0.0] * cluster.nodes
        self._idle: list[int] = []
        self._waits = np.zeros(len(self._seconds))
        self.outcome = Outcome(waits=self._waits)

    def run(self) -> Outcome:
        """Go from event to event until every entry has its result."""
        cluster, outcome = self._cluster, self.outcome
        for node in range(cluster.nodes):
            self._node_starts(node, 0.0)
        left = len(self._seconds)
        driver_free = 0.0
        while left:
            at, who, life = heapq.heappop(self._events)
            if who < 0:
                left -= self._node_event(-who - 1, at, life)
                continue
            if life != self._life[who]:
                continue
            if (held := self._hand[who]) is not None:  # it has finished one
                driver_free = max(driver_free, at) + cluster.driver
                outcome.busy += at - held[0]
                outcome.driver_busy += cluster.driver
                left -= 1
                ready = driver_free if cluster.ahead == 1 else max(at, self._stored[who])
                self._stored[who] = driver_free
                self._hand[who] = None
                at = ready
            self._take(who, at)
        outcome.makespan = driver_free
        outcome.paid += sum(max(0.0, driver_free - since) for since in self._since)
        return outcome

    def _take(self, who: int, ready: float) -> None:
        """Let a worker begin with the entry that has waited longest."""
        entry, there = -1, 0.0
        if self._again and (
            self._next >= len(self._seconds) or self._again[0][0] <= self._arrivals[self._next]
        ):
            there, entry = self._again.popleft()
        elif self._next < len(self._seconds):
            entry, there = self._next, self._arrivals[self._next]
            self._next += 1
        if entry < 0:
            self._idle.append(who)
            return
        begins = max(ready, there)
        self._waits[entry] = begins - there
        self._hand[who] = begins, entry
        heapq.heappush(self._events, (begins + self._seconds[entry], who, self._life[who]))

    def _node_starts(self, node: int, at: float) -> None:
        first = node * self._cluster.workers
        self._since[node] = at
        for who in range(first, first + self._cluster.workers):
            heapq.heappush(self._events, (at + self._cluster.start, who, self._life[who]))
        if self._cluster.lost_after:
            lost = at + self._rng.exponential(self._cluster.lost_after)
            heapq.heappush(self._events, (lost, -node - 1, self._life[first]))

    def _node_event(self, node: int, at: float, life: int) -> int:
        """Lose a node, or start the one in its place; return how many entries are given up."""
        first = node * self._cluster.workers
        if life < 0:
            self._node_starts(node, at)
            return 0
        given_up = 0
        self.outcome.lost_nodes += 1
        self.outcome.paid += at - self._since[node]
        for who in range(first, first + self._cluster.workers):
            self._life[who] += 1
            self._stored[who] = 0.0
            if (held := self._hand[who]) is not None:
                given_up += self._lose(*held, at)
                self._hand[who] = None
        self._idle = [who for who in self._idle if not first <= who < first + self._cluster.workers]
        self._since[node] = at + self._cluster.replaced_after
        heapq.heappush(self._events, (self._since[node], -node - 1, -1))
        return given_up

    def _lose(self, began: float, entry: int, at: float) -> int:
        """Give back what a lost worker had; return whether it is given up."""
        if began > at:  # it had only been reserved for the worker
            self._again.append((began, entry))
            return 0
        self.outcome.wasted += at - began
        self._losses[entry] = self._losses.get(entry, 0) + 1
        if self._losses[entry] >= GIVEN_UP:
            self.outcome.given_up += 1
            return 1
        self.outcome.again += 1
        self._again.append((at + self._cluster.noticed_after, entry))
        if self._idle:  # somebody has nothing to do
            self._take(self._idle.pop(), at)
        return 0


def recorded(source: str) -> np.ndarray:
    """Return the seconds that entries took: of a store's results, or of a file's lines."""
    if "://" not in source:
        return np.array([float(line) for line in Path(source).read_text(encoding="utf-8").split()])
    with Store(source) as store:
        found = [
            kept[0].result.seconds
            for context in store.contexts()
            for submission in store.statuses(context)
            if (kept := store.record(context, submission)) is not None
        ]
    return np.array([seconds for seconds in found if seconds])


def show(cluster: Cluster, outcome: Outcome, price: float) -> None:
    """Print how a simulation went."""
    entries, workers = len(outcome.waits), cluster.nodes * cluster.workers
    typical, most, longest = np.percentile(outcome.waits, (50, 95, 100)) / HOUR
    offered = outcome.paid * cluster.workers
    print(f"makespan           {outcome.makespan / HOUR:,.2f} h; at least {ideal(outcome, workers):,.2f} h")
    print(f"an entry waits     {typical:,.2f} h (median), {most:,.2f} h (95 %), {longest:,.2f} h (longest)")
    print(f"workers are busy   {outcome.busy / offered:.0%} of the time that is paid")
    print(f"the driver is busy {outcome.driver_busy / outcome.makespan:.0%} of the time")
    print(
        f"lost               {outcome.lost_nodes:,} nodes; {outcome.again:,} entries evaluated again,"
        f" {outcome.given_up:,} given up, {outcome.wasted / HOUR:,.1f} worker hours wasted"
    )
    hours = outcome.paid / HOUR
    print(
        f"cost               {hours:,.0f} node hours, {hours * price:,.2f} at {price:g} an hour,"
        f" {hours * price / entries * 1000:,.3f} for 1,000 entries"
    )


def ideal(outcome: Outcome, workers: int) -> float:
    """Return the hours that the same work takes without waiting, start or loss."""
    return outcome.busy / workers / HOUR


def fewer(dataset: Dataset, images: int, folder: Path) -> Dataset:
    """Return a data set of the first evaluation images."""
    items = [
        Item(row.image_id, dataset.images.read(row.image_id), row.label, row.usage)
        for row in dataset.solution()[:images]
    ]
    items += [
        Item(r.image_id, dataset.images.read(r.image_id), r.label, "train") for r in dataset.train()[:60]
    ]
    return write_dataset(folder, items, Description(name="fewer", classes=dataset.info.classes))


@dataclass(frozen=True)
class Real:
    """A batch that has run here; times in seconds."""

    seconds: np.ndarray
    """What each entry took on its worker."""
    began: float
    """From the command until the first entry was begun."""
    makespan: float
    """From the command until the last result was stored."""
    jobs: int

    @property
    def driver(self) -> float:
        """What each result took beside the entry itself."""
        seconds = (self.makespan - self.began) * self.jobs - float(self.seconds.sum())
        return max(0.0, seconds) / len(self.seconds)


def real(folder: Path, count: int, jobs: int, isolation: str) -> Real:
    """Evaluate tiny entries in this machine."""
    entries = folder / f"entries{count}"
    batch.write_plugins(entries, count)
    store = f"sqlite:///{folder / f'{count}.sqlite'}"
    started = time.time()
    batch.kit(
        "batch", str(entries), "--jobs", str(jobs), "--isolation", isolation, "--store", store, folder=folder
    )
    with Store(store) as kept:
        (context,) = kept.contexts()
        found = [kept.record(context, submission) for submission in kept.statuses(context)]
    records = sorted((one[0] for one in found if one is not None), key=lambda record: record.evaluated_at)
    ends = [record.evaluated_at.timestamp() - started for record in records]
    first = min(end - record.result.seconds for end, record in zip(ends, records, strict=True))
    return Real(np.array([r.result.seconds for r in records]), first, ends[-1], jobs)


def check(count: int, isolation: str, keep: Path | None) -> None:
    """Simulate a batch from a smaller one, run it, and print both."""
    jobs = available().threads
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = fewer(open_dataset(batch.ROOT / "data" / "waste"), 150, folder / "data")
        batch.competition(folder, data.root, isolation)
        sample = real(folder, count // 5, jobs, isolation)
        cluster = Cluster(nodes=1, workers=jobs, start=sample.began, driver=sample.driver / jobs, ahead=1)
        rng = np.random.default_rng(0)
        drawn = rng.choice(sample.seconds, (100, count))
        spans = [Simulation(cluster, s, np.zeros(count), rng).run().makespan for s in drawn]
        simulated, low, high = np.percentile(spans, (50, 2.5, 97.5))
        true = real(folder, count, jobs, isolation)
        replayed = Simulation(cluster, true.seconds, np.zeros(count), rng).run().makespan
    print(f"{jobs} jobs; of {count // 5} entries: {np.median(sample.seconds):.2f} s each (median),", end=" ")
    print(f"{sample.driver * 1e3:.0f} ms between two, {sample.began:.1f} s before the first")
    print(f"{count} entries, simulated   {simulated:7.1f} s ({low:.1f} to {high:.1f} s)")
    print(
        f"{count} entries, real        {true.makespan:7.1f} s;"
        f" simulated / real {simulated / true.makespan:.2f}"
    )
    print(f"with the durations of the real run: {replayed:.1f} s; / real {replayed / true.makespan:.2f}")
    if keep is not None:
        keep.write_text("".join(f"{seconds:.3f}\n" for seconds in true.seconds), encoding="utf-8")


def main() -> None:
    """Simulate, or check the simulation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--durations", help="a store's URL or a file of seconds")
    parser.add_argument("--nodes", type=int, default=64)
    parser.add_argument("--workers", type=int, default=16, help="of each node")
    parser.add_argument("--price", type=float, default=0.8, help="of a node for an hour")
    parser.add_argument("--start", type=float, default=8.0, help="seconds until a worker takes an entry")
    parser.add_argument("--driver-ms", type=float, default=9.0, help="what the driver takes for a result")
    parser.add_argument("--lost-hours", type=float, default=0.0, help="mean hours until a node is lost")
    parser.add_argument("--over-hours", type=float, default=0.0, help="entries come evenly over these hours")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--check", type=int, nargs="?", const=200, metavar="N", help="run so many tiny entries here: 200"
    )
    parser.add_argument("--isolation", default="box", help="of the entries of --check")
    parser.add_argument("--keep", type=Path, help="where --check writes the durations")
    arguments = parser.parse_args()
    if arguments.check:
        check(arguments.check, arguments.isolation, arguments.keep)
        return
    if arguments.durations is None:
        parser.error("--durations or --check: what do entries take?")
    rng = np.random.default_rng(arguments.seed)
    known = recorded(arguments.durations)
    cluster = Cluster(
        arguments.nodes,
        arguments.workers,
        start=arguments.start,
        driver=arguments.driver_ms / 1e3,
        lost_after=arguments.lost_hours * HOUR,
    )
    arrivals = np.sort(rng.uniform(0, arguments.over_hours * HOUR, arguments.entries))
    print(
        f"{arguments.entries:,} entries of {len(known):,} durations, {known.mean():.2f} s on average,"
        f" on {arguments.nodes} nodes of {arguments.workers} workers"
    )
    started = time.perf_counter()
    outcome = Simulation(cluster, rng.choice(known, arguments.entries), arrivals, rng).run()
    show(cluster, outcome, arguments.price)
    print(f"simulated in       {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
