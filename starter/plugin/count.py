"""Count the MACs of your own model in this process, before training: the number that the score uses.

It uses the same export, reader, analysis and table as an evaluation, but no sandbox, so use
it only for models that this process may run anyway.
"""

import inspect
import tempfile
from pathlib import Path

from torch import nn

from starter.contract.costs import CostReport
from starter.contract.submissions import Kind, SubmissionSource
from starter.graph.analysis import Trace, trace
from starter.graph.costs.macs import count_macs
from starter.graph.operators import OPERATORS, OperatorTable
from starter.graph.reader import read_graph
from starter.plugin.export import export_model, write_graph


def count_model(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    source: SubmissionSource | None = None,
    *,
    operators: OperatorTable = OPERATORS,
) -> CostReport:
    """Return what one image costs.

    Args:
        model: what is counted, in eval mode.
        input_shape: (C, H, W) of the image.
        source: whose lines the report and errors name; None: the file of the model's class.
        operators: what each operator costs.

    Raises:
        ParticipantError: the model cannot be exported or counted.
    """
    return count_macs(trace_model(model, input_shape, source, operators=operators))


def trace_model(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    source: SubmissionSource | None = None,
    *,
    operators: OperatorTable = OPERATORS,
) -> Trace:
    """Return the walk through a model's graph; arguments and errors as for `count_model`."""
    source = source or _source_of(model)
    with tempfile.TemporaryDirectory(prefix="starter-") as place:
        graph, weights = Path(place) / "graph.json", Path(place) / "weights.safetensors"
        write_graph(export_model(model, input_shape, source), source, graph, weights)
        return trace(read_graph(graph, weights), num_classes=None, operators=operators)


def _source_of(model: nn.Module) -> SubmissionSource:
    cls = type(model)
    code = getattr(inspect.getattr_static(cls, "forward", None), "__code__", None)
    return SubmissionSource(cls.__name__, Path(code.co_filename if code else cls.__name__), Kind.FILE)
