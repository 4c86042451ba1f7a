"""The map of the code: which package may import from which. docs/design.md tells why.

LAYERS is the whole rule. A package imports from itself and from those that stand before it. What decides
who wins (`evaluation`, `organizer`) reaches a stranger's code only through another process.
"""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "starter"

LAYERS = {
    "contract": "what participants, organizers and processes agree on: hooks, rules, errors, records",
    "graph": "a network as data: its format, what it costs, how it runs",
    "submission": "a submission's files and transforms",
    "data": "data sets: reading, writing, drawing, checking",
    "sandbox": "a locked process for a stranger's code",
    "plugin": "the only code that loads and runs a plugin",
    "evaluation": "measuring and scoring a submission; it never runs its Python",
    "recipes": "training, compressing and searching: the participant's own code, unlocked",
    "organizer": "batches, stores, leaderboards",
    "report": "what people see: terminal, pages, pictures",
    "cli": "the command line",
}
"""Package: what belongs there. From the bottom up."""

ORDER = list(LAYERS)
MOST_MODULES, MOST_LINES, MOST_LINES_OF_A_FUNCTION = 10, 330, 60
FORBIDDEN = {"evaluation": {"plugin"}, "organizer": {"plugin", "recipes"}}
"""Below them, and yet out of reach: a stranger's code runs in other processes only."""

ADDRESSES = {"__init__", "__main__", "costs", "transforms"}
"""Modules of the root: what users import or run."""


def modules() -> dict[str, Path]:
    """Return every module of ours by its dotted name below `starter`; templates for users are no modules."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if all((folder / "__init__.py").exists() for folder in path.relative_to(PACKAGE.parent).parents[:-1]):
            name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
            if path.name != "__init__.py" or path.parent == PACKAGE:
                found[name] = path
    return found


MODULES = modules()


def imported_by(module: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("starter."):
            above = str(node.module).removeprefix("starter").removeprefix(".")
            found |= {above, *(f"{above}.{alias.name}".removeprefix(".") for alias in node.names)}
    return found & MODULES.keys()


def complaint(module: str, imported: str) -> str | None:
    """Say what is wrong with one import."""
    here, there = module.partition(".")[0], imported.partition(".")[0]
    if there in FORBIDDEN.get(here, ()):
        return f"{module} imports {imported}: {here} must not run a stranger's code; ask another process"
    if ORDER.index(there) > ORDER.index(here):
        return (
            f"{module} imports {imported}, which stands above it: {here} is for {LAYERS[here]};"
            f" what needs {there} belongs into {there} or above"
        )
    return None


def home_of(module: str) -> str | None:
    """Say where a module belongs that stands in no package of the map."""
    if module in ADDRESSES or module.partition(".")[0] in LAYERS:
        return None
    places = "".join(f"\n  starter/{name}/  {what}" for name, what in LAYERS.items())
    return f"starter/{module.replace('.', '/')}.py belongs into one of:{places}"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_stands_in_a_package_and_imports_only_from_below(module: str) -> None:
    assert home_of(module) is None, home_of(module)
    if module in ADDRESSES:
        return
    wrong = [said for name in sorted(imported_by(module)) if (said := complaint(module, name))]
    assert not wrong, "\n".join(wrong)


def test_a_planted_import_is_told_with_where_it_belongs() -> None:
    said = complaint("evaluation.scoring", "plugin.load")
    assert said == (
        "evaluation.scoring imports plugin.load: evaluation must not run a stranger's code;"
        " ask another process"
    )
    said = complaint("graph.costs.macs", "report.profile")
    assert said == (
        "graph.costs.macs imports report.profile, which stands above it: graph is for a network as data: its"
        " format, what it costs, how it runs; what needs report belongs into report or above"
    )
    assert "starter/graph/" in str(home_of("new_operators"))


def test_no_module_imports_itself_by_way_of_others() -> None:
    order = list(TopologicalSorter({name: imported_by(name) for name in MODULES}).static_order())
    assert len(order) == len(MODULES) > 90


def test_the_tree_stays_small_and_its_package_files_empty() -> None:
    folders = {path.parent for name, path in MODULES.items() if name not in ADDRESSES}
    assert len([p for p in PACKAGE.iterdir() if p.name != "__pycache__"]) <= 16
    for folder in folders:
        own = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(own) <= MOST_MODULES, f"{folder} has {len(own)} modules: {own}"
        assert not (folder / "__init__.py").read_text(encoding="utf-8"), f"{folder}/__init__.py is not empty"


def test_modules_and_functions_stay_short() -> None:
    for name, path in MODULES.items():
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= MOST_LINES, f"{name} has more than {MOST_LINES} lines: split it by concept"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                assert lines <= MOST_LINES_OF_A_FUNCTION, f"{name}.{node.name} has {lines} lines"


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize(
    "module", ["starter.evaluation.evaluate", "starter.organizer.batch", "starter.cli.app"]
)
def test_the_process_that_scores_loads_neither_torch_nor_what_runs_strangers_code(module: str) -> None:
    loaded = loaded_after(f"import {module}")

    assert "torch" not in loaded
    assert not {name for name in loaded if name.startswith(("starter.plugin.", "starter.recipes."))}


def test_a_plugin_can_be_imported_without_loading_torch() -> None:
    """`from starter import Submission, hookimpl` is light: what is heavy is the participant's choice."""
    assert "torch" not in loaded_after("from starter import Submission, hookimpl")
