"""Load a participant's plugin and check what its hook returns.

This imports the participant's code, so only the submission's own process
(worker.py) and commands for one's own code (recipes/training/loop.py) use it. What was found
without importing anything is in contract/submissions.py.
"""

import contextlib
import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pluggy
import torch
from pydantic import ValidationError

from starter.contract import hookspecs
from starter.contract.errors import HINTS, Code, ParticipantError, Problem, participant_error, problem
from starter.contract.hookspecs import Competition, Submission
from starter.contract.submissions import PLUGIN_FILE, Kind, SubmissionSource
from starter.plugin.prepare import prepared
from starter.plugin.refusals import RAISED, cleaned, describe_error, of_error, own_line
from starter.submission.weights import load_weights_into


@dataclass(frozen=True)
class LoadedPlugin:
    """A plugin whose hook has returned a Submission."""

    submission: Submission
    """What the hook returned."""
    weights_path: Path
    """Where the weights are, or where training would write them."""
    weights_loaded: bool
    """Whether the file at `weights_path` was loaded into the model."""
    problems: tuple[Problem, ...] = ()
    """What is wrong with its fields and weights; empty when `load_plugin` was strict."""


def load_plugin(
    source: SubmissionSource, competition: Competition, *, load_weights: bool = True, strict: bool = True
) -> LoadedPlugin:
    """Import the plugin, call its hook and load its weights.

    Raises:
        ParticipantError: there is no Submission to be had; or, if `strict`, the
            Submission has any problem. Otherwise its problems are in the result,
            so that one pass can report all of them.
    """
    module = _import(source)
    submission = _call_hook(module, source, competition)
    returned = submission.model
    if isinstance(returned, torch.nn.Module):
        with _named(source):
            submission = submission.model_copy(update={"model": prepared(submission.model)})
    problems = _field_problems(submission, source)
    path = _weights_path(submission, source)
    loaded = False
    if load_weights and not problems and (submission.weights or path.is_file()):
        shown = path.relative_to(source.file.parent).as_posix()
        with _named(source):
            only = _only_weights(source)
            weights_problems = load_weights_into(submission.model, path, shown, only=only)
            # A file may have the keys of what was around the network, which holds the same tensors.
            is_wrapped = weights_problems and returned is not submission.model
            if is_wrapped and not load_weights_into(returned, path, shown, only=only):
                weights_problems = []
        loaded = not weights_problems
        problems += weights_problems
    if problems and strict:
        raise ParticipantError(problems)
    return LoadedPlugin(submission, path, loaded, tuple(problems))


@contextlib.contextmanager
def _named(source: SubmissionSource) -> Iterator[None]:
    """Name the line of the participant's at which a model raises; its methods may be its own."""
    try:
        yield
    except Exception as error:
        cause = of_error(error) or RAISED
        raise ParticipantError([cause.problem(where=own_line(error, source), got=cleaned(error))]) from error


def load_plugin_apart(
    source: SubmissionSource, competition: Competition, *, load_weights: bool = True
) -> LoadedPlugin:
    """As `load_plugin`, where several plugins meet in one process and each may have a network.py.

    The modules that the plugin brought along are no longer found by their names afterwards.

    Raises:
        ParticipantError: as `load_plugin`.
    """
    path, known = list(sys.path), set(sys.modules)
    try:
        return load_plugin(source, competition, load_weights=load_weights)
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - known:
            if source.owns(getattr(sys.modules[name], "__file__", None) or ""):
                del sys.modules[name]


def _import(source: SubmissionSource) -> object:
    try:
        if source.kind is Kind.ENTRY_POINT:
            return _entry_point(source).load()
        if source.kind is Kind.FOLDER:
            # Appended, never put first: a submission must not shadow the kit or its libraries.
            sys.path.append(str(source.path))
        return _import_file(source)
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit):
            raise participant_error(
                Code.EARLY_EXIT, where=own_line(error, source), got=f"sys.exit({error.code!r}) on import"
            ) from error
        raise _raised(Code.IMPORT_FAILED, error, source) from error


def _entry_point(source: SubmissionSource) -> importlib.metadata.EntryPoint:
    found = importlib.metadata.entry_points(group=hookspecs.ENTRY_POINT_GROUP, name=source.name)
    return next(iter(found))


def _import_file(source: SubmissionSource) -> ModuleType:
    name = f"starter_submission_{source.name.replace('.', '_').replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(name, source.file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look a class's module up there
    spec.loader.exec_module(module)
    return module


def _call_hook(module: object, source: SubmissionSource, competition: Competition) -> Submission:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module, name=source.name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise participant_error(
            Code.BAD_HOOK_ARGUMENT, where=source.file.name, got=str(error).replace("\n", " ")
        ) from error
    implementations = [i for i in manager.hook.starter_submission.get_hookimpls() if not i.wrapper]
    if not implementations:
        raise participant_error(Code.NO_HOOK, where=source.file.name, got=_nearest_miss(module))
    if len(implementations) > 1:
        names = ", ".join(f"{i.function.__name__} (line {_first_line(i.function)})" for i in implementations)
        raise participant_error(Code.SEVERAL_HOOKS, where=source.file.name, got=names)
    return _one_submission(manager, source, competition)


def _one_submission(
    manager: pluggy.PluginManager, source: SubmissionSource, competition: Competition
) -> Submission:
    try:
        (returned,) = manager.hook.starter_submission(competition=competition) or (None,)
    except ValidationError as error:
        if error.title != Submission.__name__:
            raise _hook_failed(error, source) from error
        where = own_line(error, source)
        raise ParticipantError(
            [
                problem(
                    Code.BAD_FIELD,
                    where=f"{where}: Submission.{'.'.join(map(str, item['loc']))}",
                    expected=item["msg"],
                    got=_short(item["input"]),
                )
                for item in error.errors()
            ]
        ) from error
    except (Exception, SystemExit) as error:
        raise _hook_failed(error, source) from error
    if not isinstance(returned, Submission):
        raise participant_error(
            Code.WRONG_RETURN_TYPE,
            where=f"{source.file.name}: starter_submission",
            expected="a starter.Submission",
            got=f"{type(returned).__name__}",
        )
    return returned


def _hook_failed(error: BaseException, source: SubmissionSource) -> ParticipantError:
    return _raised(Code.EARLY_EXIT if isinstance(error, SystemExit) else Code.HOOK_FAILED, error, source)


def _raised(code: Code, error: BaseException, source: SubmissionSource) -> ParticipantError:
    details = {"where": own_line(error, source), "got": describe_error(error)}
    if isinstance(error, PermissionError):
        details["hint"] = HINTS["own_files_only"]
    return participant_error(code, **details)


def _nearest_miss(module: object) -> str:
    function = getattr(module, "starter_submission", None)
    if callable(function):
        return f"starter_submission (line {_first_line(function)}) is not decorated with @hookimpl"
    return "no function named starter_submission"


def _first_line(function: Callable[..., object]) -> int:
    line: int = inspect.unwrap(function).__code__.co_firstlineno
    return line


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def _field_problems(submission: Submission, source: SubmissionSource) -> list[Problem]:
    problems = []
    if not isinstance(submission.model, torch.nn.Module):
        got = f"the class {submission.model.__name__}; call it" if isinstance(submission.model, type) else ""
        got = "an ExportedProgram; call its .module()" if hasattr(submission.model, "graph_module") else got
        problems.append(
            problem(
                Code.BAD_FIELD,
                where=f"{source.file.name}: Submission.model",
                expected="a torch.nn.Module",
                got=got or type(submission.model).__name__,
            )
        )
    if submission.weights is not None and not _is_beside(submission.weights):
        problems.append(
            problem(
                Code.BAD_FIELD,
                where=f"{source.file.name}: Submission.weights",
                expected="a file name relative to the plugin, without '..'",
                got=submission.weights,
            )
        )
    return problems


def _only_weights(source: SubmissionSource) -> str | None:
    """Return the one weights file that comes with a plugin; None where it is a folder of any files."""
    return source.file.with_suffix(".safetensors").name if source.kind is Kind.FILE else None


def _is_beside(weights: str) -> bool:
    path = Path(weights)
    return not path.is_absolute() and ".." not in path.parts


def _weights_path(submission: Submission, source: SubmissionSource) -> Path:
    if submission.weights and _is_beside(submission.weights):
        return source.file.parent / submission.weights
    if source.file.name == PLUGIN_FILE:
        return source.file.parent / "weights.safetensors"
    return source.file.with_suffix(".safetensors")
