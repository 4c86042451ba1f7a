"""For tests: take a module through export, file, reader and walk, as a submission goes."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from starter.contract.costs import CostReport
from starter.contract.submissions import Kind, SubmissionSource
from starter.graph.analysis import Trace, trace
from starter.graph.costs.macs import count_macs
from starter.graph.format import Graph
from starter.graph.reader import read_graph
from starter.plugin.export import export_model, write_graph

Function = Callable[..., torch.Tensor]

HERE = SubmissionSource("test", Path(__file__).parents[1], Kind.FOLDER)


def graph_of(model: nn.Module, shape: tuple[int, int, int] = (3, 8, 8)) -> Graph:
    with tempfile.TemporaryDirectory() as folder:
        graph, weights = Path(folder) / "graph", Path(folder) / "weights"
        write_graph(export_model(model, shape, HERE), HERE, graph, weights)
        return read_graph(graph, weights)


def trace_of(model: nn.Module, shape: tuple[int, int, int] = (3, 8, 8), num_classes: int = 6) -> Trace:
    return trace(graph_of(model, shape), num_classes=num_classes)


def cost_of(model: nn.Module, shape: tuple[int, int, int] = (3, 8, 8), num_classes: int = 6) -> CostReport:
    return count_macs(trace_of(model, shape, num_classes))


class Forward(nn.Module):
    """A module whose forward is the given function, with tensors as buffers."""

    def __init__(self, function: Function, **tensors: torch.Tensor) -> None:
        super().__init__()
        self.function = function
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.function(self, image)
        return result


def to_logits(features: torch.Tensor) -> torch.Tensor:
    """Take six numbers out of an image without any arithmetic: slices and views are free."""
    return features.flatten(1)[:, :6]
