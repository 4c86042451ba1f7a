"""Pack a submission into a zip that the organizer's side accepts: what goes in, what stays out, and why.

The zip is reproducible: the same content gives the same bytes. It is read back by the
organizer's own reader before it is called done. Secrets are found by detect-secrets (Yelp).
"""

import platform
import tempfile
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath

from starter import __version__
from starter.contract.competition import Limits
from starter.contract.errors import Code, ParticipantError, Problem, problem
from starter.contract.names import MANIFEST, litter, litter_kind
from starter.contract.submissions import Kind, SubmissionSource
from starter.contract.system.files import replace_with
from starter.submission.archive import Manifest, PackedFile, unpack
from starter.submission.content import own_files, sha256, submission_digest

SECRET_NAMES = (
    ".env", ".netrc", ".pypirc", ".aws", ".ssh", ".kaggle", "kaggle.json", "credentials", "credentials.json",
    "id_rsa", "id_ed25519", "id_ecdsa", "*.pem", "*.key", "*.p12", "*.pfx", "*.keystore", ".huggingface",
)  # fmt: skip
"""Names of files and folders that are never packed because they hold secrets."""

_DETECTORS = (
    "AWSKeyDetector", "ArtifactoryDetector", "AzureStorageKeyDetector", "BasicAuthDetector",
    "DiscordBotTokenDetector", "GitHubTokenDetector", "GitLabTokenDetector", "JwtTokenDetector",
    "KeywordDetector", "NpmDetector", "OpenAIDetector", "PrivateKeyDetector", "PypiTokenDetector",
    "SendGridDetector", "SlackDetector", "StripeDetector", "TelegramBotTokenDetector", "TwilioKeyDetector",
)  # fmt: skip
_TEXTS = {".py", ".txt", ".md", ".json", ".toml", ".yaml", ".yml", ".cfg", ".ini", ".csv", ".sh", ""}
_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Content:
    """What a zip would hold."""

    files: dict[str, Path]
    """By their names in the submission."""
    left_out: dict[str, str]
    """What stays out, and why."""
    problems: tuple[Problem, ...]
    """What keeps it from being packed."""


def choose(source: SubmissionSource, limits: Limits, *, allowed: Collection[str] = ()) -> Content:
    """Choose what goes along.

    Args:
        source: the submission.
        limits: how much it may hold; the organizer's.
        allowed: files that may hold what looks like a secret.
    """
    files: dict[str, Path] = {}
    left_out: dict[str, str] = {}
    problems = list(source.problems(limits))
    for path in sorted(source.files()):
        name = path.relative_to(source.folder).as_posix()
        reason = _reason_to_leave_out(PurePosixPath(name))
        if path.is_symlink():
            reason = "a link: only plain files are packed"
        if reason:
            left_out[name] = reason
            continue
        files[name] = path
    texts = {
        name: path for name, path in files.items() if path.suffix.lower() in _TEXTS and name not in allowed
    }
    problems += _secrets(texts)
    return Content(files, left_out, tuple(problems))


def _reason_to_leave_out(path: PurePosixPath) -> str:
    if found := litter(path):
        return litter_kind(found.name)
    if any(PurePosixPath(part).match(pattern) for part in path.parts for pattern in SECRET_NAMES):
        return "a file whose name suggests secrets"
    return "an older manifest" if str(path) == MANIFEST else ""


def _secrets(files: dict[str, Path]) -> Iterator[Problem]:
    """Yield what looks like a secret: its file, line and kind, and never itself."""
    from detect_secrets.core.scan import scan_file  # noqa: PLC0415 - only where something is packed
    from detect_secrets.settings import transient_settings  # noqa: PLC0415

    with transient_settings({"plugins_used": [{"name": name} for name in _DETECTORS]}):
        for name, path in files.items():
            for secret in sorted(scan_file(str(path)), key=lambda found: found.line_number):
                yield problem(Code.CONFIDENTIAL, where=f"{name}:{secret.line_number}", got=secret.type)


def manifest_of(source: SubmissionSource, files: dict[str, Path]) -> Manifest:
    """Return what a zip says of itself."""
    packed = [
        PackedFile(path=name, bytes=path.stat().st_size, sha256=sha256(path.read_bytes()))
        for name, path in sorted(files.items())
    ]
    versions = {"starter": __version__, "python": platform.python_version(), "torch": version("torch")}
    return Manifest(
        name=source.name,
        submission=submission_digest(source),
        files=tuple(packed),
        versions=versions,
    )


def write_zip(source: SubmissionSource, content: Content, target: Path, limits: Limits) -> Manifest:
    """Write the zip, read it back as the organizer will, and only then give it its name.

    Raises:
        ParticipantError: it cannot be packed, or the organizer's reader would refuse it.
    """
    if content.problems:
        raise ParticipantError(content.problems)
    with tempfile.TemporaryDirectory(prefix="starter-") as place:
        staged = _staged(source, content, Path(place) / "staged")
        manifest = manifest_of(staged, own_files(staged))
        top = f"{source.name}/" if source.kind is Kind.FOLDER else ""
        written = Path(place) / f"{source.name}.zip"
        with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
            for inside, path in sorted(own_files(staged).items()):
                _add(archive, top + inside, path.read_bytes())
            _add(archive, top + MANIFEST, (manifest.model_dump_json(indent=2) + "\n").encode())
        (Path(place) / "read").mkdir()
        found = unpack(written, Path(place) / "read", limits)
        if found.problems:
            raise ParticipantError(found.problems)
        assert found.source is not None
        assert submission_digest(found.source) == manifest.submission
        replace_with(target, written)
    return manifest


def _staged(source: SubmissionSource, content: Content, folder: Path) -> SubmissionSource:
    """Copy what goes along, so that what is hashed is what is packed."""
    for name, path in content.files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    path = folder if source.kind is Kind.FOLDER else folder / source.path.name
    return SubmissionSource(source.name, path, source.kind)


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    member = zipfile.ZipInfo(name, _TIME)
    member.external_attr = 0o100644 << 16
    archive.writestr(member, data, zipfile.ZIP_DEFLATED)
