"""Write the generated parts of the documents: `tox -e docs`, after changing what they show.

A part stands between `<!-- begin: NAME -->` and `<!-- end -->`. tests/test_docs.py
compares all of them with the code, apart from the output of commands that score, profile
or compress: only --runs writes it, in a few minutes. Latencies need a machine that runs nothing else.
"""

import argparse
import ast
import atexit
import inspect
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from starter.contract.errors import Language, explanations
from starter.contract.hookspecs import Competition, Submission
from starter.contract.isolation import TRUST, Level, Trust
from starter.evaluation.scoring import RankKey
from starter.graph.format import GETITEM
from starter.graph.formulas import CostClass
from starter.graph.kernels import declared_arguments
from starter.graph.operators import OPERATORS
from starter.submission import transforms

ROOT = Path(__file__).parents[1]
FILES = (
    "README.md",
    "docs/first-score.md",
    "docs/plugin.md",
    "docs/scoring.md",
    "docs/errors.md",
    "README.ko.md",
    "docs/ko/errors.md",
    "docs/ko/plugin.md",
    "docs/ko/first-score.md",
    "docs/profile.md",
    "docs/security.md",
    "docs/smaller.md",
)
BLOCK = re.compile(r"<!-- begin: (\w+) -->\n(.*?)<!-- end -->", re.DOTALL)


def fields(model: type) -> str:
    """Return a table of a record's fields: name, type, and the text under it in the source."""
    body = ast.parse(inspect.getsource(model)).body[0]
    assert isinstance(body, ast.ClassDef)
    rows = ["| field | type | |", "|---|---|---|"]
    for item, text in zip(body.body, body.body[1:], strict=False):
        if not isinstance(item, ast.AnnAssign) or not isinstance(text, ast.Expr):
            continue
        meaning = " ".join(str(ast.literal_eval(text.value)).split())
        plain = re.sub(r"Annotated\[(\w+), .*?\)\]", r"\1", ast.unparse(item.annotation))
        kind = plain.replace("|", "or")
        rows.append(f"| `{ast.unparse(item.target)}` | `{kind}` | {meaning} |")
    return "\n".join(rows)


def allowed_transforms() -> str:
    """Return the names that may be used."""
    return ", ".join(f"`{name}`" for name in sorted(transforms.ALLOWED))


def errors() -> str:
    """Return one section for each code."""
    return "\n\n".join(
        f"## {code} {entry.title}\n\n"
        f"Status `{entry.status}`, stage {entry.stage}. {entry.why}\n\n**Fix** {entry.fix}"
        for code, entry in explanations(Language.ENGLISH).items()
    )


def errors_ko() -> str:
    """Return one section for each code, in Korean."""
    return "\n\n".join(
        f"## {code} {entry.title}\n\n"
        f"상태 `{entry.status}`, 단계 {entry.stage}. {entry.why}\n\n**해결** {entry.fix}"
        for code, entry in explanations(Language.KOREAN).items()
    )


def operators() -> str:
    """Return the operator table, operators of one cost in one row."""
    groups: dict[tuple[CostClass, str], list[str]] = {}
    for op, row in OPERATORS.items():
        name = op.removeprefix("aten.").removesuffix(".default")
        groups.setdefault((row.kind, row.rule), []).append(f"`{name}`")
    lines = ["| class | cost | operators |", "|---|---|---|"]
    for (kind, rule), names in groups.items():
        cost = f"0: {rule}" if kind in (CostClass.MOVEMENT, CostClass.CONSTANT) else rule
        lines.append(f"| {kind} | {cost} | {' '.join(sorted(names))} |")
    return "\n".join(lines)


def operands() -> str:
    """Return which arguments of an operator may depend on the image, where there are several."""
    groups: dict[str, list[str]] = {}
    for op, row in OPERATORS.items():
        if row.kind is CostClass.CONSTANT or op == GETITEM:
            continue
        tensors = [a.name for a in declared_arguments(op) if a.tensors]
        priced = [name for name in tensors if row.operands is None or name in row.operands]
        if len(tensors) > 1:
            groups.setdefault(", ".join(priced), []).append(
                f"`{op.removeprefix('aten.').removesuffix('.default')}`"
            )
    lines = ["| may depend on the image | operators |", "|---|---|"]
    return "\n".join([*lines, *(f"| {names} | {' '.join(sorted(ops))} |" for names, ops in groups.items())])


def trust() -> str:
    """Return whose code each command runs, and how little isolation is accepted."""
    lines = ["| runs | commands | accepts |", "|---|---|---|"]
    for side in Trust:
        commands = " ".join(f"`{command}`" for command, whose in TRUST.items() if whose is side)
        accepts = "any level" if side.least is Level.NONE else f"`{side.least}` or stricter"
        lines.append(f"| {side} | {commands} | {accepts} |")
    return "\n".join(lines)


def plugin() -> str:
    """Return the smallest example."""
    return "```python\n" + (ROOT / "submissions/shufflenet.py").read_text(encoding="utf-8") + "```"


@cache
def printed(*arguments: str, folder: Path = ROOT) -> str:
    """Return what a command of ours prints: its results, and lines about the files that it writes."""
    command = [sys.executable, "-m", "starter", *arguments]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)  # noqa: S603 - our own
    told = [line for line in run.stderr.splitlines() if "MACs before" in line]
    return "\n".join([*told, run.stdout.rstrip()])


def block(text: str) -> str:
    """Return a text as a block of code."""
    return f"```text\n{text}\n```"


def board() -> str:
    """Return the scoreboard alone, without the explanations under it."""
    return block(printed("score").split("\n\n")[0])


def explained(name: str) -> str:
    """Return the explanation of one score."""
    return block(next(part for part in printed("score").split("\n\n") if re.match(rf"{name}\b.*: ", part)))


def profiles() -> str:
    """Return the profiles of the baseline and the examples, and draw their picture."""
    names = ("baseline", "submissions/shufflenet.py", "submissions/separable", "submissions/pruned")
    texts = [block(printed("profile", name)) for name in names]
    printed("profile", *names, "--png", "docs/profile.png")
    return "\n\n".join(
        f"<details><summary>starter profile {name}</summary>\n\n{text}\n\n</details>"
        for name, text in zip(names, texts, strict=True)
    )


def comparison(*, timed: bool = True) -> str:
    """Return the table under two profiles, with or without the latencies of this machine."""
    text = printed("profile", "submissions/separable", "--compare", "baseline")
    table = text[text.index("                ", text.rindex("G4 ")) :].strip("\n").splitlines()
    rows = [line.rstrip() for line in table if line.strip() and (timed or "latency" not in line)]
    return block("\n".join(rows))


@cache
def copy() -> Path:
    """Return a copy of the packaged competition, in which docs/smaller.md writes its own plugins."""
    folder = Path(tempfile.mkdtemp(prefix="starter-docs-"))
    atexit.register(shutil.rmtree, folder)
    printed("new", "smaller", folder=folder)
    return folder / "smaller"


def lower() -> str:
    """Return the score of the baseline at 64 pixels, before any training."""
    folder = copy() / "lower"
    folder.mkdir()
    shutil.copy(ROOT / "baseline/weights.safetensors", folder)
    text = (ROOT / "baseline/plugin.py").read_text(encoding="utf-8").replace("(112, 112)", "(64, 64)")
    (folder / "plugin.py").write_text(text, encoding="utf-8")
    return block("\n\n".join(printed("score", "lower", folder=copy()).split("\n\n")[:2]))


def folded() -> str:
    """Return what folding the batch norms of an example prints, without the explanations."""
    told = printed("compress", "submissions/distilled.py", "--out", "folded", folder=copy())
    return block(told.split("\n\n")[0])


def folded_costs() -> str:
    """Return the costs of the folded example."""
    return block(printed("validate", "folded", folder=copy()).split("\n\n")[0])


PARTS: dict[str, Callable[[], str]] = {
    "competition": lambda: fields(Competition),
    "submission": lambda: fields(Submission),
    "transforms": allowed_transforms,
    "errors": errors,
    "errors_ko": errors_ko,
    "operators": operators,
    "operands": operands,
    "order": lambda: fields(RankKey),
    "plugin": plugin,
    "trust": trust,
}


RUNS: dict[str, Callable[[], str]] = {
    "scoreboard": lambda: block(printed("score")),
    "board": board,
    "score_baseline": partial(explained, "baseline"),
    "score_distilled": partial(explained, "distilled"),
    "score_pruned": partial(explained, "pruned"),
    "score_separable": partial(explained, "separable"),
    "comparison": comparison,
    "comparison_costs": partial(comparison, timed=False),
    "lower": lower,
    "folded": folded,
    "folded_costs": folded_costs,
    "profiles": profiles,
}


def updated(text: str, parts: dict[str, Callable[[], str]]) -> str:
    """Return a document with the given parts written again, and all others unchanged."""

    def write(found: re.Match[str]) -> str:
        name = found[1]
        body = f"{parts[name]()}\n" if name in parts else found[2]
        return f"<!-- begin: {name} -->\n{body}<!-- end -->"

    return BLOCK.sub(write, text)


def main() -> None:
    """Write all documents."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--runs",
        nargs="*",
        metavar="NAME",
        choices=[*RUNS, []],
        help="also run the commands: all, or these parts",
    )
    runs = parser.parse_args().runs
    parts = PARTS | {name: RUNS[name] for name in (RUNS if runs == [] else runs or ())}
    for name in FILES:
        path = ROOT / name
        path.write_text(updated(path.read_text(encoding="utf-8"), parts), encoding="utf-8")


if __name__ == "__main__":
    main()
