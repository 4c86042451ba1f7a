"""Compare the peak memory that is read off the graph with what the runner really holds alive.

Every result of every operator is watched while the kit's own runner computes one image: whose memory is
still reachable when an operator has returned is alive. The two must be the same, to the byte.

    python benchmarks/peak_memory.py
    python benchmarks/peak_memory.py torchvision/resnet18 timm/lcnet_050
"""

import argparse
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn
from torch._C import _functorch

from starter.contract.submissions import Kind, SubmissionSource
from starter.graph.analysis import Trace, trace
from starter.graph.costs.memory import peak_memory_bytes, weight_bytes
from starter.graph.executor import Program
from starter.graph.format import INPUT, AtenValue, refs_in
from starter.graph.formulas import tensors_of
from starter.graph.reader import read_graph
from starter.plugin.export import export_model, write_graph

NETWORKS = {
    64: """torchvision/mobilenet_v2 torchvision/mobilenet_v3_small torchvision/shufflenet_v2_x0_5
        torchvision/resnet18 torchvision/resnext50_32x4d torchvision/densenet121 torchvision/googlenet
        torchvision/efficientnet_b0 torchvision/efficientnet_v2_s torchvision/squeezenet1_1
        torchvision/mnasnet0_5 torchvision/regnet_y_400mf torchvision/convnext_tiny
        timm/mobilenetv4_conv_small timm/ghostnet_100 timm/lcnet_050 timm/convnextv2_atto timm/tinynet_e
        timm/efficientvit_b0 timm/repvgg_a0 timm/hrnet_w18_small timm/edgenext_xx_small timm/dla34""",
    224: """torchvision/alexnet torchvision/vgg11 torchvision/vit_b_16 torchvision/swin_t
        torchvision/maxvit_t timm/levit_128s timm/mixer_s32_224 timm/pit_ti_224""",
}
"""Size of the image: networks."""


def main(names: list[str]) -> None:
    """Print a line for each network, and how many agree."""
    torch.set_num_threads(1)
    sizes = {name: size for size, some in NETWORKS.items() for name in some.split()}
    agree = 0
    print(f"{'network':34} {'weights':>12} {'peak':>12} {'read off':>12} {'held':>12}")
    for name in names or sizes:
        walk = traced(build(name), (3, sizes.get(name, 224), sizes.get(name, 224)))
        weights, peak = weight_bytes(walk), peak_memory_bytes(walk)
        held = held_by_the_runner(walk)
        agree += held == peak - weights
        print(f"{name:34} {weights:12,} {peak:12,} {peak - weights:12,} {held:12,}", flush=True)
    print(f"{agree} of {len(names or sizes)} agree to the byte")


def build(name: str) -> nn.Module:
    """Return a network of torchvision or timm with six classes and random weights."""
    library, _, model = name.partition("/")
    torch.manual_seed(0)
    if library == "timm":
        import timm

        found: nn.Module = timm.create_model(model, num_classes=6)
    else:
        import torchvision

        options = {"init_weights": False, "aux_logits": False} if model == "googlenet" else {}
        found = torchvision.models.get_model(model, num_classes=6, **options)
    return found.eval()


def traced(model: nn.Module, shape: tuple[int, int, int]) -> Trace:
    """Take a network through export, file and reader, as a submission goes."""
    here = SubmissionSource("network", Path(), Kind.FILE)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph, weights = Path(folder) / "graph", Path(folder) / "weights"
        write_graph(export_model(model, shape, here), here, graph, weights)
        return trace(read_graph(graph, weights), num_classes=None)


def held_by_the_runner(walk: Trace) -> int:
    """Return the most bytes of memory that the runner's values name at once while it computes one image.

    Weights are left out. Memory counts once, however many values name it.
    """
    program = Program(walk, batch_size=1)
    image = torch.rand(walk.graph.file.input_shape)
    watch = _Watch(program)
    program(image)
    return watch.most


class _Watch:
    """Follows which memory is named by a living tensor after each operator of a program."""

    def __init__(self, program: Program) -> None:
        self.most = 0
        constants = program._constants.values()  # noqa: SLF001
        self._constants = {place for value in constants for place, _ in _memory(value)}
        self._alive: list[tuple[weakref.ref[torch.Tensor], int, int]] = []
        instructions = program._instructions  # noqa: SLF001
        readers = [i for i, (_, _, args, *_) in enumerate(instructions) if INPUT in refs_in(args)]
        program._instructions = [  # noqa: SLF001
            (name, self._watched(function, image_is_needed=i <= max(readers)), args, kwargs, dead)
            for i, (name, function, args, kwargs, dead) in enumerate(instructions)
        ]

    def _watched(
        self, function: Callable[..., AtenValue], *, image_is_needed: bool
    ) -> Callable[..., AtenValue]:
        def call(*args: AtenValue, **kwargs: AtenValue) -> AtenValue:
            result = function(*args, **kwargs)
            self._note((*args, result), image_is_needed=image_is_needed)
            return result

        return call

    def _note(self, values: tuple[AtenValue, ...], *, image_is_needed: bool) -> None:
        for value in values:
            for tensor in tensors_of(value):
                self._alive += [(weakref.ref(tensor), *memory) for memory in _memory(tensor)]
        image = self._alive[0][1]  # the first operator reads it, and whoever has called keeps it
        self._alive = [entry for entry in self._alive if entry[1] == image or entry[0]() is not None]
        held = {place: size for _, place, size in self._alive if place not in self._constants}
        if not image_is_needed:
            del held[image]
        self.most = max(self.most, sum(held.values()))


def _memory(value: AtenValue) -> Iterator[tuple[int, int]]:
    """Yield the address and the size of the memory of each tensor, below vmap's wrappers."""
    for tensor in tensors_of(value):
        while _functorch.is_functorch_wrapped_tensor(tensor):
            tensor = _functorch.get_unwrapped(tensor)  # noqa: PLW2901
        storage = tensor.untyped_storage()
        yield storage.data_ptr(), storage.nbytes()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", help="for instance torchvision/resnet18; left out: all")
    main(parser.parse_args().networks)
