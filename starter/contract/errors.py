"""Every way an evaluation can fail: the codes, what they mean, and the exceptions.

One table, errors.toml, is the source for the messages, for `starter explain CODE`
and for docs/errors.md; errors.ko.toml explains the same codes in Korean. Codes are
stable: a retired code is never used again. The participant fixes E codes (exit 1),
the caller U codes (exit 2; exit 1 for U207, which --strict asks for), and we H codes (exit 3).
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict


class Status(StrEnum):
    """The verdict on one submission, in the words of the field."""

    OK = "ok"
    INVALID = "invalid"
    UNSUPPORTED = "unsupported"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    DISK = "disk"
    OUTPUT = "output"
    CRASH = "crash"
    HOST_ERROR = "host_error"


class Code(StrEnum):
    """The stable name of one kind of problem."""

    NO_HOOK = "E101"
    SEVERAL_HOOKS = "E102"
    IMPORT_FAILED = "E103"
    HOOK_FAILED = "E104"
    WRONG_RETURN_TYPE = "E105"
    BAD_FIELD = "E106"
    BAD_HOOK_ARGUMENT = "E107"
    BAD_NAME = "E108"
    NO_PLUGIN_FILE = "E109"
    TOO_LARGE = "E110"
    BAD_ARCHIVE = "E111"
    UNSAFE_ARCHIVE = "E112"
    ARCHIVE_LAYOUT = "E113"
    MANIFEST_DIFFERS = "E114"
    CONFIDENTIAL = "E115"
    LINKED_ENTRY = "E116"
    NAME_LOOKS_ALIKE = "E117"
    OUTSIDE_CALENDAR = "E140"
    TOO_MANY_ENTRIES = "E141"
    PACKAGE_NOT_ALLOWED = "E180"
    WEIGHTS_MISSING = "E201"
    WEIGHTS_UNREADABLE = "E202"
    WEIGHTS_MISFIT = "E203"
    TRANSFORM_UNKNOWN = "E301"
    TRANSFORM_RANDOM = "E302"
    TRANSFORM_OPTION = "E303"
    TRANSFORM_SHAPE = "E304"
    TRANSFORM_FAILED = "E305"
    TRANSFORM_ORDER = "E306"
    MODEL_RAISED = "E401"
    WRONG_OUTPUT = "E402"
    EXPORT_FAILED = "E403"
    STATE_CHANGED = "E404"
    RANDOM_OPERATOR = "E405"
    SUBGRAPH = "E406"
    CUSTOM_OPERATOR = "E407"
    OUTPUT_IGNORES_IMAGE = "E408"
    QUANTIZED = "E409"
    TORCHSCRIPT = "E410"
    LEAVES_TORCH = "E411"
    UNTRACED_TENSOR = "E412"
    COMPILED = "E413"
    NO_COST_RULE = "E501"
    DTYPE_REFUSED = "E502"
    COMPUTED_INDEX = "E503"
    BATCH_STATISTICS = "E504"
    MALFORMED_GRAPH = "E505"
    GRAPH_TOO_LARGE = "E506"
    NON_FINITE_WEIGHTS = "E507"
    NUMBER_OUT_OF_BOUNDS = "E508"
    OVER_BUDGET = "E509"
    NON_FINITE_LOGITS = "E601"
    RUN_FAILED = "E602"
    DIVERGED = "E603"
    NOT_COMPRESSED = "E604"
    RUNNER_ENDED = "E605"
    NOT_EXPORTED = "E606"
    EXPORT_DIFFERS = "E607"
    TIMEOUT = "E701"
    MEMORY = "E702"
    DISK = "E703"
    OUTPUT = "E704"
    CRASH = "E705"
    EARLY_EXIT = "E706"
    THREADS = "E707"
    NO_SUCH_PATH = "U101"
    NO_SUBMISSIONS = "U102"
    NO_COMPETITION = "U103"
    BAD_COMPETITION = "U104"
    UNKNOWN_CODE = "U105"
    TARGET_EXISTS = "U106"
    BAD_COST_RULE = "U107"
    STORE_HELD = "U130"
    NO_PHASE = "U140"
    OTHER_ENVIRONMENT = "U180"
    LOCK_FAILED = "U181"
    NO_DATASET = "U201"
    BAD_DATASET = "U202"
    BROKEN_IMAGES = "U203"
    BAD_COCO = "U204"
    BAD_MAPPING = "U205"
    NO_PHOTOGRAPHS = "U206"
    BAD_ANNOTATION = "U207"
    NO_REFERENCE = "U301"
    STALE_REFERENCE = "U302"
    BASELINE_BELOW_FLOOR = "U303"
    BASELINE_FREE = "U304"
    BASELINE_DIFFERS = "U305"
    BAD_STORE_URL = "U401"
    BAD_INDEX = "U402"
    NO_TEAM = "U403"
    BAD_REPORT = "U404"
    NOT_VERIFIED = "U405"
    NO_CLUSTER = "U406"
    NOT_EXPRESSIBLE = "U450"
    FILE_TOO_LARGE = "U460"
    NO_ENTRY = "U470"
    ENTRY_CHANGED = "U471"
    TRAIL_BROKEN = "U472"
    TEAM_TAKEN = "U473"
    NO_SUCH_RESULT = "U474"
    MISSING_EXTRA = "U501"
    OTHER_RUN = "U502"
    NOT_SMALLER = "U503"
    NOTHING_FITS = "U504"
    RUNNER_FAILED = "H101"
    WORKER_FAILED = "H102"
    SELF_TEST_FAILED = "H103"
    NO_ISOLATION = "H104"
    MACHINE_FAILS = "H105"
    NO_WORKERS = "H106"
    NO_SPACE = "H107"
    CANNOT_TELL = "H108"
    STORE_FAILED = "H201"
    STORE_FULL = "H202"
    STORE_READ_ONLY = "H203"
    STORE_NEWER = "H204"
    TRAIL_EMPTY = "H270"


@dataclass(frozen=True)
class Explanation:
    """What one code means and how to fix the problem."""

    status: Status
    stage: str
    title: str
    why: str
    fix: str


def _read_catalogue() -> tuple[dict[Code, Explanation], dict[str, str], dict[str, str]]:
    text = files("starter.contract").joinpath("errors.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    hints, instead = tables.pop("hints"), tables.pop("instead")
    explained = {
        Code(code): Explanation(**(entry | {"status": Status(entry["status"])}))
        for code, entry in tables.items()
    }
    return explained, hints, {name: f"Write {what}." for name, what in instead.items()}


CATALOGUE, HINTS, INSTEAD = _read_catalogue()
"""What each code means; what to do if a code has several causes, by cause; what to write instead of an
operator without a cost rule, by a pattern for its name."""


class Language(StrEnum):
    """A language that the codes are explained in; messages are in English alone."""

    ENGLISH = "en"
    KOREAN = "ko"


def explanations(language: Language) -> dict[Code, Explanation]:
    """Return what each code means, in a language."""
    if language is Language.ENGLISH:
        return CATALOGUE
    text = files("starter.contract").joinpath(f"errors.{language}.toml").read_text(encoding="utf-8")
    return _translated(tomllib.loads(text))


def _translated(texts: Mapping[str, Mapping[str, Any]]) -> dict[Code, Explanation]:
    """Return the catalogue with its texts replaced; those that are missing stay English."""
    return {code: replace(entry, **texts.get(code, {})) for code, entry in CATALOGUE.items()}


class Record(BaseModel):
    """The base of every record: frozen, and strict about its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Problem(Record):
    """One thing that is wrong with a submission, in the terms of the person who can fix it."""

    code: Code
    """The stable code; `starter explain CODE` says more."""
    stage: str
    """Where: load, weights, transforms, export, graph, cost, run, train, limits, usage, host."""
    where: str
    """The file and line, field or node."""
    expected: str
    """What would be right."""
    got: str
    """What was found."""
    hint: str
    """What to do next."""


def problem(code: Code, *, where: str, got: str, expected: str = "", hint: str = "") -> Problem:
    """Describe one problem; the catalogue supplies what you leave out."""
    entry = CATALOGUE[code]
    return Problem(
        code=code,
        stage=entry.stage,
        where=where,
        expected=expected or entry.why,
        got=got,
        hint=hint or entry.fix,
    )


class StarterError(Exception):
    """The base of the kit's errors; carries at least one problem."""

    listed_in: Path | None = None
    """A file that lists all problems if there are too many of one kind to show."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{p.code} {p.where}: {p.got}" for p in self.problems))

    @property
    def status(self) -> Status:
        """The verdict of the first problem."""
        return CATALOGUE[self.problems[0].code].status


class ParticipantError(StarterError):
    """The submission is at fault; its author sees the problems. Exit code 1."""


class UsageError(StarterError):
    """The command, the data set or the competition's files are at fault. Exit code 2."""


class DataError(StarterError):
    """The data is at fault, and the caller asked for an error in that case. Exit code 1."""


class HostError(StarterError):
    """The kit or the machine is at fault, never the participant. Exit code 3."""


def participant_error(code: Code, **details: Any) -> ParticipantError:
    """Return the error for one problem that the participant can fix."""
    return ParticipantError([problem(code, **details)])


def usage_error(code: Code, **details: Any) -> UsageError:
    """Return the error for one problem that the caller can fix."""
    return UsageError([problem(code, **details)])


def host_error(code: Code, **details: Any) -> HostError:
    """Return the error for one problem of the kit or the machine."""
    return HostError([problem(code, **details)])
