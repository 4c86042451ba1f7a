"""What a submission consists of: the files that its process gets, and the hash of exactly those."""

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from starter.contract.names import MANIFEST, is_ignored, normalized
from starter.contract.submissions import Kind, SubmissionSource


def sha256(data: bytes) -> str:
    """Return a content hash as it is written everywhere: "sha256:" and 64 hex digits."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def digest(files: Mapping[str, Path]) -> str:
    """Return the hash of files by their names: "sha256:" and 64 hex digits."""
    total = hashlib.sha256()
    for name, content in sorted(files.items()):
        total.update(
            f"{len(name.encode())}:{name}:{sha256_of_file(content).removeprefix('sha256:')}\n".encode()
        )
    return f"sha256:{total.hexdigest()}"


def submission_digest(source: SubmissionSource) -> str:
    """Return the hash of a submission's content, which its own name is no part of.

    A folder, the zip it was packed into and the same under another name have one hash.
    """
    if source.path.suffix.lower() == ".zip":  # one that could not be unpacked
        return sha256_of_file(source.path)
    files = own_files(source)
    if source.kind is Kind.FILE:
        return digest({f"plugin{path.suffix}": path for path in files.values()})
    return digest(files)


def own_files(source: SubmissionSource) -> dict[str, Path]:
    """Return a submission's files by their names in it: what is hashed, and all that its process gets.

    No link, no manifest and nothing that is ignored is among them. Names are in Unicode's composed form.
    """
    above, found = source.folder, {}
    for path in source.files():
        name = normalized(path.relative_to(above).as_posix())
        if not (_is_linked(path, above) or is_ignored(PurePosixPath(name)) or name == MANIFEST):
            found[name] = path
    return found


def _is_linked(path: Path, above: Path) -> bool:
    """Say whether a file, or a folder between it and `above`, is a link."""
    return path.is_symlink() or any(
        folder.is_symlink() for folder in path.parents if folder != above and folder.is_relative_to(above)
    )


def sha256_of_file(path: Path) -> str:
    """Return a file's content hash."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def submission_files(source: SubmissionSource) -> dict[str, Path]:
    """Return what is hashed of a submission, by the names its process unpacks it with."""
    within = f"{source.path.name}/" if source.kind is Kind.FOLDER else ""
    return {f"{within}{name}": path for name, path in sorted(own_files(source).items())}
