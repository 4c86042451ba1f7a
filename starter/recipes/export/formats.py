"""The two file formats of an exported network, ONNX and torch's PT2: write each, and run it."""

import contextlib
import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch.export import Dim, ExportedProgram

from starter import __version__
from starter.recipes.export.counted import Counted, Logits
from starter.recipes.export.module import module_of
from starter.submission import transform_records

INPUT, OUTPUT, BATCH = "image", "logits", "batch"
"""The names of an ONNX file's input, its output, and its dynamic axis."""
MOST_IN_BATCH = 4096
_EXTRA = "starter.json"
"""The place of the metadata in a PT2 file."""
_ERRORS_ONLY = 3

Run = Callable[[torch.Tensor], Logits]
"""Runs a file on float32 (batch, C, H, W)."""


class Format(StrEnum):
    """The file format."""

    ONNX = "onnx"
    PT2 = "pt2"


def metadata(counted: Counted) -> dict[str, str]:
    """Return the metadata to write into a file: ASCII texts, most of them JSON."""
    records = json.loads(transform_records.dump(counted.transforms))
    said = {
        "submission": counted.name,
        "transforms": records,
        "classes": counted.classes,
        "input_shape": counted.walk.graph.file.input_shape[1:],
        "macs": counted.macs,
    }
    texts = {f"starter.{key}": json.dumps(value) for key, value in said.items()}
    return texts | {"starter.version": __version__, "starter.cost_version": counted.cost_version}


def program_of(counted: Counted, batch: int | None) -> ExportedProgram:
    """Return the graph as torch exports it.

    Args:
        counted: the submission.
        batch: the batch size; None: any.

    Raises:
        BatchError: it takes only one image.
    """
    module = module_of(counted.walk, batched=batch != 1)
    example = torch.zeros(2 if batch is None else batch, *counted.walk.graph.file.input_shape[1:])
    sides = ({0: Dim(BATCH, min=1, max=MOST_IN_BATCH)},) if batch is None else None
    with torch.no_grad(), _quiet():
        return torch.export.export(module, (example,), dynamic_shapes=sides, strict=False)


def write(program: ExportedProgram, kind: Format, said: Mapping[str, str], path: Path) -> None:
    """Write a program as one file that holds the weights and the metadata."""
    with _quiet():
        if kind is Format.PT2:
            with path.open("wb") as file:  # a path would have to end in .pt2
                torch.export.save(program, file, extra_files={_EXTRA: json.dumps(said, indent=2)})
            return
        made = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: BATCH},) if program.range_constraints else None,  # the name of the axis
        )
        assert made is not None
        made.model.metadata_props.update(said)
        made.model.producer_name, made.model.producer_version = "starter", __version__
        made.save(path, external_data=False)


def read_metadata(path: Path, kind: Format) -> dict[str, str]:
    """Return a file's metadata."""
    if kind is Format.ONNX:
        model = onnx.load(path, load_external_data=False)
        return {item.key: item.value for item in model.metadata_props}
    extra = {_EXTRA: ""}
    with path.open("rb") as file, _quiet():
        torch.export.load(file, extra_files=extra)
    said: dict[str, str] = json.loads(extra[_EXTRA])
    return said


def opened(path: Path, kind: Format) -> Run:
    """Return a function that runs a file: in onnxruntime on one CPU thread, or in torch."""
    if kind is Format.PT2:
        with path.open("rb") as file, _quiet():
            module = torch.export.load(file).module()
        return lambda images: module(images).detach().numpy()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: torch.Tensor) -> Logits:
        logits: np.ndarray[Any, np.dtype[np.float32]] = session.run([OUTPUT], {INPUT: images.numpy()})[0]
        return logits

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' messages about their own internals off the terminal."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
