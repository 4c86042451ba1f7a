"""Show results to people: a table on a terminal, plain lines elsewhere.

Names and texts come from strangers, so nothing of theirs is read as markup and no
control character reaches the terminal.
"""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from starter.competition import ScoreRules
from starter.errors import CATALOGUE, Problem, StarterError, Status
from starter.schema import EvaluationResult, Reference
from starter.scoring import rank, scored_macs

_SHOW_LOG = frozenset({Status.CRASH, Status.TIMEOUT, Status.MEMORY, Status.DISK, Status.HOST_ERROR})
_LOG_LINES = 12
_HEADINGS = ("rank", "name", "score", "MACs", "of baseline", "macro F1", "F1 term", "params", "thop sees")


def clean(text: str) -> str:
    """Replace what a terminal would obey: every control character but the line break."""
    return "".join(c if c == "\n" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def say(console: Console, text: str = "", style: str = "") -> None:
    """Print a text as it is: no markup, no highlighting, no wrapping."""
    console.print(Text(clean(text), style=style), soft_wrap=True)


def show_scores(
    console: Console, results: Sequence[EvaluationResult], reference: Reference, rules: ScoreRules
) -> None:
    """Print the scoreboard, every score term by term, and what is wrong with the others."""
    ordered = rank(results)
    scored = [r for r in ordered if r.score is not None]
    if console.is_terminal:
        if scored:
            console.print(_score_table(scored))
    else:
        for result in ordered:
            say(console, _score_line(result))
    if scored:
        say(console)
        for result in scored:
            say(console, explain_score(result, reference, rules))
    show_problems(console, ordered)
    say(console)
    if rules.counter == "thop":
        say(
            console,
            "MACs as thop counts them, on the participant's side: this count can be fooled.",
            "yellow",
        )
    if any(not r.official for r in results):
        say(
            console, f"Not official: a smoke run on {scored[0].num_images if scored else 0} images.", "yellow"
        )
    say(console, _summary(results))


def show_costs(console: Console, results: Sequence[EvaluationResult], *, layers: bool = False) -> None:
    """Print what `starter validate` finds: the cost by class, or all problems."""
    for result in results:
        if result.status is Status.OK:
            say(console, f"{result.name}  ok", "green")
            say(console, _cost_lines(result))
            if layers:
                for line in _layer_lines(result):
                    say(console, line)
        else:
            say(console, f"{result.name}  {result.status}")
    show_problems(console, results)
    say(console)
    say(console, _summary(results))


def show_problems(console: Console, results: Sequence[EvaluationResult]) -> None:
    """Print every problem of every submission that failed."""
    for result in results:
        if not result.problems:
            continue
        say(console)
        for problem in result.problems:
            say(console, describe(problem, result.path))
        if result.status in _SHOW_LOG and result.log_tail.strip():
            say(console, "  log    the end of what it printed:")
            for line in result.log_tail.strip().splitlines()[-_LOG_LINES:]:
                say(console, f"         {line}", "dim")


def show_error(console: Console, error: StarterError) -> None:
    """Print an error of the caller's or of ours."""
    for problem in error.problems:
        say(console, describe(problem, problem.where))


def describe(problem: Problem, subject: str) -> str:
    """Say what is wrong, where, why and what to do, in the order in which a person asks."""
    lines = [f"{subject}: {CATALOGUE[problem.code].title}"]
    if problem.where != subject:
        lines.append(f"  where  {problem.where}")
    lines.append(f"  got    {problem.got}")
    why = CATALOGUE[problem.code].why
    if problem.expected != why:
        lines.append(f"  wanted {problem.expected}")
    lines += [
        f"  why    {why}",
        f"  fix    {problem.hint}",
        f"  code   {problem.code}: starter explain {problem.code}",
    ]
    return "\n".join(lines)


def explain_score(result: EvaluationResult, reference: Reference, rules: ScoreRules) -> str:
    """Return a score as the sum that it is, and which branch of the formula applied."""
    assert result.score is not None
    assert result.macs is not None
    assert result.macro_f1 is not None
    assert result.branch is not None
    macs = scored_macs(result.macs, result.thop_macs, rules)
    baseline_macs = scored_macs(reference.macs, reference.thop_macs, rules)
    f1, baseline_f1 = f"{result.macro_f1:.4f}", f"{reference.macro_f1:.4f}"
    term, why = {
        "below_floor": ("1", f"F1 {f1} is below the floor of {rules.f1_floor:g}: unranked"),
        "penalty": (f"{rules.penalty:g} x (1 - {f1}/{baseline_f1})", "F1 is below the baseline's: penalty"),
        "reward": (f"{rules.reward:g} x (1 - {f1}/{baseline_f1})", "F1 is not below the baseline's: reward"),
    }[result.branch]
    sign = "-" if (result.f1_term or 0) < 0 else "+"
    return (
        f"{result.name}: {macs:,} / {baseline_macs:,} MACs + {term}"
        f" = {result.macs_ratio:.4f} {sign} {abs(result.f1_term or 0):.4f} = {result.score:.4f}\n"
        f"  {why}{_absent(result)}"
    )


def _absent(result: EvaluationResult) -> str:
    if not result.absent_classes:
        return ""
    return f"; no image of {', '.join(result.absent_classes)}, which count as F1 0"


def _score_table(results: Sequence[EvaluationResult]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in (
        "rank",
        "name",
        "score",
        "MACs",
        "of baseline",
        "macro F1",
        "F1 term",
        "params",
        "thop sees",
    ):
        table.add_column(heading, justify="left" if heading == "name" else "right", no_wrap=heading != "name")
    for place, result in enumerate(results, start=1):
        cells = [
            str(place) if result.ranked else "-",
            clean(result.name),
            f"{result.score:.4f}",
            f"{result.macs:,}",
            f"{result.macs_ratio:.4f}",
            f"{result.macro_f1:.4f}",
            f"{result.f1_term:+.4f}",
            f"{result.params:,}",
            "-" if result.thop_macs is None else f"{result.thop_macs:,}",
        ]
        table.add_row(*(Text(cell) for cell in cells), style="" if result.ranked else "dim")
    return table


def _score_line(result: EvaluationResult) -> str:
    if result.score is None:
        found = result.error
        return f"{result.name}  {result.status}  {found.code} {found.got}" if found else result.name
    mark = "" if result.ranked else "  unranked"
    thop = "nothing" if result.thop_macs is None else f"{result.thop_macs:,}"
    return (
        f"{result.name}  ok  macro-F1 {result.macro_f1:.4f}  MACs {result.macs:,}  score {result.score:.4f}"
        f"  params {result.params:,}  thop sees {thop}{mark}"
    )


def _cost_lines(result: EvaluationResult) -> str:
    assert result.macs is not None
    thop = "could not count" if result.thop_macs is None else f"sees {result.thop_macs:,}"
    return "\n".join(
        [
            f"  input        {' x '.join(map(str, result.input_shape or ()))} float32",
            f"  MACs         {result.macs:,}",
            f"  contraction  {result.contraction_macs:,}",
            f"  pointwise    {result.pointwise_macs:,}",
            f"  reduction    {result.reduction_macs:,}",
            f"  params       {result.params:,}",
            f"  thop         {thop}",
        ]
    )


def _layer_lines(result: EvaluationResult) -> Iterator[str]:
    """Yield one line for each operator that costs anything, in the order in which they run."""
    total = result.macs or 1
    headings = f"{'contraction':>13} {'pointwise':>11} {'reduction':>11} {'share':>6}"
    yield f"  {headings}  operator, output, module, line"
    for node in result.layers or ():
        macs = node.contraction + node.pointwise + node.reduction
        if macs:
            place = "  ".join(part for part in (node.module, node.source) if part)
            op = node.op.removeprefix("aten.").removesuffix(".default")
            yield (
                f"  {node.contraction:13,} {node.pointwise:11,} {node.reduction:11,} {macs / total:6.1%}"
                f"  {op} {'x'.join(map(str, node.shape))}  {place}"
            )


def _summary(results: Sequence[EvaluationResult]) -> str:
    ok = sum(r.status is Status.OK for r in results)
    unranked = sum(r.score is not None and not r.ranked for r in results)
    noun = "submission" if len(results) == 1 else "submissions"
    return f"{len(results)} {noun}, {ok} ok" + (f", {unranked} unranked" if unranked else "")
