"""Memory access cost: the number of elements that an operator reads and writes for one image.

Ma et al. 2018 (ShuffleNet V2, arXiv:1807.11164) call it MAC; here it is never
abbreviated, because a MAC is a multiply-accumulate. As in the paper, caches are ignored.
"""

from typing import NamedTuple

from starter.graph.analysis import Step
from starter.graph.formulas import tensors_of


class Access(NamedTuple):
    """Elements and bytes that one call reads and writes."""

    read: int = 0
    """Elements of the image-dependent inputs."""
    weights: int = 0
    """Elements of the constant inputs: weights, masks, tables."""
    written: int = 0
    """Elements of the outputs."""
    bytes: int = 0
    """All three, in bytes."""

    @property
    def elements(self) -> int:
        """All three: the memory access cost."""
        return self.read + self.weights + self.written


def memory_access(step: Step) -> Access:
    """Return the elements and bytes that one call reads and writes; views access nothing."""
    if step.rule.is_view:
        return Access()
    read = weights = size = 0
    for name, value in step.call.arguments.items():
        for tensor in tensors_of(value):
            size += tensor.numel() * tensor.element_size()
            if name in step.call.depends:
                read += tensor.numel()
            else:
                weights += tensor.numel()
    result = step.call.outputs[0]  # the others are indices and statistics, which inference does not keep
    return Access(read, weights, result.numel(), size + result.numel() * result.element_size())
