"""What a participant is told names nobody else's things: no labels, no path of ours, no other submission.

Plugins that fail at every stage tell all that they can see, one after another in one sandbox.
"""

import json
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import isolations
import pytest
from conftest import GOOD

from starter.contract.competition import CompetitionFile, Limits
from starter.contract.errors import Code
from starter.contract.submissions import Kind, SubmissionSource
from starter.data.dataset import Dataset
from starter.evaluation.evaluate import Evaluator
from starter.evaluation.records import Context, EvaluationRecord

LIMITS = Limits(wall_seconds=12, cpu_seconds=30, memory_mb=1500, scratch_mb=16, output_mb=4)
RULES = CompetitionFile(name="test", limits=LIMITS)
REPOSITORY = Path(__file__).parents[2]

NOSY = """
import json, os, sys, time, traceback
from pathlib import Path
def all_it_sees():
    seen = [os.getcwd(), __file__, sys.argv, sys.orig_argv, sys.path, dict(os.environ), sorted(sys.modules)]
    for folder in (*Path.cwd().parents, Path.cwd(), Path(__file__).parent, Path.home(), Path("OUTSIDE")):
        try:
            seen.append(os.listdir(folder))
        except OSError as error:
            seen.append(error.errno)
    try:
        seen.append(Path("OUTSIDE/data/solution.csv").read_text())
    except OSError as error:
        seen.append(error.errno)
    return repr([*reversed(seen)])
print(all_it_sees(), file=sys.stderr, flush=True)
traceback.print_stack()
"""
FORWARD = "        return self.head(images.mean((2, 3)))"
HOOK = "def starter_submission(competition):"

FAILURES = {
    "import_error": (Code.IMPORT_FAILED, "raise RuntimeError(all_it_sees())\n" + GOOD),
    "missing_file": (Code.IMPORT_FAILED, "open('weights.bin')\n" + GOOD),
    "missing_module": (Code.IMPORT_FAILED, "import no_such_module\n" + GOOD),
    "syntax": (Code.IMPORT_FAILED, "def\n"),
    "hook_raises": (Code.HOOK_FAILED, GOOD.replace(HOOK, f"{HOOK}\n    raise KeyError(all_it_sees())")),
    "hook_looks": (
        Code.HOOK_FAILED,
        GOOD.replace(HOOK, f"{HOOK}\n    (Path(__file__).parent / 'none').read_text()"),
    ),
    "wrong_field": (Code.BAD_FIELD, GOOD.replace("model=Network()", "model=all_it_sees()")),
    "weights_outside": (Code.BAD_FIELD, GOOD.replace("model=N", "weights='OUTSIDE/data/x', model=N")),
    "weights_missing": (Code.WEIGHTS_MISSING, GOOD.replace("model=N", "weights='none.safetensors', model=N")),
    "transform": (Code.TRANSFORM_UNKNOWN, GOOD.replace("v2.ToImage()", "v2.Lambda(lambda x: all_it_sees())")),
    "forward_raises": (Code.MODEL_RAISED, GOOD.replace(FORWARD, "        raise ValueError(all_it_sees())")),
    "wrong_shape": (Code.MODEL_RAISED, GOOD.replace("mean((2, 3))", "mean((1, 2))")),
    "not_exportable": (
        Code.EXPORT_FAILED,
        GOOD.replace(FORWARD, "        if images.sum() > 0: images = images + 1\n" + FORWARD),
    ),
    "not_counted": (Code.NO_COST_RULE, GOOD.replace("mean((2, 3))", "mean((2, 3)).sort(1).values")),
    "not_finite": (Code.NON_FINITE_LOGITS, GOOD.replace("mean((2, 3))", "mean((2, 3)) / 0 * 0")),
    "too_large": (
        Code.OUTPUT,
        GOOD.replace("nn.Linear(3, 3)", "nn.Linear(3, 3); self.more = nn.Linear(3000, 1000)").replace(
            "mean((2, 3)))", "mean((2, 3))) + self.more.weight.sum()"
        ),
    ),
    "leaves": (Code.EARLY_EXIT, "sys.exit(all_it_sees())"),
    "crashes": (Code.CRASH, "import ctypes; ctypes.string_at(0)"),
    "hangs": (Code.TIMEOUT, "time.sleep(100)"),
    "eats": (Code.MEMORY, "held = []\nwhile True: held.append(bytearray(b'x') * 2**26)\n"),
    "fills": (
        Code.DISK,
        "for i in range(50): open(f'junk{i}', 'wb').write(b'x' * 2**21)\ntime.sleep(60)\n",
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=isolations.NAMES)
def told(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, easy_dataset: Dataset
) -> dict[str, dict[str, Any]]:
    """What each of the failing plugins' authors gets, after two submissions of others in the same sandbox."""
    if reason := isolations.lacks(request.param):
        pytest.skip(reason)
    place = tmp_path_factory.mktemp("organizer")
    (place / "data").symlink_to(easy_dataset.root)
    texts = {"rival_ada": GOOD, "rival_bob": GOOD}
    texts |= {name: (NOSY + text).replace("OUTSIDE", str(place)) for name, (_, text) in FAILURES.items()}
    sources = []
    for name, text in texts.items():
        path = place / f"{name}.py"
        path.write_text(text, encoding="utf-8")
        sources.append(SubmissionSource(name, path, Kind.FILE))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(place))
        patch.setenv("PATH", str(place / "bin"), prepend=os.pathsep)
        patch.setenv("STARTER_STORE_PASSWORD", "hunter2")
        with Evaluator(RULES, easy_dataset, isolation=isolations.named(request.param)) as evaluator:
            evaluated = list(evaluator.evaluate(sources))
    return {
        found.result.name: EvaluationRecord(
            submission="",
            context=Context(data="", baseline="", rules="", cost_version=""),
            evaluated_at=datetime.now(UTC),
            result=found.result,
            limits=LIMITS,
        )
        .for_participant()
        .model_dump(mode="json")
        for found in evaluated
    }


@pytest.mark.long
@pytest.mark.parametrize("name", FAILURES)
def test_a_message_names_nothing_that_is_not_the_participants(
    name: str, told: dict[str, dict[str, Any]]
) -> None:
    result = told[name]["result"]
    assert result["error"]["code"] == FAILURES[name][0]
    text = json.dumps(told[name], ensure_ascii=False)
    if "OUTSIDE" in FAILURES[name][1]:
        text = text.replace(result["error"]["got"], "")  # its own words
    for environment in (sys.prefix, sys.base_prefix, f"{REPOSITORY / 'starter'}", f"'{REPOSITORY}'"):
        text = text.replace(environment, "ENVIRONMENT")  # it can read that, so it can print it
    for secret in (
        "organizer0",
        "starter-",
        str(Path(tempfile.gettempdir(), "pytest-")),
        str(REPOSITORY),
        "hunter2",
        "STARTER_STORE",
        "rival_",
        "image_id",
        "Usage",
        "Private",
    ):
        assert secret not in text


@pytest.mark.long
@pytest.mark.parametrize("name", [n for n, (_, text) in FAILURES.items() if "all_it_sees" not in text])
def test_our_own_words_show_paths_within_the_submission(name: str, told: dict[str, dict[str, Any]]) -> None:
    for found in told[name]["result"]["problems"]:
        assert "/" not in found["where"]
        words = f"{found['where']} {found['got']} {found['hint']}"
        for ours in (sys.prefix, sys.base_prefix, str(REPOSITORY)):
            assert ours not in words
