"""How long a large store takes: 100,000 results of 2,000 teams, made up, on the packaged images.

    python benchmarks/large_store.py [--teams 2000] [--results 100000] [--keep FOLDER]
    python benchmarks/large_store.py --rate [--results 4000] [--store URL]

Prints the time to write one result, to find one team's rank, and to make the page, and the page's size.
With --rate: how many results a second are stored by 1, 16, 64 and 256 threads, as a driver of so many workers
does; each has returned from `put`, so it is durable. One thread commits each result by itself, as all did
before. Then the trail is proved, and judging is timed, which the driver does as well. Without --store it uses
PostgreSQL where that is installed, and SQLite.
"""

import argparse
import hashlib
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from starter.contract.competition import CompetitionFile, load_competition
from starter.contract.costs import NodeCost
from starter.contract.errors import Code, Status, problem
from starter.contract.results import EvaluationResult, Reference, UsageScore
from starter.data.dataset import Dataset, open_dataset
from starter.evaluation.evaluate import read_reference
from starter.evaluation.labelled import USAGES, LabelledImages, Usage
from starter.evaluation.records import Context, EvaluationRecord, Evidence, pack_program, predictions_csv
from starter.evaluation.scorer import Scorer
from starter.evaluation.scoring import Counts, compute_score, macro_f1
from starter.organizer.leaderboard.standings import Standings
from starter.organizer.store.model import Entry
from starter.organizer.store.store import Store
from starter.report.html.leaderboard import write_board
from starter.report.leaderboard import to_csv
from starter.submission.content import sha256

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))
THREADS = {1: 20, 16: 4, 64: 1, 256: 1}
"""How many store results at the same time, as workers of a cluster; and what part of the results."""

Made = tuple[Entry, EvaluationRecord, Evidence | None]
"""An entry, its result and what it answered."""

START = datetime(2026, 3, 1, tzinfo=UTC)


class Inventor:
    """Makes up entries whose answers are as good as their F1 says."""

    def __init__(self, rules: CompetitionFile, dataset: Dataset, reference: Reference) -> None:
        self.rules, self.dataset, self.reference = rules, dataset, reference
        self.context = Context.of(rules, dataset.fingerprint(), reference)
        self._rng = np.random.default_rng(0)
        self._solution = dataset.solution()
        self._labels = np.array([row.label for row in self._solution])
        self._usage = np.array([row.usage for row in self._solution])

    def entry(self, team: int, number: int) -> Made:
        """Return one entry of a team: each is a little better than the one before."""
        rng, classes = self._rng, self.dataset.info.classes
        name = f"{('ShuffleNet', 'mobile', '작은 모델', 'pruned', 'tiny-net')[team % 5]}-v{number + 1}"
        skill = min(0.97, 0.55 + 0.35 * ((team * 7919) % 1000) / 1000 + 0.01 * number)
        macs = int(10 ** (5.8 + 2 * skill + rng.normal(0, 0.35)))
        submission = f"sha256:{hashlib.sha256(f'{team} {number}'.encode()).hexdigest()}"
        at = START + timedelta(hours=float(rng.uniform(0, 24)) + 24 * number)
        entry = Entry(f"team {team:04d}", name, submission, at, f"{name}.zip")
        fields = {"name": name, "path": f"{name}.zip", "official": True, "isolation": "box"}
        if rng.random() < 0.04:
            wrong = problem(Code.NO_HOOK, where="plugin.py", got="no hook")
            result = EvaluationResult(status=Status.INVALID, error=wrong, problems=(wrong,), **fields)
            return entry, self._record(submission, at, result, {}), None
        right = rng.random(len(self._labels)) < skill
        answers = np.where(right, self._labels, rng.integers(0, len(classes), len(self._labels)))
        scores = {usage: self._score(answers, macs, usage) for usage in ("Public", "Private")}
        shared = ("score", "macs_ratio", "f1_term", "branch", "ranked", "macro_f1", "f1_per_class")
        layers = tuple(
            NodeCost(
                name=f"conv{i}",
                op="aten.conv2d.default",
                module=f"features.{i}.conv",
                source=f"plugin.py:{20 + i}",
                shape=(1, 16, 56, 56),
                contraction=macs // 20,
                pointwise=macs // 400,
                reduction=0,
            )
            for i in range(20)
        )
        costs = {"contraction_macs": macs // 20 * 20, "pointwise_macs": macs // 20, "reduction_macs": 0}
        result = EvaluationResult(
            status=Status.OK,
            macs=macs,
            thop_macs=macs,
            params=macs // 9,
            input_shape=(3, 112, 112),
            layers=layers,
            seconds=0.8,
            **costs,
            **fields,
            **{key: getattr(scores["Public"], key) for key in shared},
        )
        evidence = Evidence(
            answers.astype(np.uint16), right.astype(np.float32), pack_program(b"{}" * 5000, b"", b"[]")
        )
        return entry, self._record(submission, at, result, scores), evidence

    def _score(self, answers: np.ndarray, macs: int, usage: Usage) -> UsageScore:
        here = self._usage == usage
        f1 = macro_f1(self._labels[here].tolist(), answers[here].tolist(), self.dataset.info.classes)
        score = compute_score(
            macs,
            f1.macro,
            baseline_macs=self.reference.macs,
            baseline_f1=self.reference.f1_on(usage),
            rules=self.rules.score,
        )
        return UsageScore(
            num_images=int(here.sum()),
            macro_f1=f1.macro,
            f1_interval=(f1.macro - 0.03, f1.macro + 0.03),
            f1_per_class=f1.per_class,
            accuracy=f1.accuracy,
            score_interval=(score.score - 0.03, score.score + 0.03),
            ranked=score.ranked,
            **score._asdict(),
        )

    def _record(
        self, submission: str, at: datetime, result: EvaluationResult, scores: dict[str, UsageScore]
    ) -> EvaluationRecord:
        return EvaluationRecord(
            submission=submission,
            context=self.context,
            evaluated_at=at,
            result=result,
            scores=scores,
            limits=self.rules.limits,
            used={"wall_seconds": 0.6, "cpu_seconds": 0.5, "memory_mb": 431.2},
            versions=self.reference.versions | {"starter": "0.1.0", "machine": "made up"},
        )


@contextmanager
def servers(given: str | None) -> Iterator[dict[str, str]]:
    """Yield the URLs of new databases by what they are: the one that is given, or those that can be had."""
    import organizing

    if given is not None:
        yield {"the given store": given}
        return
    with tempfile.TemporaryDirectory() as place:
        urls = {"SQLite": f"sqlite:///{Path(place) / 'rate.sqlite'}"}
        programs = organizing.postgresql_folder()
        if programs is None:
            print("PostgreSQL    not installed")
            yield urls
            return
        with organizing.postgresql(programs) as (url, _):
            yield {"PostgreSQL": url.format("postgres"), **urls}


def rates(inventor: Inventor, count: int, given: str | None) -> None:
    """Print how many results a second are stored, and what judging one takes."""
    parts = {threads: count // part for threads, part in THREADS.items()}
    different = [inventor.entry(i, 0) for i in range(50)]
    made = [renumbered(different[i % 50], i) for i in range(sum(parts.values()))]
    with servers(given) as urls:
        for name, url in urls.items():
            with Store(url) as store:
                context = store.context_id(inventor.context)
                store.add(context, [entry for entry, _, _ in made])
                left = iter(made)
                for threads, size in parts.items():
                    rate(store, context, list(itertools.islice(left, size)), name, threads)
                started = time.perf_counter()
                proof = store.prove()
                seconds = time.perf_counter() - started
                assert not proof.breaks, proof.breaks[:3]
                print(f"{name:12}  {proof.rows:,} rows of the trail proved in {seconds:.1f} s")
    judging(inventor, [one for one in different if one[2] is not None])


def renumbered(made: Made, number: int) -> Made:
    """Return the same as another team's entry of another content."""
    entry, record, evidence = made
    submission = f"sha256:{number:064x}"
    entry = replace(entry, team=f"team {number:05d}", submission=submission)
    return entry, record.model_copy(update={"submission": submission}), evidence


def rate(store: Store, context: int, made: Sequence[Made], name: str, threads: int) -> None:
    """Store results by a number of threads and print how many a second."""
    started, used = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda one: store.put(context, one[1], one[2]), made))
    seconds, used = time.perf_counter() - started, time.process_time() - used
    print(
        f"{name:12} {threads:4} threads  {len(made) / seconds:6,.0f} results a second,"
        f" {1e3 * seconds / len(made):5.1f} ms each,"
        f" {1e3 * used / len(made):.2f} ms of processor in the driver",
        flush=True,
    )


def judging(inventor: Inventor, made: Sequence[Made]) -> None:
    """Print what the driver takes to judge an answer: its figures and the hash of predictions.csv."""
    scorer = Scorer(inventor.reference, inventor.rules.score)
    images = [LabelledImages.of(inventor.dataset, usage) for usage in USAGES]
    ids, classes = inventor.dataset.test_ids(), inventor.dataset.info.classes
    for _ in range(2):  # the first loads what is loaded once
        used = time.process_time()
        for _, record, evidence in made:
            assert evidence is not None
            labels = evidence.labels.tolist()
            for own in images:
                scorer.on(own, labels, Counts.of(record.result))
            sha256(predictions_csv(ids, labels, evidence.probabilities.tolist(), classes).encode())
        used = time.process_time() - used
    print(f"judging       {1e3 * used / len(made):.1f} ms of processor in the driver for one result")


def main() -> None:
    """Fill a store and time it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--teams", type=int, default=2000)
    parser.add_argument("--results", type=int, help="default: 100,000; with --rate 2,000")
    parser.add_argument("--rate", action="store_true", help="print only how many results a second are stored")
    parser.add_argument("--store", help="with --rate: an empty database")
    parser.add_argument("--keep", type=Path, help="where the store and the page are left")
    arguments = parser.parse_args()
    rules = load_competition(ROOT / "competition.toml")
    dataset, reference = open_dataset(ROOT / "data" / "waste"), read_reference(ROOT / "baseline")
    inventor = Inventor(rules, dataset, reference)
    if arguments.rate:
        rates(inventor, arguments.results or 2000, arguments.store)
        return
    arguments.results = arguments.results or 100_000
    with tempfile.TemporaryDirectory() as place:
        folder = arguments.keep or Path(place)
        with Store(f"sqlite:///{folder / 'results.sqlite'}") as store:
            context = store.context_id(inventor.context)
            seconds = []
            for number in range(arguments.results):
                entry, record, evidence = inventor.entry(number % arguments.teams, number // arguments.teams)
                started = time.perf_counter()
                store.add(context, [entry])
                store.put(context, record, evidence)
                seconds.append(time.perf_counter() - started)
            size = (folder / "results.sqlite").stat().st_size
            held = f"{arguments.results:,} of {arguments.teams:,} teams"
            print(f"results            {held}, {size / 2**20:,.0f} MiB")
            tenth = max(1, len(seconds) // 10)
            first, last = (statistics.median(part) * 1e3 for part in (seconds[:tenth], seconds[-tenth:]))
            print(f"one result stored  {first:.1f} ms at first, {last:.1f} ms at last (median)")
            times = []
            for team in range(0, arguments.teams, max(1, arguments.teams // 50)):
                started = time.perf_counter()
                store.standing(context, f"team {team:04d}")
                times.append(time.perf_counter() - started)
            middle, slowest = statistics.median(times) * 1e3, max(times) * 1e3
            print(f"one team's rank    {middle:.1f} ms, slowest {slowest:.1f} ms")
            for reveal in (False, True):
                started = time.perf_counter()
                board = Standings(store, rules, dataset, reference).board(reveal=reveal)
                made = time.perf_counter() - started
                page = write_board(board, folder / f"page{reveal:d}", [])
                total = time.perf_counter() - started
                print(
                    f"{board.usage + ' page':18} {total:.1f} s ({made:.1f} s for the board),"
                    f" {page.stat().st_size / 2**20:.2f} MiB, CSV {len(to_csv(board)) / 2**20:.2f} MiB"
                )
            started = time.perf_counter()
            standings = Standings(store, rules, dataset, reference)
            board = standings.board()
            write_board(board, folder / "site", standings.details(board))
            count = len(list((folder / "site" / "entries").iterdir()))
            print(f"whole site         {time.perf_counter() - started:.1f} s, {count:,} pages of entries")


if __name__ == "__main__":
    main()
