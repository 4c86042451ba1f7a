"""A network made smaller by `starter compress`: original/, changed as plan.json says.

    starter train THIS_FOLDER --from-weights --lr 0.001     trains it further

plan.json lists the changed layers and their changes; rebuild.py applies it. The weights are
next to this file; the original's are not needed.
"""

import importlib.util
import inspect
import json
import sys
from pathlib import Path
from typing import Any

from rebuild import rebuild

from starter import Competition, Submission, hookimpl

HERE = Path(__file__).parent


def original(competition: Competition) -> Submission:
    """Return what the original plugin's hook returns."""
    folder = HERE / "original"
    sys.path.append(str(folder))
    spec = importlib.util.spec_from_file_location(f"original_of_{HERE.name}", folder / "plugin.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    hook = module.starter_submission
    wanted = {"competition": competition} if inspect.signature(hook).parameters else {}
    submission: Submission = hook(**wanted)
    return submission


@hookimpl
def starter_submission(competition: Competition) -> Submission:
    """Return the changed network."""
    submission = original(competition)
    plan = json.loads((HERE / "plan.json").read_text(encoding="utf-8"))
    model = rebuild(submission.model, plan["steps"])
    return submission.model_copy(update={"model": model, "weights": None})
