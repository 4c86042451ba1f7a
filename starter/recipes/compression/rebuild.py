"""Change a network by a plan: `starter compress` does this once, and the compressed plugin repeats it.

This file is copied next to every compressed plugin, so it needs only torch. A plan is a list
of steps, as data. A fold keeps the network's answers; a step that changes the channels leaves
their values to the weights file.
"""

import operator
from collections.abc import Callable, Sequence
from typing import TypedDict

import torch
from torch import Tensor, fx, nn


class Step(TypedDict, total=False):
    """One step of a plan; its keys depend on its kind."""

    kind: str
    """One of STEPS."""
    module: str
    """The name of the module to change."""
    norm: str
    """fold: the name of the batch norm."""
    rank_in: int | None
    """factorize: channels after the first convolution; None: no convolution precedes the kernel."""
    rank_out: int | None
    """factorize: channels before the last convolution; None: no convolution follows the kernel."""
    sizes: dict[str, int]
    """resize: attributes of the module."""
    shapes: dict[str, list[int]]
    """resize: shapes of its tensors."""
    bits: int
    """quantize: bits of its weights and of its input."""
    step: float
    """quantize: the distance between two levels of its input."""
    zero_point: int
    """quantize: the level of its input, from 0, that represents 0."""


def rebuild(model: nn.Module, steps: Sequence[Step]) -> nn.Module:
    """Apply the steps of a plan in order, in place where possible; return the network."""
    for step in steps:
        model = STEPS[step["kind"]](model, step)
    return model


def resize(model: nn.Module, step: Step) -> nn.Module:
    """Change a module's numbers of channels: `sizes` sets attributes, `shapes` the shapes of its tensors."""
    module = model.get_submodule(step["module"])
    for name, size in step["sizes"].items():
        setattr(module, name, size)
    for name, shape in step["shapes"].items():
        old = getattr(module, name)
        new = torch.zeros(shape, dtype=old.dtype)
        setattr(module, name, nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new)
    return model


def factorize(model: nn.Module, step: Step) -> nn.Module:
    """Replace a convolution by two or three thin ones, in the shapes of its Tucker-2 decomposition.

    `rank_in` and `rank_out` are the channels in between; one of them may be None, and a 1x1
    kernel has only `rank_out`. The values come from the weights file.
    Source: Kim et al. 2016, arXiv:1511.06530.
    """
    old = model.get_submodule(step["module"])
    assert isinstance(old, nn.Conv2d)
    rank_in, rank_out, biased = step["rank_in"], step["rank_out"], old.bias is not None
    into, out = rank_in or old.in_channels, old.out_channels
    if rank_out is not None:
        out = min(rank_out, into * old.kernel_size[0] * old.kernel_size[1])  # no more are independent
    layers = [_convolution(into, out, biased=biased and rank_out is None, like=old)]
    if rank_in is not None:
        layers.insert(0, nn.Conv2d(old.in_channels, into, 1, bias=False))
    if rank_out is not None:
        layers.append(nn.Conv2d(out, old.out_channels, 1, bias=biased))
    _put(model, step["module"], nn.Sequential(*layers))
    return model


def _convolution(into: int, out: int, *, biased: bool, like: nn.Conv2d) -> nn.Conv2d:
    """Return a convolution with the kernel size, stride and padding of another."""
    return nn.Conv2d(
        into,
        out,
        like.kernel_size,  # type: ignore[arg-type]  # annotated as of any length
        like.stride,  # type: ignore[arg-type]
        like.padding,  # type: ignore[arg-type]
        like.dilation,  # type: ignore[arg-type]
        like.groups,
        bias=biased,
        padding_mode=like.padding_mode,
    )


def fold(model: nn.Module, step: Step) -> nn.Module:
    """Multiply a batch norm into the convolution or linear layer before it (`module`), which gets a bias."""
    layer, norm = model.get_submodule(step["module"]), model.get_submodule(step["norm"])
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    scale, shift = _affine(norm)
    with torch.no_grad():
        layer.weight.mul_(scale.reshape(-1, *[1] * (layer.weight.dim() - 1)))
        before = torch.zeros_like(shift) if layer.bias is None else layer.bias
        layer.bias = nn.Parameter(before * scale + shift)
    _put(model, step["norm"], nn.Identity())
    return model


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the factor and the offset that a batch norm applies to each channel."""
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    shift = -norm.running_mean * scale
    if norm.affine:
        scale, shift = scale * norm.weight.detach(), shift * norm.weight.detach() + norm.bias.detach()
    return scale, shift


def reparameterize(model: nn.Module, step: Step) -> nn.Module:
    """Let every module that can fold its own branches do so, by the methods that timm's models have."""
    for name, child in model.named_children():
        if callable(fuse := getattr(child, "fuse", None)):
            setattr(model, name, fuse())
            continue
        for method in ("reparameterize", "switch_to_deploy"):
            if callable(call := getattr(child, method, None)):
                call()
                break
        reparameterize(child, step)
    return model


def merge(model: nn.Module, step: Step) -> nn.Module:
    """Merge parallel branches of one input (convolutions, batch norms, identities) into one convolution.

    On the traced network, an addition whose operands are all linear in one input becomes one kernel.
    Source: RepVGG, Ding et al. 2021, arXiv:2101.03697.
    """
    del step
    traced = fx.symbolic_trace(model)
    for node in list(traced.graph.nodes):
        if _is_sum(node) and not any(_is_sum(user) for user in node.users):
            _merge_sum(traced, node)
    traced.graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def _is_sum(node: fx.Node) -> bool:
    return node.op == "call_function" and node.target in (operator.add, operator.iadd, torch.add)


def _merge_sum(traced: fx.GraphModule, node: fx.Node) -> None:
    terms = _terms(traced, node)
    branches = [_branch(traced, term) for term in terms]
    dense = [b for b in branches if b is not None and isinstance(b[1], nn.Conv2d)]
    if not dense:
        return
    source, like = max(dense, key=lambda b: b[1].weight.shape[-1])[:2]  # type: ignore[union-attr]
    assert isinstance(like, nn.Conv2d)
    kernel, bias = torch.zeros_like(like.weight), torch.zeros(like.out_channels)
    merged = []
    for term, branch in zip(terms, branches, strict=True):
        found = (term, None, None) if term is source and branch is None else branch
        part = None if found is None or found[0] is not source else _as_kernel(found[1], found[2], like)
        if part is not None:
            kernel, bias = kernel + part[0], bias + part[1]
            merged.append(term)
    if len(merged) < 2:
        return
    name = f"merged_{node.name}"
    one = _convolution(like.in_channels, like.out_channels, biased=True, like=like)
    one.weight, one.bias = nn.Parameter(kernel.detach()), nn.Parameter(bias.detach())
    traced.add_submodule(name, one)
    with traced.graph.inserting_before(node):
        result = traced.graph.call_module(name, (source,))
        for other in (term for term in terms if term not in merged):
            result = traced.graph.call_function(operator.add, (result, other))
    node.replace_all_uses_with(result)


def _terms(traced: fx.GraphModule, node: fx.Node) -> list[fx.Node]:
    """Return the operands of a chain of additions."""
    found: list[fx.Node] = []
    for operand in node.all_input_nodes if len(node.all_input_nodes) == len(node.args) else ():
        source = _behind_identities(traced, operand)
        found += _terms(traced, source) if _is_sum(source) and len(source.users) == 1 else [source]
    return found


def _behind_identities(traced: fx.GraphModule, node: fx.Node) -> fx.Node:
    while _calls(traced, node, nn.Identity):
        node = node.all_input_nodes[0]
    return node


def _branch(
    traced: fx.GraphModule, node: fx.Node
) -> tuple[fx.Node, nn.Conv2d | None, nn.Module | None] | None:
    """Split a branch into its input, its convolution and its batch norm; None if it is anything else."""
    convolution = norm = None
    for kind in (nn.BatchNorm2d, nn.Conv2d):
        if len(node.users) == 1 and _calls(traced, node, kind):
            module = traced.get_submodule(str(node.target))
            norm = module if kind is nn.BatchNorm2d else norm
            convolution = module if isinstance(module, nn.Conv2d) else convolution
            node = _behind_identities(traced, node.all_input_nodes[0])
    return None if convolution is None and norm is None else (node, convolution, norm)


def _calls(traced: fx.GraphModule, node: fx.Node, kind: type[nn.Module]) -> bool:
    return node.op == "call_module" and isinstance(traced.get_submodule(str(node.target)), kind)


def _as_kernel(
    convolution: nn.Conv2d | None, norm: nn.Module | None, like: nn.Conv2d
) -> tuple[Tensor, Tensor] | None:
    """Return a branch's kernel and bias in the shape of a larger convolution; None if it does not fit."""
    height, width = like.kernel_size
    centred = like.padding == (height // 2, width // 2) and height % 2 == width % 2 == 1
    kernel, bias = torch.zeros_like(like.weight), torch.zeros(like.out_channels)
    if convolution is None:
        if like.in_channels != like.out_channels or like.stride != (1, 1) or not centred:
            return None
        rows = torch.arange(like.out_channels)
        kernel[rows, rows % (like.in_channels // like.groups), height // 2, width // 2] = 1
    else:
        alike = ("in_channels", "out_channels", "stride", "groups", "padding_mode", "dilation")
        h, w = convolution.kernel_size
        same = convolution.kernel_size == like.kernel_size and convolution.padding == like.padding
        inner = centred and h % 2 == w % 2 == 1 and convolution.padding == (h // 2, w // 2)
        if any(getattr(convolution, k) != getattr(like, k) for k in alike) or not (same or inner):
            return None
        top, left = (height - h) // 2, (width - w) // 2
        kernel[:, :, top : top + h, left : left + w] = convolution.weight.detach()
        bias = bias if convolution.bias is None else convolution.bias.detach()
    if norm is not None:
        scale, shift = _affine(norm)
        kernel, bias = kernel * scale[:, None, None, None], bias * scale + shift
    return kernel, bias


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


class Quantized(nn.Module):
    """Puts a quantized layer's input and weights on a grid.

    Its parameter `weight` stays float32 so that it can be trained; the export holds int8 levels and a step
    for each output channel. Rounding passes gradients through (Bengio et al. 2013, arXiv:1308.3432).
    """

    weight: Tensor
    weight_step: Tensor
    bits: int
    step: float
    zero_point: int

    def input_on_grid(self, values: Tensor) -> Tensor:
        """Return the layer's input at one of its 2^bits levels, scaled back."""
        levels = self._round(values * (1 / self.step))
        if self.zero_point == 0:
            return torch.clamp(levels, 0, 2**self.bits - 1) * self.step
        levels = torch.clamp(levels + self.zero_point, 0, 2**self.bits - 1)
        return (levels - self.zero_point) * self.step

    def weight_on_grid(self) -> Tensor:
        """Return the weights rounded to multiples of the step, symmetric around 0."""
        most = 2 ** (self.bits - 1) - 1
        levels = torch.clamp(self._round(self.weight / self.weight_step), -most, most)
        if not self.training:
            levels = levels.to(torch.int8).to(self.weight.dtype)
        return levels * self.weight_step

    def _round(self, values: Tensor) -> Tensor:
        rounded = torch.round(values)
        return values + (rounded - values).detach() if self.training else rounded


class QuantizedConv2d(Quantized, nn.Conv2d):
    """A convolution whose input and weights are on grids."""

    def forward(self, values: Tensor) -> Tensor:
        """Return (batch, channels, height, width)."""
        result: Tensor = self._conv_forward(self.input_on_grid(values), self.weight_on_grid(), self.bias)
        return result


class QuantizedLinear(Quantized, nn.Linear):
    """A linear layer whose input and weights are on grids."""

    def forward(self, values: Tensor) -> Tensor:
        """Return (..., out_features)."""
        return nn.functional.linear(self.input_on_grid(values), self.weight_on_grid(), self.bias)


QUANTIZED: dict[type[nn.Module], type[Quantized]] = {nn.Conv2d: QuantizedConv2d, nn.Linear: QuantizedLinear}
"""The layers that can be quantized; their subclasses may compute more, so they are excluded."""


def quantize(model: nn.Module, step: Step) -> nn.Module:
    """Make a layer put its input and its weights on grids; its tensors keep their names."""
    layer = model.get_submodule(step["module"])
    layer.__class__ = QUANTIZED[type(layer)]
    assert isinstance(layer, Quantized)
    layer.bits, layer.step, layer.zero_point = step["bits"], step["step"], step["zero_point"]
    layer.register_buffer("weight_step", torch.ones(len(layer.weight), *[1] * (layer.weight.dim() - 1)))
    return model


STEPS: dict[str, Callable[[nn.Module, Step], nn.Module]] = {
    "factorize": factorize,
    "fold": fold,
    "merge": merge,
    "quantize": quantize,
    "reparameterize": reparameterize,
    "resize": resize,
}
