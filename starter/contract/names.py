"""Names that people read: one rule for entries, teams, files, zips and classes; which files are ignored.

A name is compared and shown in Unicode's composed form (NFC). Its letters are of one writing system, as
Unicode's security mechanisms call "highly restrictive" (UTS 39, 5.2): Korean, Japanese and Chinese may stand
beside Latin letters, Cyrillic ones may not. What only looks like another character (full-width letters,
ligatures, invisible fillers) is refused. Two names that look alike have one `skeleton`.

Standard library only: the process that reads a stranger's zip has nothing else to load.
"""

import re
import unicodedata
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

MANIFEST = "starter-manifest.json"
"""The member in which `starter pack` says what a zip holds."""

IGNORED = ("__MACOSX", "__pycache__", ".DS_Store", "Thumbs.db", "desktop.ini")
"""What operating systems and Python leave behind; never part of a submission."""

LITTER = {
    "version control": (".git", ".hg", ".svn", ".gitignore", ".gitattributes"),
    "a cache": (".mypy_cache", ".ruff_cache", ".pytest_cache", ".ipynb_checkpoints", ".cache", "__pycache__"),
    "an environment": (".venv", "venv", ".tox", "node_modules"),
    "an operating system file": ("__macosx", "._*", ".ds_store", ".appledouble", "thumbs.db", "desktop.ini"),
    "an editor's file": (".vscode", ".idea"),
    "compiled Python": ("*.pyc",),
}
"""Patterns of names, in lower case, that are left out of zips, written and read, by what they are."""

LONGEST = 64
"""Characters of an entry's or a team's name."""

_TOGETHER = (
    {"LATIN", "HANGUL", "CJK"},
    {"LATIN", "CJK", "HIRAGANA", "KATAKANA"},
)
"""Writing systems that use several scripts, with Latin letters beside."""

_INVISIBLE = {
    0x034F,
    0x115F,
    0x1160,
    0x17B4,
    0x17B5,
    0x2800,
    *range(0xFE00, 0xFE10),
    *range(0xE0100, 0xE01F0),
}

_MOST_MARKS = 2

_LOOK_LIKE = """
З3 Ӡ3 б6 аa АA Ьb ВB сc СC ԁd еe ҽe ЕE ԌG һh НH іi ӏi јj ЈJ КK Іl Ӏl МM оo ОO рp РP ԛq гr ѕs ЅS ТT
ѵv ѴV ѡw ԝw ԜW хx ХX уy үy УY ҮY
αa ΑA ΒB ΕE ϜF ΗH ιi ϳj ͿJ ΚK Ιl ΜM ϺM ΝN οo σo ΟO ρp ΡP ΤT υu νv ΧX γy ΥY ΖZ
քf ցg հh ոn ռn օo ՕO գq զq ՏS սu ՍU աw ᎪA ᏴB ᏟC ᎠD ᎬE ᏀG ᎻH ᎫJ ᏦK ᏞL ᎷM ᏢP ᎡR ᏚS ᎢT ᏙV ᎳW ᎩY ᏃZ
Ƨ2 Ʒ3 Ƽ5 Ȣ8 ɑa ᴄc ɡg ıi ɪi ɩi Ɩl ǀl ᴏo ꜱs ƽs ᴜu ʋu ᴠv ɯw ɣy ʏy ᴢz Il 1l 0O
"""
"""A character and what it looks like: Cyrillic, Greek, Armenian, Cherokee, then Latin letters and digits.

From Unicode's confusables.txt. The package that carries all of it (confusable-homoglyphs) compares characters
and knows no skeleton; these scripts have the letters that pass for Latin ones.
"""

_LATIN = {pair[0]: pair[1] for pair in _LOOK_LIKE.split()}


def is_ignored(path: PurePosixPath) -> bool:
    """Say whether a file is none of a submission's own."""
    return any(part in IGNORED for part in path.parts) or path.suffix == ".pyc"


def litter_kind(name: str) -> str:
    """Say what kind of litter a file or folder of this name is; nothing where it may be a submission's.

    >>> litter_kind("._net.py"), litter_kind("net.py")
    ('an operating system file', '')
    """
    kinds = (kind for kind, patterns in LITTER.items() for p in patterns if fnmatchcase(name.lower(), p))
    return next(kinds, "")


def litter(path: PurePosixPath) -> PurePosixPath | None:
    """Return the outermost file or folder on a path that is litter; None where none is."""
    ways = (*reversed(path.parents), path)
    return next((way for way in ways if litter_kind(way.name)), None)


def normalized(name: str) -> str:
    """Return a name in Unicode's composed form: macOS writes an accent as a character of its own."""
    return unicodedata.normalize("NFC", name)


def skeleton(name: str) -> str:
    """Return what a name looks like: the same for names that can be taken for each other.

    >>> skeleton("асе") == skeleton("ace")  # Cyrillic and Latin
    True
    """
    return normalized("".join(_LATIN.get(c, c) for c in normalized(name)))


def fault(name: str) -> str:
    """Say why people could not tell a name from others; empty if they can.

    >>> fault("étude"), fault("한국 팀 2"), fault("AI팀")
    ('', '', '')
    >>> fault("аdmin")  # the first letter is Cyrillic
    'letters of different scripts: Cyrillic, Latin'
    """
    name = normalized(name)
    scripts = {_script(c) for c in name if c > "\x7f" or c.isalpha()} - {""}
    marks = "".join("m" if unicodedata.category(c).startswith("M") else " " for c in name)
    reasons = {
        "a control character": any(unicodedata.category(c)[0] == "C" for c in name),
        "an invisible character": any(ord(c) in _INVISIBLE for c in name),
        "full-width letters or other variants of plain letters": unicodedata.normalize("NFKC", name) != name,
        f"more than {_MOST_MARKS} diacritics on one letter": "m" * (_MOST_MARKS + 1) in marks,
        f"letters of different scripts: {', '.join(sorted(map(str.capitalize, scripts)))}": (
            len(scripts) > 1 and not any(scripts <= together for together in _TOGETHER)
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _script(character: str) -> str:
    """Return the script of a letter or digit by its name's first word; nothing for what all scripts use."""
    if unicodedata.category(character)[0] not in "LN" or (character.isascii() and character.isdigit()):
        return ""
    word = unicodedata.name(character, "UNKNOWN").partition(" ")[0].partition("-")[0]
    return {"IDEOGRAPHIC": "CJK"}.get(word, word)


def path_fault(path: str) -> str:
    """Say why people could not tell a file's path from others; its parts and endings may differ in script."""
    return next((found for part in re.split(r"[/.]", path) if (found := fault(part))), "")


def entry_fault(name: str) -> str:
    """Say why a text cannot be an entry's name, which is a row and a path; empty if it can."""
    name = normalized(name)
    letters = [unicodedata.category(c)[0] in "LN" for c in name]
    others = {c for c in name if not (unicodedata.category(c)[0] in "LMN" or c in "_-.")}
    if not 1 <= len(name) <= LONGEST:
        return f"{len(name)} characters"
    if others:
        return f"the characters {' '.join(sorted(map(repr, others)))[:80]}"
    return fault(name) or ("" if letters[0] else f"starts with {name[0]!r}")


def team_fault(name: str) -> str:
    """Say why a text cannot be a team's name; empty if it can."""
    name = normalized(name)
    if not 1 <= len(name) <= LONGEST:
        return f"{len(name)} characters"
    return fault(name) or ("" if name == name.strip() else "a space at the start or end")
