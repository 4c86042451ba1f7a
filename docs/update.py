"""Write the generated parts of the documents: `tox -e docs`, after changing what they show.

A part stands between `<!-- begin: NAME -->` and `<!-- end -->`. tests/test_docs.py
compares all of them with the code; the scoreboard and the profiles are only written
with --runs, because they take runs of `starter score` and `starter profile`.
"""

import argparse
import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Callable
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
    "docs/profile.md",
    "docs/security.md",
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


def printed(*arguments: str) -> str:
    """Return what a command of ours prints."""
    command = [sys.executable, "-m", "starter", *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603 - our own
    return f"```text\n{run.stdout.rstrip()}\n```"


def board() -> str:
    """Return the scoreboard alone, without the explanations under it."""
    return printed("score").split("\n\n")[0] + "\n```"


def profiles() -> str:
    """Return the profiles of the baseline and the examples, and draw their picture."""
    names = ("baseline", "submissions/shufflenet.py", "submissions/separable", "submissions/pruned")
    texts = [printed("profile", name) for name in names]
    printed("profile", *names, "--png", "docs/profile.png")
    return "\n\n".join(
        f"<details><summary>starter profile {name}</summary>\n\n{text}\n\n</details>"
        for name, text in zip(names, texts, strict=True)
    )


def comparison() -> str:
    """Return the table under two profiles."""
    text = printed("profile", "submissions/separable", "--compare", "baseline")
    return "```text\n" + text[text.index("                ", text.rindex("G4 ")) :].lstrip("\n")


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
    "scoreboard": lambda: printed("score"),
    "board": board,
    "profiles": profiles,
    "comparison": comparison,
}


def updated(text: str, parts: dict[str, Callable[[], str]]) -> str:
    """Return a document with the given parts written anew, and all others as they are."""

    def write(found: re.Match[str]) -> str:
        name = found[1]
        body = f"{parts[name]()}\n" if name in parts else found[2]
        return f"<!-- begin: {name} -->\n{body}<!-- end -->"

    return BLOCK.sub(write, text)


def main() -> None:
    """Write all documents."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", action="store_true", help="also run score and profile, and paste them")
    parts = PARTS | (RUNS if parser.parse_args().runs else {})
    for name in FILES:
        path = ROOT / name
        path.write_text(updated(path.read_text(encoding="utf-8"), parts), encoding="utf-8")


if __name__ == "__main__":
    main()
