"""Show results: a table in a terminal, plain lines otherwise.

Names and texts come from strangers, so none of them is read as markup and no
control character reaches the terminal.
"""

from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from starter.contract.competition import ScoreRules
from starter.contract.errors import Status
from starter.contract.results import EvaluationResult, Reference
from starter.contract.text import inline
from starter.evaluation.scoring import Counts, rank
from starter.report.explanation import count_text, explain_score, formula
from starter.report.problems import print_found
from starter.report.terminal import print_line, print_wrapped

_SHOW_LOG = frozenset({Status.CRASH, Status.TIMEOUT, Status.MEMORY, Status.DISK, Status.HOST_ERROR})
_LOG_LINES = 12
_Labels = dict[tuple[str, str], str]
_COLUMNS: dict[str, Callable[[EvaluationResult], str]] = {
    "score": lambda r: f"{r.score:.4f}",
    "MACs": lambda r: f"{r.macs:,}",
    "of baseline": lambda r: f"{r.macs_ratio:.4f}",
    "macro F1": lambda r: f"{r.macro_f1:.4f}",
    "F1 term": lambda r: f"{r.f1_term:+.4f}",
    "branch": lambda r: str(r.branch),
    "params": lambda r: f"{r.params:,}",
    "thop sees": lambda r: count_text(r.thop_macs),
}
_DROPPED_FIRST = ("thop sees", "params", "branch", "F1 term", "of baseline")
"""The columns that a narrow terminal leaves out first; the lines below the table have all figures."""


def show_scores(
    console: Console,
    results: Sequence[EvaluationResult],
    reference: Reference,
    rules: ScoreRules,
    *,
    baseline: str,
) -> None:
    """Print the scoreboard, every score term by term, and the problems of the other submissions.

    `baseline` is the baseline's path: if it is among the results, its row says so;
    otherwise its figures follow the rows.
    """
    ordered = rank(results)
    labels = _labels(ordered, baseline)
    scored = [r for r in ordered if r.score is not None]
    if not console.is_terminal:
        for result in ordered:
            print_line(console, score_line(result, labels[_key(result)]))
    elif scored:
        console.print(_fitting_table(console, scored, labels))
    if all(r.path != baseline for r in results):
        print_line(console, _reference_line(reference, rules), "dim")
    print_line(console)
    print_wrapped(console, formula(reference, rules))
    for result in (r for r in ordered if r.status is Status.OK):
        print_line(console)
        print_wrapped(console, f"{labels[_key(result)]}: {explain_score(result, reference, rules)}")
        _show_warnings(console, result)
    show_problems(console, ordered)
    print_line(console)
    if rules.counter == "thop":
        print_line(
            console,
            "MACs as thop counts them, in the submission's process: this count can be fooled.",
            "yellow",
        )
    if any(not r.official for r in results):
        smoke = f"a smoke run on {scored[0].num_images if scored else 0} images"
        unprotected = any(r.isolation == "none" for r in results)
        print_line(
            console, f"Not official: {'scored without isolation' if unprotected else smoke}.", "yellow"
        )
    print_line(console, _summary(results))


def show_costs(console: Console, results: Sequence[EvaluationResult], *, layers: bool = False) -> None:
    """Print the findings of `starter validate`: the cost by class, or all problems."""
    for result in results:
        if result.status is Status.OK:
            print_line(console, f"{inline(result.name)}  ok", "green")
            print_line(console, _cost_lines(result))
            _show_warnings(console, result)
            if layers:
                for line in _layer_lines(result):
                    print_line(console, line)
        else:
            print_line(console, f"{inline(result.name)}  {result.status}")
    show_problems(console, results)
    print_line(console)
    print_line(console, _summary(results))


def _show_warnings(console: Console, result: EvaluationResult) -> None:
    for warning in result.warnings:
        print_line(console, f"  warning: {inline(warning)}", "yellow")


def show_problems(console: Console, results: Sequence[EvaluationResult]) -> None:
    """Print the problems of the submissions that failed; repeated problems are summed up."""
    logs = {
        result.path: "\n         ".join(["  log    the end of what it printed:", *log[-_LOG_LINES:]])
        for result in results
        if result.status in _SHOW_LOG and (log := result.log_tail.strip().splitlines())
    }
    found = [(result.path, problem) for result in results for problem in result.problems]
    print_found(console, found, logs)


def _key(result: EvaluationResult) -> tuple[str, str]:
    return (result.name, result.path)  # a package may offer several submissions: one path, several names


def _labels(results: Sequence[EvaluationResult], baseline: str) -> _Labels:
    """Return the label of each row: its name, and its path if several rows share the name."""
    names = [r.name for r in results]
    labels = {}
    for result in results:
        label = inline(result.name)
        if result.warnings:
            label += " (!)"
        if result.path == baseline:
            label += " (reference)"
        elif names.count(result.name) > 1:
            label += f" ({inline(result.path)})"
        labels[_key(result)] = label
    return labels


def _reference_line(reference: Reference, rules: ScoreRules) -> str:
    counts = Counts.of(reference)
    return (
        f"relative to {inline(reference.name)}: macro-F1 {reference.macro_f1:.4f}  MACs {reference.macs:,}"
        f"  score {counts.over(counts, rules):.4f}  (from reference.json, not evaluated again)"
    )


def _fitting_table(console: Console, results: Sequence[EvaluationResult], labels: _Labels) -> Table:
    """Return the table with the columns that fit the terminal's width."""
    for count in range(len(_DROPPED_FIRST) + 1):
        table = _table([h for h in _COLUMNS if h not in _DROPPED_FIRST[:count]], results, labels)
        if console.measure(table, options=console.options.update(width=1000)).maximum <= console.width:
            break
    return table


def _table(headings: Sequence[str], results: Sequence[EvaluationResult], labels: _Labels) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("rank", justify="right")
    table.add_column("name", overflow="fold", max_width=32)
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "branch" else "right", no_wrap=True)
    for place, result in enumerate(results, start=1):
        cells = [
            str(place) if result.ranked else "-",
            labels[_key(result)],
            *(_COLUMNS[heading](result) for heading in headings),
        ]
        table.add_row(*(Text(cell) for cell in cells), style="" if result.ranked else "dim")
    return table


def score_line(result: EvaluationResult, label: str) -> str:
    """Return a row of the scoreboard as one line of text."""
    if result.score is None:
        found = result.error
        return f"{label}  {result.status}  {inline(f'{found.code} {found.got}') if found else 'no score'}"
    mark = "" if result.ranked else "  unranked"
    mark += "  with a warning" if result.warnings else ""
    return (
        f"{label}  ok  macro-F1 {result.macro_f1:.4f}  MACs {result.macs:,}  score {result.score:.4f}{mark}"
    )


def _cost_lines(result: EvaluationResult) -> str:
    assert result.macs is not None
    lines = [
        ("input", f"{' x '.join(map(str, result.input_shape or ()))} float32"),
        ("MACs", f"{result.macs:,}"),
        ("contraction", f"{result.contraction_macs:,}"),
        ("pointwise", f"{result.pointwise_macs:,}"),
        ("reduction", f"{result.reduction_macs:,}"),
        ("params", f"{result.params:,}"),
    ]
    if result.costs is not None:  # a record of an earlier kit has none
        lines += [
            ("weights", f"{result.costs.weight_bytes:,} bytes"),
            ("peak memory", f"{result.costs.peak_memory_bytes:,} bytes, weights included"),
            ("memory access", f"{result.costs.memory_access:,} elements"),
            ("depth", f"{result.costs.depth} layers"),
            ("bit operations", count_text(result.costs.bit_operations)),
        ]
    lines += [
        ("ptflops counts", count_text(result.ptflops_macs)),
        ("thop sees", count_text(result.thop_macs)),
    ]
    return "\n".join(f"  {name:<14}  {value}" for name, value in lines)


def _layer_lines(result: EvaluationResult) -> Iterator[str]:
    """Yield one line for each operator with a cost, in the order in which they run."""
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
    """Return a summary such as `4 submissions: 3 ranked, 1 failed`."""
    failed = sum(r.status is not Status.OK for r in results)
    ranked = sum(r.ranked for r in results)
    ok = len(results) - failed
    validated = all(r.macro_f1 is None for r in results)
    counts = {"ok": ok} if validated else {"ranked": ranked, "unranked": ok - ranked}
    parts = [f"{n} {what}" for what, n in (counts | {"failed": failed}).items() if n]
    noun = "submission" if len(results) == 1 else "submissions"
    return f"{len(results)} {noun}: {', '.join(parts)}"
