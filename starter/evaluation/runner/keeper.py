"""The kit's process that decodes images and caches them for every runner; it never runs a graph.

If a runner could write to the cache, one entry could influence another, so runners only read it.
Started as `python -I -m starter.evaluation.runner.keeper`; each line of JSON is a request, answered by an
empty line.
"""

import os
import sys
import traceback

import torch

from starter.contract.errors import StarterError
from starter.contract.protocol import KeepRequest
from starter.evaluation.runner.image_batches import keep_images
from starter.submission import pipeline, transform_records


def main() -> None:
    """Answer requests until stdin closes."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    torch.set_num_threads(1)
    for line in sys.stdin.buffer:
        _keep(KeepRequest.model_validate_json(line))
        print(file=replies, flush=True)
    os._exit(0)


def _keep(request: KeepRequest) -> None:
    """Cache images; the runner reports transforms that are not valid."""
    try:
        records = transform_records.load(request.transforms.read_text(encoding="utf-8", errors="replace"))
        pipeline.input_shape(records)
        keep_images(request.dataset, request.image_ids, records, request.kept)
    except StarterError:
        pass
    except Exception:  # noqa: BLE001 - transforms are a stranger's
        traceback.print_exc()


if __name__ == "__main__":
    main()
