"""A hand-written graph whose input is smaller than the images that the transforms give."""

import json
import os
import stat

from safetensors.torch import save

GRAPH = {
    "input_shape": [1, 3, 8, 8],
    "tensors": [],
    "nodes": [
        {"name": "mean", "op": "aten.mean.dim", "args": [{"ref": "image"}, [2, 3]], "kwargs": {}},
        {"name": "twice", "op": "aten.repeat.default", "args": [{"ref": "mean"}, [1, 2]], "kwargs": {}},
    ],
    "output": "twice",
}
TRANSFORMS = [
    {
        "api": "v2",
        "kind": "Resize",
        "size": [32, 32],
        "interpolation": "bilinear",
        "max_size": None,
        "antialias": True,
    },
    {"kind": "Plain", "name": "ToImage"},
    {"kind": "ToDtype", "dtype": "float32", "scale": True},
]
REPORT = {"problems": []}
PARTS = {
    "report": json.dumps(REPORT).encode(),
    "graph": json.dumps(GRAPH).encode(),
    "weights": save({}),
    "transforms": json.dumps(TRANSFORMS).encode(),
}


def is_a_file(number):
    try:
        return stat.S_ISREG(os.fstat(number).st_mode)
    except OSError:
        return False


descriptor = next(number for number in range(3, 64) if is_a_file(number))
os.write(descriptor, json.dumps({name: len(data) for name, data in PARTS.items()}).encode() + b"\n")
os.write(descriptor, b"".join(PARTS.values()))
os._exit(0)
