"""`starter.evaluate`: evaluate a plugin from Python and get its row of the scoreboard."""

from pathlib import Path
from typing import Self

from markupsafe import Markup

from starter.contract.competition import CompetitionFile, load_competition
from starter.contract.errors import Status
from starter.contract.isolation import Trust
from starter.contract.results import EvaluationResult, Reference
from starter.contract.submissions import discover_one
from starter.contract.text import inline
from starter.data.dataset import open_dataset
from starter.evaluation.evaluate import FULL, REFERENCE_FILE, SMOKE, Evaluator, read_reference
from starter.report.explanation import explain_score
from starter.report.scores import score_line
from starter.report.terminal import describe
from starter.sandbox.choice import choose


class ScoreboardRow(EvaluationResult):
    """The result of one plugin; displays as its row of the scoreboard, in a notebook as a table."""

    explanation: str = ""
    """The score term by term, or what is wrong, why, and what to do."""

    @classmethod
    def of(cls, result: EvaluationResult, reference: Reference, rules: CompetitionFile) -> Self:
        """Return a result with its explanation."""
        if result.status is Status.OK:
            text = explain_score(result, reference, rules.score)
        else:
            text = "\n".join(describe(problem, result.path) for problem in result.problems)
        return cls(**dict(result), explanation=text)

    def __repr__(self) -> str:
        """Return the row as `starter score` prints it when the output is not a terminal."""
        return score_line(self, inline(self.name)) + ("" if self.official else "  not official")

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """Return the row as a notebook shows it."""
        cells = {"name": inline(self.name), "status": str(self.status)}
        if self.score is not None:
            cells |= {
                "score": f"{self.score:.4f}",
                "MACs": f"{self.macs:,}",
                "of baseline": f"{self.macs_ratio:.4f}",
                "macro F1": f"{self.macro_f1:.4f}",
                "F1 term": f"{self.f1_term:+.4f}",
                "branch": str(self.branch),
                "params": f"{self.params:,}",
            }
        head = Markup("").join(Markup("<th>{}</th>").format(name) for name in cells)
        row = Markup("").join(Markup("<td>{}</td>").format(text) for text in cells.values())
        table = Markup("<table><thead><tr>{}</tr></thead><tbody><tr>{}</tr></tbody></table><pre>{}</pre>")
        return str(table.format(head, row, self.explanation))


def evaluate(
    path: str | Path,
    *,
    competition: str | Path | None = None,
    data: str | Path | None = None,
    baseline: str | Path | None = None,
    isolation: str | None = None,
    smoke: bool = False,
) -> ScoreboardRow:
    """Evaluate one of your own plugins as `starter score` does.

    A plugin that fails also returns a result: its `status` and `problems` say why. Your code runs in
    separate processes, isolated as `starter score` isolates it.

    Args:
        path: NAME.py, or a folder with plugin.py.
        competition: a competition.toml; default: the one in this folder or above.
        data: a data set; default: the competition's.
        baseline: a folder with a reference.json; default: the competition's.
        isolation: auto, box, lockdown or none; None: the same as `starter score`.
        smoke: use only a few images, to see that it works; not official.

    Returns:
        ScoreboardRow: every figure of the result: `score`, `macs`, `macro_f1`, `f1_per_class`, `layers`, ...

    Raises:
        UsageError: the competition, the data set, the baseline or the path is not valid.
        HostError: this machine cannot run it, or cannot isolate it as the competition requires.

    Example:
        >>> import starter
        >>> row = starter.evaluate("submissions/separable")
        >>> row
        separable  ok  macro-F1 0.8...  MACs 4,676,032  score 0.2...
        >>> row.macs
        4676032
    """
    rules = load_competition(Path(competition) if competition else None)
    folder = Path(baseline) if baseline else rules.path(rules.baseline)
    reference = read_reference(folder)
    dataset = open_dataset(Path(data) if data else rules.path(rules.dataset))
    chosen = choose(rules, isolation, trust=Trust.OWN)
    source = discover_one(Path(path))
    with Evaluator(
        rules,
        dataset,
        scope=SMOKE if smoke else FULL,
        reference=reference,
        reference_path=folder / REFERENCE_FILE,
        isolation=chosen,
    ) as evaluator:
        (found,) = evaluator.evaluate([source])
    return ScoreboardRow.of(found.result, reference, rules)
