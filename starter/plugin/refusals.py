"""Say why a model cannot be exported: sort an error, or a node of the graph, by its cause.

torch.export stops for many reasons, and most of its messages are for torch's own developers.
Each cause here has a code and, where the catalogue (errors.toml) does not say enough, a hint
of its own. Types decide first, of the exception and of the model's modules; torch's text
only where types do not tell. What no row recognizes keeps E403, whose text guesses nothing.
"""

import re
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.fx import Graph
from torch.fx import Node as FxNode

from starter.contract.errors import HINTS, Code, Problem, problem
from starter.contract.submissions import SubmissionSource
from starter.graph.formulas import CostClass
from starter.graph.operators import OPERATORS
from starter.plugin.decompositions import QUANTIZES
from starter.plugin.folding import name_of


@dataclass(frozen=True)
class Cause:
    """One reason for which a model cannot be exported."""

    code: Code
    """What it is, in the catalogue."""
    hint: str = ""
    """What to do; the catalogue's where empty."""

    def problem(self, *, where: str, got: str, hint: str = "") -> Problem:
        """Describe it at one place; `hint` stands where the cause has none of its own."""
        return problem(self.code, where=where, got=got, hint=self.hint or hint)


UNKNOWN = Cause(Code.EXPORT_FAILED)
VALUES = Cause(Code.EXPORT_FAILED, hint=HINTS["tensor_values"])
RAISED = Cause(Code.MODEL_RAISED)
INPUT_CHANGED = Cause(Code.STATE_CHANGED, hint=HINTS["input_changed"])
QUANTIZED = Cause(Code.QUANTIZED)
OBSERVED = Cause(Code.QUANTIZED, hint=HINTS["observers"])
QUANTIZING = Cause(Code.QUANTIZED, hint=HINTS["quantizing"])
LEVELS = Cause(Code.QUANTIZED, hint=HINTS["levels"])
QUANTIZED_VALUE = Cause(Code.QUANTIZED, hint=HINTS["quantized_value"])
SCRIPTED = Cause(Code.TORCHSCRIPT)
NUMPY = Cause(Code.LEAVES_TORCH)
MEMORY = Cause(Code.LEAVES_TORCH, hint=HINTS["leaves_memory"])
UNTRACED = Cause(Code.UNTRACED_TENSOR)
FAKE = Cause(Code.UNTRACED_TENSOR, hint=HINTS["fake_mode"])
META = Cause(Code.UNTRACED_TENSOR, hint=HINTS["meta_device"])
DEVICE = Cause(Code.UNTRACED_TENSOR, hint=HINTS["device"])
INFERENCE = Cause(Code.UNTRACED_TENSOR, hint=HINTS["inference_mode"])
SUBCLASS = Cause(Code.UNTRACED_TENSOR, hint=HINTS["tensor_subclass"])
LAZY = Cause(Code.UNTRACED_TENSOR, hint=HINTS["lazy_layer"])
COMPILED = Cause(Code.COMPILED)
EXPORTED = Cause(Code.COMPILED, hint=HINTS["exported_module"])

_BY_TYPE = {
    "torch.fx.experimental.symbolic_shapes.GuardOnDataDependentSymNode": VALUES,
    "torch._subclasses.fake_tensor.DataDependentOutputException": VALUES,
    "torch._subclasses.fake_tensor.DynamicOutputShapeException": VALUES,
    "torch._dynamo.exc.TorchDynamoException": COMPILED,
    "torch._inductor.exc.InvalidCxxCompiler": COMPILED,
    "torch._inductor.exc.CppCompileError": COMPILED,
}
"""By the qualified name of an exception's class: these have no public name, and importing them is slow."""

_BY_TEXT = {
    r"FakeTensor\.__format__|but got FakeTensor|np\.ndarray of type numpy\.object_": VALUES,
    r"quantized::|PackedParams": QUANTIZED,
    r"quantized nyi|\bquantized\.\w+\.\w+ at|from the 'Quantized": QUANTIZED_VALUE,
    r"ScriptModule|ScriptMethod": SCRIPTED,
    r"\.numpy\(\) is not supported": NUMPY,
    r"data pointer of Tensor \(|for 'meta' device type|Can't pickle local object 'WeakVal": MEMORY,
    r"found a fake tensor in the exported program": UNTRACED,
    r"convert all Tensors to FakeTensors|doesn't match mode": FAKE,
    r"two devices, .*\bmeta\b|on device meta|out of meta tensor": META,
    r"two devices, |NVIDIA driver|compiled with CUDA": DEVICE,
    r"[Ii]nference tensor": INFERENCE,
    r"Creating a new Tensor subclass": SUBCLASS,
    r"uninitialized parameter": LAZY,
    r"^AssertionError: Guard failed|Expected input at \*args\[0\]\.shape": EXPORTED,
    r"is mutated in the forward method": Cause(Code.STATE_CHANGED),
    r"no fake impl registered": Cause(Code.CUSTOM_OPERATOR),
    r"in output, which is not a known type": Cause(Code.WRONG_OUTPUT),
    r"^UnsupportedOperatorException: aten\.": Cause(Code.NO_COST_RULE),
    r"^UnsupportedOperatorException: quantized\.": QUANTIZED_VALUE,
    r"^UnsupportedOperatorException: ": Cause(Code.CUSTOM_OPERATOR),
}
"""By a part of torch's own text; the first that fits."""

_QUANTIZED_MODULES = {
    r"torch\.ao\.nn\.(\w+\.)*quantized\.(?!.*FloatFunctional)": QUANTIZED,
    r"torch\.ao\.(quantization\.(observer|fake_quantize)|nn\.(\w+\.)*qat)\.": OBSERVED,
    r"torchao\.quantization\.pt2e\.(observer|fake_quantize)\.": OBSERVED,
}
_OF_QUANTIZATION = re.compile(r"(quantized\w*|torchao|onednn|_quantized)\.")
_CHOOSES = re.compile(r"^(quantized_decomposed|torchao)\..*choose_qparams")
_ENDS_LEVELS = re.compile(r"dequantize_|^aten\.(_to_copy|to)\.|^aten\._assert")
"""Operators after which a value is no level any more: a cast gives a float, or is refused for its dtype."""
_SCRIPTED_MODULES = {r"torch\.jit\._": SCRIPTED}

_QUANTIZED_DTYPES = frozenset({torch.quint8, torch.qint8, torch.qint32, torch.quint4x2, torch.quint2x4})
_NOISE = re.compile(
    r"\s*(\(unhinted: .*"
    r"|This could be because the operator doesn't exist.*"
    r"|If you're using torch\.compile/export/fx.*"
    r"|Maybe try converting your ScriptModule.*"
    r"|Set TORCHDYNAMO_VERBOSE.*"
    r"|For the potential source.*"
    r"|Pls register it as buffer"
    r"|See https?://.*)"
)


def of_error(error: BaseException) -> Cause | None:
    """Return why a model raised, looking through what the participant's own code raised in its place."""
    return next((cause for raised in _chain(error) for cause in _of_one(raised)), None)


def of_export(error: BaseException, model: torch.nn.Module) -> tuple[Cause, str]:
    """Return why torch.export stopped, and what it found: the module at fault, and torch's own text."""
    quantized = _held(model, _QUANTIZED_MODULES)
    cause = None if quantized else of_error(error)
    held = quantized or (None if cause else _held(model, _SCRIPTED_MODULES))
    if held:
        return held[0], f"{held[1]}; {cleaned(error)}"
    return cause or UNKNOWN, cleaned(error)


def observers(model: torch.nn.Module) -> str:
    """Name the first module that records images for a later quantization; empty if there is none."""
    held = _held(model, _QUANTIZED_MODULES)
    return held[1] if held and held[0] is OBSERVED else ""


def of_library(op: str) -> Cause:
    """Return why an operator that is none of ATen's is refused."""
    return QUANTIZING if _OF_QUANTIZATION.match(op) else Cause(Code.CUSTOM_OPERATOR)


def of_quantization(graph: Graph) -> tuple[Cause, FxNode] | None:
    """Return what cannot be written out of a quantized program: chosen scales, or arithmetic on levels.

    Levels are whole numbers in float32 in our graph: they do not wrap as those of an integer type do.
    """
    levels = {node for node in graph.nodes if QUANTIZES.match(name_of(node))}
    for node in graph.nodes:
        if _CHOOSES.search(name_of(node)):
            return QUANTIZING, node
        if node.op != "call_function" or levels.isdisjoint(node.all_input_nodes):
            continue
        rule = OPERATORS.get(name_of(node))
        if rule is not None and (rule.kind is CostClass.MOVEMENT or "max_pool" in name_of(node)):
            levels.add(node)
        elif not _ENDS_LEVELS.search(name_of(node)):
            return LEVELS, node
    return None


def of_values(fx_node: FxNode) -> Cause | None:
    """Return what is wrong with the values that a node takes or gives, as far as its operator cannot tell."""
    # Asked of the arguments: the traced value of a quantized tensor claims to be float32.
    arguments = (*fx_node.args, *fx_node.kwargs.values())
    if any(isinstance(a, torch.dtype) and a in _QUANTIZED_DTYPES for a in arguments):
        return QUANTIZED_VALUE
    values = [value for node in (fx_node, *fx_node.all_input_nodes) for value in _values(node)]
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    if any(tensor.layout is not torch.strided for tensor in tensors):
        return Cause(Code.NO_COST_RULE)
    sizes = [size for tensor in tensors for size in tensor.shape]
    if any(isinstance(v, torch.SymInt | torch.SymFloat | torch.SymBool) for v in [*values, *sizes]):
        return VALUES
    return None


def own_line(error: BaseException, source: SubmissionSource) -> str:
    """Return "file.py:31 in forward" for the deepest line of the participant's own code in a traceback."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if source.owns(frame.filename):
            return f"{source.relative(frame.filename)}:{frame.lineno} in {frame.name}"
    return source.path.name


def describe_error(error: BaseException) -> str:
    """Return "ValueError: text" in at most 500 characters; what is no text, as escapes."""
    text = f"{type(error).__name__}: {error}".strip().rstrip(":")
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= 500 else text[:497] + "..."


def cleaned(error: BaseException) -> str:
    """Return the first paragraph of an error in one line, without what torch adds for its own developers."""
    return _NOISE.sub("", " ".join(describe_error(error).split("\n\n")[0].split()))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in seen:
        yield following
        seen.append(following)
        following = following.__cause__ or following.__context__


def _of_one(error: BaseException) -> Iterator[Cause]:
    names = _type_names(type(error))
    found = next((_BY_TYPE[name] for name in names if name in _BY_TYPE), None)
    if found is COMPILED and _in_higher_order_operator(error):
        found = Cause(Code.SUBGRAPH)
    if found:
        yield found
    text = describe_error(error)
    yield from (cause for pattern, cause in _BY_TEXT.items() if re.search(pattern, text))


def _in_higher_order_operator(error: BaseException) -> bool:
    """Say whether torch.cond or the like has compiled its branches, and not the participant the model."""
    frames = traceback.extract_tb(error.__traceback__)
    return any("_higher_order_ops" in frame.filename for frame in frames)


def _held(model: torch.nn.Module, kinds: dict[str, Cause]) -> tuple[Cause, str] | None:
    for name, module in model.named_modules():
        for kind in _type_names(type(module)):
            for pattern, cause in kinds.items():
                if re.match(pattern, kind):
                    return cause, f"{name or 'the model'} is a {kind}"
    return None


def _type_names(cls: type) -> list[str]:
    return [f"{base.__module__}.{base.__qualname__}" for base in cls.__mro__]


def _values(fx_node: FxNode) -> Sequence[object]:
    """Return the example of what a node gives; of several, each."""
    value = fx_node.meta.get("val")
    return value if isinstance(value, tuple | list) else [value]
