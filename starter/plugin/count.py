"""Count a model of one's own in this process, before it is trained: the number that the score uses.

The same export, reader, walk and table as in an evaluation; without a sandbox, so
for models that this process may run anyway.
"""

import tempfile
from pathlib import Path

from torch import nn

from starter.contract.results import CostReport
from starter.contract.submissions import SubmissionSource
from starter.graph.analysis import trace
from starter.graph.macs import count_macs
from starter.graph.reader import read_graph
from starter.plugin.export import export_model, write_graph


def count_model(model: nn.Module, input_shape: tuple[int, int, int], source: SubmissionSource) -> CostReport:
    """Return what one image costs.

    Raises:
        ParticipantError: the model cannot be exported or counted.
    """
    with tempfile.TemporaryDirectory(prefix="starter-") as place:
        graph, weights = Path(place) / "graph.json", Path(place) / "weights.safetensors"
        write_graph(export_model(model, input_shape, source), source, graph, weights)
        return count_macs(trace(read_graph(graph, weights), num_classes=None))
