"""Optional packages: an error about a missing one names the extra that installs it."""

from importlib.util import find_spec

from starter.contract.errors import Code, usage_error

EXTRAS = {
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "optuna": "search",
    "ray": "ray",
    "tensorboard": "tensorboard",
    "tensorly": "compress",
    "torch_pruning": "compress",
    "uv": "lock",
}
"""Optional modules, and the extra that installs each."""


def require_extra(module: str, where: str) -> None:
    """Check that an optional module can be imported.

    Raises:
        UsageError: U501, it is not installed.
    """
    if find_spec(module) is None:
        extra = EXTRAS[module]
        hint = f"pip install 'macs-starter[{extra}]', or in a clone of the kit: pip install -e '.[{extra}]'"
        raise usage_error(Code.MISSING_EXTRA, where=where, got=f"no module {module}", hint=hint)
