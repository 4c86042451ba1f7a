"""Records and entries for the tests of the store and the leaderboard, and databases to keep them in."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from starter.contract.competition import Limits, ScoreRules
from starter.contract.errors import Code, Status, problem
from starter.contract.results import EvaluationResult, UsageScore
from starter.evaluation.records import Context, EvaluationRecord, Evidence, pack_program
from starter.evaluation.scoring import compute_score
from starter.organizer.store.model import Entry

CONTEXT = Context(data="sha256:data", baseline="sha256:baseline", rules="sha256:rules", cost_version="1")
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
BASELINE_MACS, BASELINE_F1 = 16_000_000, 0.8


def digest(name: str) -> str:
    return f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"


def entry(team: str, name: str, *, hours: float = 0, of: str = "", **fields: Any) -> Entry:
    """An entry whose content is told by its name, or by `of`."""
    at = START + timedelta(hours=hours)
    return Entry(team=team, name=name, submission=digest(of or name), submitted_at=at, **fields)


def usage_score(macs: int, f1: float, images: int = 100) -> UsageScore:
    score = compute_score(macs, f1, baseline_macs=BASELINE_MACS, baseline_f1=BASELINE_F1, rules=ScoreRules())
    return UsageScore(
        num_images=images,
        macro_f1=f1,
        f1_interval=(f1 - 0.02, f1 + 0.02),
        f1_per_class={"Glass": f1, "Paper": f1},
        accuracy=f1,
        score_interval=(score.score - 0.02, score.score + 0.02),
        ranked=score.ranked,
        **score._asdict(),
    )


def record(
    name: str,
    macs: int = 1_000_000,
    f1: float = 0.8,
    *,
    private_f1: float | None = None,
    failed: Code | None = None,
    context: Context = CONTEXT,
) -> EvaluationRecord:
    """A record of a submission whose content is told by its name."""
    fields: dict[str, Any] = {"name": name, "path": f"/entries/{name}.zip", "official": True}
    if failed is not None:
        wrong = problem(failed, where="plugin.py:3", got="something that is wrong")
        result = EvaluationResult(status=Status.INVALID, error=wrong, problems=(wrong,), **fields)
        return EvaluationRecord(
            submission=digest(name), context=context, evaluated_at=START, result=result, limits=Limits()
        )
    public = usage_score(macs, f1)
    result = EvaluationResult(
        status=Status.OK,
        macs=macs,
        params=macs // 10,
        **fields,
        **{
            k: getattr(public, k)
            for k in ("macro_f1", "score", "branch", "f1_term", "macs_ratio", "ranked", "num_images")
        },
    )
    return EvaluationRecord(
        submission=digest(name),
        context=context,
        evaluated_at=START,
        result=result,
        scores={"Public": public, "Private": usage_score(macs, private_f1 or f1)},
        limits=Limits(),
    )


def evidence(labels: Any) -> Evidence:
    return Evidence(
        np.asarray(labels, dtype=np.uint16),
        np.full(len(labels), 0.5, dtype=np.float32),
        pack_program(b"{}", b"", b"[]"),
    )


def postgresql_folder() -> Path | None:
    """Where the server's programs are."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders and (folders[-1] / "initdb").exists() else None


@contextmanager
def postgresql(programs: Path) -> Iterator[tuple[str, Path]]:
    """A real server of its own, without a network: the URL of its databases and its folder."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        user = "postgres" if os.getuid() == 0 else None  # it refuses to run as root
        if user:
            shutil.chown(folder, user)

        def call(program: str, *arguments: str) -> None:
            command = [programs / program, *arguments]
            subprocess.run(command, check=True, capture_output=True, user=user, cwd=folder)

        call("initdb", "--pgdata=data", "--auth=trust", "--username=kit", "--no-sync", "--encoding=UTF8")
        serve = ("--options", f"-k {folder} -h ''", "--log=log", "--wait", "--pgdata=data")
        call("pg_ctl", "start", *serve)
        try:
            yield f"postgresql+psycopg://kit@/{{}}?host={folder}", folder
        finally:
            call("pg_ctl", "stop", "--mode=immediate", "--pgdata=data")
