"""What `starter export` does: write the counted program as a file, and keep it if it answers the same."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from starter.contract.errors import Code, ParticipantError, participant_error
from starter.contract.system.files import atomic_write
from starter.recipes.export.counted import Counted
from starter.recipes.export.formats import Format, metadata, opened, program_of, write
from starter.recipes.export.module import BatchError
from starter.recipes.export.parity import MOST_DIFFERENCE, Parity, compare, latencies_ms

_LONGEST_REASON = 300


@dataclass(frozen=True)
class ExportedFile:
    """A file that was written and compared."""

    path: Path
    """Where."""
    kind: Format
    """What it is."""
    batch: int | None
    """How many images it takes at once; None: any number."""
    size: int
    """Bytes."""
    parity: Parity
    """How near its answers are."""
    file_ms: float
    """Median time for a batch in onnxruntime, or in torch for a PT2 file; of one image if it takes any."""
    kit_ms: float
    """The kit's, for the same batch."""


def export(
    counted: Counted, kind: Format, path: Path, batch: int | None, *, timed: bool = True
) -> ExportedFile:
    """Write one file for one size of the batch; an error leaves nothing of it.

    Args:
        counted: the submission.
        kind: what to write.
        path: where; a file of that name is replaced.
        batch: how many images it takes at once; None: any number.
        timed: whether latencies are measured; else they are 0.

    Raises:
        ParticipantError: E606, the network cannot be written so; E607, it answers something else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        try:
            write(program_of(counted, batch), kind, metadata(counted), partial)
            run = opened(partial, kind)
            parity = compare(counted, run, batch)
        except BatchError as error:
            raise participant_error(Code.NOT_EXPORTED, where=str(path), got=_fixed_size(error)) from error
        except OSError:  # a full disk is no fault of the network
            raise
        except Exception as error:  # a converter raises anything
            raise participant_error(Code.NOT_EXPORTED, where=str(path), got=_reason(error)) from error
        if not parity.holds:
            raise _differs(path, parity)
        file_ms, kit_ms = latencies_ms(counted, run, batch or 1) if timed else (0.0, 0.0)
        size = partial.stat().st_size
    return ExportedFile(path, kind, batch, size, parity, file_ms, kit_ms)


def export_any(
    counted: Counted, kind: Format, path: Path, tell: Callable[[str], None], *, timed: bool = True
) -> ExportedFile:
    """Write a file that takes any number of images, or, with a line that says why, one that takes one.

    Raises:
        ParticipantError: as `export`, for one image.
    """
    try:
        return export(counted, kind, path, None, timed=timed)
    except ParticipantError as error:
        found = export(counted, kind, path, 1, timed=timed)
        tell(f"{path} takes one image at a time; as a file for any number, {error.problems[0].got}")
        return found


def _fixed_size(error: BatchError) -> str:
    return f"a size in the graph is fixed for one image: {error}"


def _differs(path: Path, parity: Parity) -> ParticipantError:
    expected = f"at most {MOST_DIFFERENCE:.0e} of the largest logit"
    got = f"logits differ by {parity.difference:.1e} of the largest, on {parity.images} images"
    return participant_error(Code.EXPORT_DIFFERS, where=str(path), expected=expected, got=got)


def _reason(error: Exception) -> str:
    """Return the first line of the first error of a chain: the others say where it went by."""
    first: BaseException = error
    while cause := first.__cause__ or first.__context__:
        first = cause
    lines = str(first).strip().splitlines() or [""]
    return f"{type(first).__name__}: {lines[0]}"[:_LONGEST_REASON]
