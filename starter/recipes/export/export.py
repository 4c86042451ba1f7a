"""Write the counted program as a file, and keep the file if it gives the same answers."""

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
    """An exported file that was compared with the kit."""

    path: Path
    """Where."""
    kind: Format
    """Its format."""
    batch: int | None
    """Its batch size; None: any."""
    size: int
    """Bytes."""
    parity: Parity
    """How close its answers are to the kit's."""
    file_ms: float
    """Median time of a batch (of one image if it takes any) in onnxruntime, or in torch for a PT2 file."""
    kit_ms: float
    """The kit's median time for the same batch."""


def export(
    counted: Counted, kind: Format, path: Path, batch: int | None, *, timed: bool = True
) -> ExportedFile:
    """Write one file for one batch size; after an error, no file is left.

    Args:
        counted: the submission.
        kind: the format.
        path: the file to write; an existing one is replaced.
        batch: the batch size; None: any.
        timed: whether to measure latencies; otherwise they are 0.

    Raises:
        ParticipantError: E606, the network cannot be written this way; E607, the answers differ.
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
    """Write a file for any batch size or, if that fails, one for one image, and print the reason.

    Raises:
        ParticipantError: as in `export`, for one image.
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
    """Return the first line of the first error in a chain; the later ones only say what it passed through."""
    first: BaseException = error
    while cause := first.__cause__ or first.__context__:
        first = cause
    lines = str(first).strip().splitlines() or [""]
    return f"{type(first).__name__}: {lines[0]}"[:_LONGEST_REASON]
