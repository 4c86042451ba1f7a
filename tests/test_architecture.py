"""The import order: a module imports only what stands in a row above its own.

The flow is told in docs/design.md. The rows are the whole rule, so a failure names
the module, the import and the row that it breaks.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "starter"

ROWS = (
    {"contract.processors"},
    {
        "contract.isolation",
        "errors",
        "hookspecs",
        "alternatives",
        "chart",
        "contract.files",
        "folders",
        "lockdown",
        "near_duplicates",
        "observe",
        "rebuilding",
        "sandbox.log_tail",
        "tables",
        "uncertainty",
    },
    {"competition", "extras", "http_download", "image_cache", "image_store", "sandbox.protocol"},
    {"discovery", "sandbox.door", "scene_textures", "supervisor"},
    {"schema", "template"},
    {
        "archive",
        "messages",
        "scoring",
        "dataset",
        "graph",
        "records",
        "sandbox.child",
        "transforms",
        "scene_objects",
    },
    {
        "entries",
        "operators",
        "packing",
        "pipeline",
        "room",
        "sandbox.portable",
        "store",
        "coco_file",
        "dataset_writer",
        "scene_matte",
        "scene_shiny",
    },
    {
        "attention",
        "image_batches",
        "interpreter",
        "processes",
        "sandbox.choice",
        "coco_picture",
        "dataset_check",
        "dataset_import",
        "scene_waste",
    },
    {"macs", "measure", "memory_access", "program", "coco", "photographs", "synthetic", "plugins"},
    {"plugin.refusals"},
    {"export", "cluster_worker", "evaluate", "canaries", "guidelines"},
    {"board", "cost_rules", "profiler", "recording"},
    {"training_settings"},
    {"optimization", "training_data", "training_state"},
    {"augment"},
    {"costing", "distillation", "plugin.answer", "runner"},
    {"plugin.unlocked", "worker"},
    {"compressed_plugin", "training"},
    {"factorization", "pruning", "reparameterization", "search"},
    {"compression"},
    {"baseline", "batch", "cluster", "scoreboard", "verify"},
    {"page"},
    {"board_page", "board_text", "contact_sheet", "profile_view", "search_page", "standings"},
    {"dataset_page"},
    {"cli_shared"},
    {
        "cli_baseline",
        "cli_batch",
        "cli_compress",
        "cli_data",
        "cli_doctor",
        "cli_leaderboard",
        "cli_pack",
        "cli_profile",
        "cli_search",
        "cli_train",
    },
    {"cli_show", "cli_taco"},
    {"cli"},
)
ROW_OF = {name: i for i, row in enumerate(ROWS) for name in row}
RUNS_STRANGERS_CODE = {
    "plugins",
    "export",
    "worker",
    "plugin.answer",
    "plugin.unlocked",
    "training",
    "distillation",
    "compressed_plugin",
    "costing",
}
"""What the process that scores must never import."""


def imported_by(module: str) -> set[str]:
    path = PACKAGE.joinpath(*module.split(".")).with_suffix(".py")
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("starter."):
            above = str(node.module).removeprefix("starter").removeprefix(".")
            found |= {above, *(f"{above}.{alias.name}".removeprefix(".") for alias in node.names)}
    return found & ROW_OF.keys()


def test_every_module_has_a_row() -> None:
    paths = [path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py")]
    kept = [path for path in paths if path.parts[0] not in {"migrations", "templates"}]
    modules = {".".join(path.parts) for path in kept if path.name not in {"__init__", "__main__"}}
    assert modules == set(ROW_OF), "give the new module a row in tests/test_architecture.py"


@pytest.mark.parametrize("module", sorted(ROW_OF))
def test_a_module_imports_only_from_the_rows_above_its_own(module: str) -> None:
    wrong = {name for name in imported_by(module) if ROW_OF[name] >= ROW_OF[module]}
    assert not wrong, (
        f"{module} (row {ROW_OF[module]}) imports {sorted(wrong)}, which stand beside or below it"
    )


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize("module", ["starter.evaluate", "starter.cli"])
def test_the_process_that_scores_loads_neither_torch_nor_what_runs_strangers_code(module: str) -> None:
    loaded = loaded_after(f"import {module}")

    assert "torch" not in loaded
    assert not loaded & {f"starter.{name}" for name in RUNS_STRANGERS_CODE}


def test_a_plugin_can_be_imported_without_loading_torch() -> None:
    """`from starter import Submission, hookimpl` is light: what is heavy is the participant's choice."""
    assert "torch" not in loaded_after("from starter import Submission, hookimpl")
