"""Names and texts of other people: decoded as written, shown without control characters, cut to length."""

import codecs
import csv
import io
import os
import re
import shlex
import subprocess
import unicodedata
from collections.abc import Sequence
from pathlib import Path

MAX_LISTED = 8
_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def decoded(data: bytes) -> str:
    """Decode a file by its byte order mark; without one it is UTF-8, or else code page 949 (Korean Windows).

    Raises:
        UnicodeDecodeError: it is neither; the error is UTF-8's.
    """
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        try:
            return data.decode("cp949")
        except UnicodeDecodeError:
            raise error from None


def read_text(path: Path) -> str:
    """Read a text file that a person or another tool has written; line ends stay as they are.

    Raises:
        OSError: it cannot be read.
        UnicodeDecodeError: as `decoded` does.
    """
    return decoded(path.read_bytes())


class Table:
    """The rows of a CSV file, separated by commas, semicolons or tabs, as its first line says."""

    def __init__(self, text: str) -> None:
        declared = re.match(r'"?sep=(.)"?\r?\n', text, re.IGNORECASE)
        self._above = 1 if declared else 0
        rest = text[declared.end() :] if declared else text
        header = rest.partition("\n")[0]
        # The first of the most frequent: a header of one column has none of them, and takes the comma.
        separator = declared[1] if declared else max(",;\t", key=header.count)
        lines = io.StringIO(rest, newline="")
        self.rows = csv.DictReader(lines, delimiter=separator, strict=True, restval="")

    @property
    def line(self) -> int:
        """The number of the last line read."""
        return self.rows.line_num + self._above


def clean(text: str) -> str:
    """Replace what a terminal would obey: every control character but the line break."""
    return "".join(c if c == "\n" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def inline(text: str) -> str:
    """Return a text on one line: a line break in a name could show a row that is none."""
    return clean(text).replace("\n", " ")


def listed(items: Sequence[str]) -> str:
    """Return the first of many in a row, and how many more there are."""
    more = f", and {len(items) - MAX_LISTED} more" if len(items) > MAX_LISTED else ""
    return ", ".join(items[:MAX_LISTED]) + more


def typed(*words: str | Path) -> str:
    """Return words quoted for this system's shell."""
    texts = [str(word) for word in words]
    return subprocess.list2cmdline(texts) if os.name == "nt" else shlex.join(texts)


class LogTail:
    """The end of what a process printed, and how much that was."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self._data = bytearray()

    def add(self, chunk: bytes) -> None:
        """Take what was read."""
        self.total += len(chunk)
        self._data += chunk
        if len(self._data) > 2 * self.limit + 65536:
            del self._data[: -self.limit]

    def text(self) -> bytes:
        """Return the end, and before it how much was dropped."""
        kept = bytes(self._data[-self.limit :])
        dropped = self.total - len(kept)
        return (f"[{dropped:,} earlier bytes dropped]\n".encode() if dropped else b"") + kept


def no_formula(text: str) -> str:
    """Return a text for one cell of a CSV file, which no spreadsheet takes for a formula."""
    text = inline(text)
    # A spreadsheet takes the full-width signs for the others.
    return f"'{text}" if unicodedata.normalize("NFKC", text[:1]).startswith(_FORMULA_SIGNS) else text
