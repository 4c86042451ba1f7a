"""Batches of images for a graph: decoded and transformed ahead of it, or read from the cache."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision

from starter.contract.protocol import KeptImages
from starter.data.image_store import ImageError, ImageStore, broken_images
from starter.evaluation.runner.image_cache import ImageCache, key_of
from starter.submission.pipeline import Stages, part
from starter.submission.transform_records import TransformRecord

_KEPT_AT_ONCE = 32


def image_batches(
    dataset: Path,
    ids: Sequence[str],
    records: Sequence[TransformRecord],
    size: int,
    kept: KeptImages | None = None,
) -> Iterator[torch.Tensor]:
    """Yield float32 (batch, C, H, W); the next batch is made while one is computed.

    Args:
        dataset: the data set's folder.
        ids: the images, in order.
        records: the transforms, accepted by `pipeline.input_shape`.
        size: the largest batch.
        kept: the cache of decoded images; only keeper.py writes to it.

    Raises:
        ParticipantError: a step fails on an image.
        UsageError: image files are broken; raised after all of them are known, instead of the last batch.
    """
    stages, broken = part(records), list[ImageError]()
    with ExitStack() as stack:
        found = None
        if kept is not None:
            found = ImageCache(kept.folder, kept.limit_mb * 2**20).find(key_for(ids, stages, kept), len(ids))
        decode = decoder(ImageStore(dataset), stages.keep, broken)

        def make(start: int) -> torch.Tensor:
            if found is not None:
                return stages.finish(torch.from_numpy(np.array(found[start : start + size])))
            tensors = [t for t in map(decode, ids[start : start + size]) if t is not None]
            if broken:
                return torch.empty(0)
            return stages.finish(torch.stack(tensors))

        # One thread decodes, with one thread's operators: more would fight the graph for the cores.
        pool = stack.enter_context(ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)))
        starts = range(0, len(ids), size)
        ahead = pool.submit(make, 0)
        for start in starts:
            batch, following = ahead.result(), start + size
            if following < len(ids):
                ahead = pool.submit(make, following)
            if not broken:
                yield batch
        if broken:
            raise broken_images(dataset, broken)


def key_for(ids: Sequence[str], stages: Stages, kept: KeptImages) -> str:
    """Return the cache key of decoded images."""
    return key_of(kept.fingerprint, *ids, stages.kept, PIL.__version__, torchvision.__version__)


def keep_images(
    dataset: Path, ids: Sequence[str], records: Sequence[TransformRecord], kept: KeptImages
) -> None:
    """Decode images and cache them, unless they are cached already, one is broken, or space is short."""
    stages, broken = part(records), list[ImageError]()
    cache, key = ImageCache(kept.folder, kept.limit_mb * 2**20), key_for(ids, stages, kept)
    if cache.find(key, len(ids)) is not None:
        cache.touch(key)
        return
    decode = decoder(ImageStore(dataset), stages.keep, broken)
    with cache.writer(key, len(ids)) as writer:
        for start in range(0, len(ids), _KEPT_AT_ONCE):
            tensors = [t for t in map(decode, ids[start : start + _KEPT_AT_ONCE]) if t is not None]
            if broken:
                return
            writer.add(torch.stack(tensors).numpy())


def decoder(
    images: ImageStore, keep: Callable[..., torch.Tensor], broken: list[ImageError]
) -> Callable[[str], torch.Tensor | None]:
    """Return a function that decodes one image; the error of a broken one goes to `broken`."""

    def decode(image_id: str) -> torch.Tensor | None:
        try:
            return keep(images.open(image_id))
        except ImageError as error:
            broken.append(error)
            return None

    return decode
