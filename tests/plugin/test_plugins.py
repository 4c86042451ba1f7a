"""Plugins are found without importing them; what is wrong with one is said by file and line."""

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import GOOD
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

from starter.contract.competition import Limits
from starter.contract.errors import Code, ParticipantError, Problem, UsageError
from starter.contract.hookspecs import Competition
from starter.contract.submissions import Kind, SubmissionSource, discover, discover_installed, discover_one
from starter.plugin.load import LoadedPlugin, load_plugin

COMPETITION = Competition(
    num_classes=3, class_names=("Metal", "Paper", "Plastic"), mean=(0.5,) * 3, std=(0.2,) * 3
)
SMALL = """
from torch import nn
from starter import Submission, hookimpl

@hookimpl
def starter_submission():
    return Submission(model=nn.Linear(2, 3), transforms=[])
"""
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _interpreter_as_before() -> Iterator[None]:
    """Loading a plugin is the last thing its own process does; here another test follows."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith(("starter_submission_", "parts", "colorsys", "offered")):
            del sys.modules[name]


def plugin(folder: Path, text: str, name: str = "net") -> SubmissionSource:
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    return SubmissionSource(name, path, Kind.FILE)


def plugin_folder(folder: Path, text: str, **others: str) -> SubmissionSource:
    root = folder / f"net{next(_numbers)}"
    root.mkdir()
    for name, content in {"plugin": text, **others}.items():
        (root / f"{name}.py").write_text(content, encoding="utf-8")
    return SubmissionSource(root.name, root, Kind.FOLDER)


def load(source: SubmissionSource) -> LoadedPlugin:
    return load_plugin(source, COMPETITION)


def problems_of(source: SubmissionSource) -> tuple[Problem, ...]:
    with pytest.raises(ParticipantError) as refused:
        load(source)
    return refused.value.problems


def problem_of(source: SubmissionSource) -> Problem:
    (found,) = problems_of(source)
    return found


def test_a_good_plugin_is_given_the_competition_and_loaded(tmp_path: Path) -> None:
    text = SMALL.replace("submission():", "submission(competition):").replace(
        "3)", "competition.num_classes)"
    )
    loaded = load(plugin(tmp_path, text))
    assert loaded.submission.model.out_features == 3
    assert loaded.weights_path == tmp_path / "net.safetensors"
    assert (loaded.weights_loaded, loaded.problems) == (False, ())


@pytest.mark.parametrize(
    ("text", "code", "where", "got"),
    [
        ("", Code.NO_HOOK, "net.py", "no function named starter_submission"),
        (SMALL.replace("@hookimpl", ""), Code.NO_HOOK, "net.py", "(line 6) is not decorated with @hookimpl"),
        (
            SMALL + "\n@hookimpl(specname='starter_submission')\ndef another(): pass\n",
            Code.SEVERAL_HOOKS,
            "net.py",
            "another (line 9), starter_submission (line 5)",
        ),
        (
            SMALL.replace("submission():", "submission(competiton):"),
            Code.BAD_HOOK_ARGUMENT,
            "net.py",
            "competiton",
        ),
        ("\nimport nothing_like_it\n", Code.IMPORT_FAILED, "net.py:2 in <module>", "ModuleNotFoundError"),
        ("x = 1\ny = = 2\n", Code.IMPORT_FAILED, "net.py:2", "SyntaxError"),
        ("x = 'ab\x00'", Code.IMPORT_FAILED, "net.py", "null bytes"),
        ("\n\nraise KeyError('x')", Code.IMPORT_FAILED, "net.py:3 in <module>", "KeyError: 'x'"),
        (
            "def f():\n    import json\n    json.loads('')\nf()",
            Code.IMPORT_FAILED,
            "net.py:3 in f",
            "JSONDecode",
        ),
        ("import sys\nsys.exit(3)", Code.EARLY_EXIT, "net.py:2 in <module>", "sys.exit(3) on import"),
        (
            SMALL.replace("return", "1 / 0 #"),
            Code.HOOK_FAILED,
            "net.py:7 in starter_submission",
            "ZeroDivision",
        ),
        (SMALL.replace("return", "raise SystemExit #"), Code.EARLY_EXIT, "net.py:7", "SystemExit"),
        (SMALL.replace("return", ""), Code.WRONG_RETURN_TYPE, "net.py: starter_submission", "NoneType"),
        (SMALL.replace("return Sub", "return dict #"), Code.WRONG_RETURN_TYPE, "net.py", "type"),
        (
            SMALL.replace("nn.Linear(2, 3)", "nn.Linear"),
            Code.BAD_FIELD,
            "net.py: Submission.model",
            "the class Linear; call it",
        ),
        (SMALL.replace("nn.Linear(2, 3)", "'resnet18'"), Code.BAD_FIELD, "net.py: Submission.model", "str"),
        (SMALL.replace("[]", "[], weights='../w'"), Code.BAD_FIELD, "net.py: Submission.weights", "../w"),
        (SMALL.replace("[]", "[], weights='/etc/w'"), Code.BAD_FIELD, "net.py: Submission.weights", "/etc/w"),
        (
            SMALL.replace("[]", "[], weights='net.safetensors'"),
            Code.WEIGHTS_MISSING,
            "net.safetensors",
            "no such file",
        ),
        (
            SMALL.replace("[]", "[], weights='w.safetensors'"),
            Code.WEIGHTS_MISSING,
            "w.safetensors",
            "comes with net.safetensors alone",
        ),
        (
            SMALL.replace("[]", "[], weights='w.pt'"),
            Code.WEIGHTS_UNREADABLE,
            "w.pt",
            "a pickle written by torch.save",
        ),
    ],
)
def test_a_broken_plugin_is_named_with_its_own_line(
    text: str, code: Code, where: str, got: str, tmp_path: Path
) -> None:
    found = problem_of(plugin(tmp_path, text))
    assert found.code is code
    assert found.where.startswith(where)
    assert got in found.got


def test_a_long_message_is_cut(tmp_path: Path) -> None:
    found = problem_of(plugin(tmp_path, "raise ValueError('x' * 10_000)"))
    assert len(found.got) == 500


def test_an_author_is_a_name_and_no_page(tmp_path: Path) -> None:
    found = problem_of(plugin(tmp_path, SMALL.replace("[]", "[], authors=('x' * 49_000,)")))
    assert found.code is Code.BAD_FIELD
    assert "80 characters" in found.got + found.expected


def test_every_wrong_field_is_reported_at_once(tmp_path: Path) -> None:
    text = SMALL.replace("[]", "[], wieghts='w', authors='me', name=3")
    found = problems_of(plugin(tmp_path, text))
    assert {p.code for p in found} == {Code.BAD_FIELD}
    assert sorted(p.where.partition("Submission.")[2] for p in found) == ["authors", "name", "wieghts"]
    assert all(p.where.startswith("net.py:7 in starter_submission") for p in found)


def test_a_wrong_model_and_wrong_weights_are_reported_together(tmp_path: Path) -> None:
    text = SMALL.replace("nn.Linear(2, 3)", "None").replace("[]", "[], weights='../w'")
    assert len(problems_of(plugin(tmp_path, text))) == 2


def test_without_strictness_problems_come_back_with_the_submission(tmp_path: Path) -> None:
    source = plugin(tmp_path, SMALL.replace("nn.Linear(2, 3)", "None"))
    loaded = load_plugin(source, COMPETITION, strict=False)
    assert loaded.submission.transforms == []
    assert [p.code for p in loaded.problems] == [Code.BAD_FIELD]


FULL = {"weight": torch.full((3, 2), 7.0), "bias": torch.full((3,), 8.0)}


def test_weights_are_found_beside_the_file(tmp_path: Path) -> None:
    save_file(FULL, tmp_path / "net.safetensors")
    loaded = load(plugin(tmp_path, SMALL))
    assert loaded.weights_loaded
    assert torch.equal(loaded.submission.model.weight, FULL["weight"])


def test_weights_are_found_in_the_folder(tmp_path: Path) -> None:
    source = plugin_folder(tmp_path, SMALL)
    save_file(FULL, source.path / "weights.safetensors")
    loaded = load(source)
    assert loaded.weights_loaded
    assert torch.equal(loaded.submission.model.bias, FULL["bias"])


def test_weights_that_are_named_win_over_those_beside(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    save_file({key: value * 2 for key, value in FULL.items()}, tmp_path / "runs" / "best.safetensors")
    save_file(FULL, tmp_path / "net.safetensors")
    loaded = load(plugin(tmp_path, SMALL.replace("[]", "[], weights='runs/best.safetensors'")))
    assert loaded.submission.model.bias.tolist() == [16.0] * 3


def test_weights_are_left_alone_where_training_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "net.safetensors").write_bytes(b"broken")
    loaded = load_plugin(plugin(tmp_path, SMALL), COMPETITION, load_weights=False)
    assert not loaded.weights_loaded
    assert loaded.weights_path == tmp_path / "net.safetensors"


@pytest.mark.parametrize("data", [b"", b"\x80\x04K\x01.", b"PK\x03\x04 a checkpoint of torch.save"])
def test_a_file_that_is_no_safetensors_is_unreadable_and_never_unpickled(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.safetensors").write_bytes(data)
    found = problem_of(plugin(tmp_path, SMALL))
    assert (found.code, found.where) == (Code.WEIGHTS_UNREADABLE, "net.safetensors")


def test_weights_that_do_not_fit_are_named_by_kind(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2, 3), "head": torch.zeros(1)}, tmp_path / "net.safetensors")
    found = problem_of(plugin(tmp_path, SMALL))
    assert found.code is Code.WEIGHTS_MISFIT
    assert found.got == (
        "1 missing: bias; 1 unexpected: head; 1 misshapen: weight is (2, 3) in the file, (3, 2) in the model"
    )


def test_a_long_list_of_misfits_is_cut_and_counted(tmp_path: Path) -> None:
    extra = {f"layer{i:02d}": torch.zeros(1) for i in range(20)}
    save_file({**FULL, **extra}, tmp_path / "net.safetensors")
    found = problem_of(plugin(tmp_path, SMALL))
    assert found.got.startswith("20 unexpected: layer00, ")
    assert found.got.endswith("layer07, and 12 more")


def test_a_folder_may_import_its_own_modules(tmp_path: Path) -> None:
    text = SMALL.replace("nn.Linear(2, 3)", "parts.network()").replace("from torch import nn", "import parts")
    parts = "from torch import nn\n\ndef network():\n    return nn.Linear(4, 3)\n"
    assert load(plugin_folder(tmp_path, text, parts=parts)).submission.model.in_features == 4


def test_an_error_in_a_folders_module_is_named_by_that_file(tmp_path: Path) -> None:
    found = problem_of(plugin_folder(tmp_path, "import parts\n" + SMALL, parts="\n1 / 0\n"))
    assert found.where == "parts.py:2 in <module>"


def test_a_folder_cannot_shadow_the_standard_library_or_the_kit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder is the last place that is searched."""
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)  # as if nothing had imported it yet
    text = SMALL.replace("[]", "[colorsys.__file__, starter.__file__]")
    source = plugin_folder(
        tmp_path, "import colorsys\nimport starter\n" + text, colorsys="1 / 0", starter="1 / 0"
    )
    for file in load(source).submission.transforms:
        assert not Path(file).is_relative_to(tmp_path)


def names(*paths: Path) -> list[str]:
    return [c.name for c in discover(paths)]


def test_files_and_folders_are_found_in_order_and_nothing_is_run(tmp_path: Path) -> None:
    for name in ("b.py", "a.py"):
        (tmp_path / name).write_text("raise SystemExit('imported')")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "plugin.py").write_text("raise SystemExit('imported')")
    found = discover([tmp_path])
    assert [(c.name, c.kind) for c in found] == [("a", Kind.FILE), ("b", Kind.FILE), ("c", Kind.FOLDER)]
    assert found[2].file == tmp_path / "c" / "plugin.py"
    assert not any(c.problems(Limits()) for c in found)


def test_what_is_hidden_or_no_submission_is_passed_over(tmp_path: Path) -> None:
    for name in ("good.py", ".hidden.py", "__init__.py", "good.safetensors", "notes.md"):
        (tmp_path / name).touch()
    for name in ("__pycache__", ".git", "pictures"):
        (tmp_path / name).mkdir()
    (tmp_path / "__pycache__" / "good.py").touch()
    assert names(tmp_path) == ["good"]


def test_a_submission_that_is_named_twice_is_found_once(tmp_path: Path) -> None:
    (tmp_path / "a.py").touch()
    (tmp_path / "b.py").touch()
    assert names(tmp_path / "b.py", tmp_path, tmp_path / "a.py") == ["b", "a"]


def test_a_folder_of_python_without_a_plugin_is_a_mistake_with_a_message(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "model.py").touch()
    (source,) = discover([tmp_path])
    (found,) = source.problems(Limits())
    assert (found.code, found.got) == (Code.NO_PLUGIN_FILE, "no plugin.py")


@pytest.mark.parametrize("name", ["my net", "_net", "-net", "net;rm", "a" * 65, "net\n"])
def test_a_name_that_cannot_be_a_row_is_refused(name: str, tmp_path: Path) -> None:
    (found,) = SubmissionSource(name, tmp_path / "x.py", Kind.FILE).problems(Limits())
    assert found.code is Code.BAD_NAME


@pytest.mark.parametrize("name", ["n", "9", "ResNet-18_v1.5", "a" * 64])
def test_a_plain_name_is_a_row(name: str, tmp_path: Path) -> None:
    assert SubmissionSource(name, tmp_path / "x.py", Kind.FILE).problems(Limits()) == []


def usage_problems(*paths: Path) -> list[tuple[Code, str]]:
    with pytest.raises(UsageError) as refused:
        discover(paths)
    return [(p.code, p.where) for p in refused.value.problems]


def test_paths_without_a_submission_are_all_reported_at_once(tmp_path: Path) -> None:
    empty, missing, text = tmp_path / "empty", tmp_path / "missing", tmp_path / "notes.md"
    empty.mkdir()
    text.touch()
    assert usage_problems(empty, missing, text) == [
        (Code.NO_SUBMISSIONS, str(empty)),
        (Code.NO_SUCH_PATH, str(missing)),
        (Code.NO_SUCH_PATH, str(text)),
    ]


def test_where_one_is_wanted_several_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.py").touch()
    assert discover_one(tmp_path).name == "a"
    (tmp_path / "b.py").touch()
    with pytest.raises(UsageError, match="a, b"):
        discover_one(tmp_path)


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package, as far as the import system can tell; its module says when it is run."""
    info = tmp_path / "offered-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: offered\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[starter.submissions]\noffered-net = offered\n")
    (tmp_path / "offered.py").write_text(SMALL)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "offered.py"


def test_an_installed_submission_is_found_without_importing_it(offered: Path) -> None:
    (found,) = [c for c in discover_installed() if c.name == "offered-net"]
    assert (found.kind, found.file) == (Kind.ENTRY_POINT, offered)
    assert not found.problems(Limits())
    assert "offered" not in sys.modules


def test_an_installed_submission_is_loaded_by_its_entry_point(offered: Path) -> None:
    loaded = load(SubmissionSource("offered-net", offered, Kind.ENTRY_POINT))
    assert isinstance(loaded.submission.model, torch.nn.Linear)
    assert loaded.weights_path == offered.with_suffix(".safetensors")


def test_the_plugin_that_other_tests_use_is_good(tmp_path: Path) -> None:
    assert load(plugin(tmp_path, GOOD)).submission.model.head.weight.tolist() == torch.eye(3).tolist()


def test_a_submission_over_the_size_limit_is_refused_and_its_largest_files_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "fat"
    folder.mkdir()
    (folder / "plugin.py").write_text("", encoding="utf-8")
    (folder / "checkpoint.bin").write_bytes(bytes(3 * 2**20))
    source = SubmissionSource("fat", folder, Kind.FOLDER)

    (too_large,) = source.problems(Limits(submission_mb=2))
    (too_many,) = source.problems(Limits(submission_files=1))

    assert too_large.code is too_many.code is Code.TOO_LARGE
    assert "the largest: checkpoint.bin 3.0 MiB" in too_large.got
    assert source.problems(Limits(submission_mb=4)) == []


@pytest.mark.parametrize("wrapper", ["nn.DataParallel(net)", "AveragedModel(net)", "torch.compile(net)"])
@pytest.mark.parametrize("keys", ["plain", "wrapped"])
def test_weights_fit_a_wrapped_model_by_its_own_keys_and_by_the_wrappers(
    wrapper: str, keys: str, tmp_path: Path
) -> None:
    text = SMALL.replace("from torch import nn", "import torch\nfrom torch import nn")
    text = text.replace("nn.Linear(2, 3)", wrapper.replace("net", "nn.Linear(2, 3)"))
    text = "from torch.optim.swa_utils import AveragedModel\n" + text
    net: torch.nn.Module = torch.nn.Linear(2, 3)
    around = eval(wrapper, {"nn": torch.nn, "AveragedModel": AveragedModel, "torch": torch, "net": net})  # noqa: S307
    save_file({"plain": net, "wrapped": around}[keys].state_dict(), tmp_path / "net.safetensors")

    loaded = load(plugin(tmp_path, text))
    assert loaded.weights_loaded
    assert type(loaded.submission.model) is torch.nn.Linear
    assert torch.equal(loaded.submission.model.weight, net.weight)


def test_a_parallel_part_of_a_network_keeps_its_keys(tmp_path: Path) -> None:
    text = SMALL.replace("nn.Linear(2, 3)", "nn.Sequential(nn.DataParallel(nn.Linear(2, 3)))")
    net = torch.nn.Sequential(torch.nn.DataParallel(torch.nn.Linear(2, 3)))
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    assert load(plugin(tmp_path, text)).weights_loaded
