"""Installed packages: what a competition allows beyond the kit's own, and which modules that leaves out.

A package is a distribution, as PEP 508 names it; a module is what a plugin imports. Allowed is what the
kit needs and what competition.toml names, each with all that it needs in turn. Nothing is imported here.
"""

import importlib.metadata
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

KIT = "macs-starter"
"""This distribution."""

_ALWAYS = (KIT, "torch", "torchvision", "thop")
"""What every plugin may import, with what it needs; the kit itself need not be installed as a package."""

NOT_INSTALLED = "not installed"
"""What stands for the version of a package that is not there."""


class Difference(NamedTuple):
    """One package that is not there as it is asked for."""

    name: str
    """Its name."""
    expected: str
    """The requirement."""
    found: str
    """The version that is installed, or `NOT_INSTALLED`."""


def requirement(text: str) -> Requirement:
    """Read a PEP 508 requirement.

    Raises:
        ValueError: it is none, or names an address instead of versions.
    """
    try:
        found = Requirement(text)
    except InvalidRequirement as error:
        raise ValueError(f"{text!r} is no PEP 508 requirement: {error}") from error
    if found.url:
        raise ValueError(f"{text!r} names an address; name versions: {found.name}==VERSION")
    return found


def applies(asked: Requirement, extras: Iterable[str] = ()) -> bool:
    """Say whether a requirement's marker holds on this machine."""
    marker = asked.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def installed_version(name: str) -> str:
    """Return the version of a package, or `NOT_INSTALLED`."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return NOT_INSTALLED


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return what is installed of each package that requirements name."""
    names = (requirement(text).name for text in packages)
    return {name: installed_version(name) for name in names}


def differences(asked: Iterable[Requirement]) -> list[Difference]:
    """Return the requirements that what is installed does not satisfy; a marker may exempt this machine."""
    found = []
    for one in asked:
        version = installed_version(one.name)
        if applies(one) and not _satisfies(version, one):
            found.append(Difference(canonicalize_name(one.name), f"{one.name}{one.specifier}", version))
    return found


def _satisfies(version: str, asked: Requirement) -> bool:
    try:
        return asked.specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:  # also where it is not installed
        return False


def needed_by(packages: Iterable[str]) -> set[str]:
    """Return the names of the installed packages that some need, directly or by others, with themselves."""
    waiting = [requirement(text) for text in packages]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        one = waiting.pop()
        key = (canonicalize_name(one.name), frozenset(one.extras))
        if key in seen or not applies(one):
            continue
        try:
            requires = importlib.metadata.requires(one.name) or ()
        except importlib.metadata.PackageNotFoundError:
            continue
        seen.add(key)
        further = [Requirement(text) for text in requires]
        for each in further:
            if applies(each, one.extras):
                each.marker = None  # it has been judged, with the extras that were asked for
                waiting.append(each)
    return {name for name, _ in seen}


def allowed_packages(packages: Iterable[str]) -> set[str]:
    """Return the names of the installed packages that a plugin may import: the kit's own, and these."""
    return needed_by((*_ALWAYS, *packages))


@cache
def hidden_modules(packages: tuple[str, ...]) -> Mapping[str, str]:
    """Return the installed top-level modules that a plugin may not import, with the package of each."""
    allowed = allowed_packages(packages)
    return {
        module: owners[0]
        for module, owners in sorted(importlib.metadata.packages_distributions().items())
        if module.isidentifier()
        and module not in sys.stdlib_module_names
        and allowed.isdisjoint(map(canonicalize_name, owners))
    }


def pinned(packages: Iterable[str]) -> Iterator[str]:
    """Yield what the kit and these packages need, as requirements, and pins of what is installed of that.

    A local version (`+cpu`) is not pinned: a registry may have none.
    """
    yield from packages
    for text in importlib.metadata.requires(KIT) or ():
        if "extra ==" not in text:
            yield text
    for name in sorted(allowed_packages(packages) - {KIT}):
        yield f"{name}=={Version(installed_version(name)).public}"


def locked(text: str) -> list[Requirement]:
    """Read the pins of a requirements file, without its hashes.

    Raises:
        ValueError: a line is none.
    """
    joined = text.replace("\r\n", "\n").replace("\\\n", " ")
    lines = (line.partition("#")[0].strip() for line in joined.splitlines())
    pins = (line.partition(" --hash")[0].strip() for line in lines if not line.startswith("-"))
    return [requirement(pin) for pin in pins if pin]
