"""Strangers' names and texts, made fit to be shown: a terminal obeys none of them, and none breaks a line."""


def clean(text: str) -> str:
    """Replace what a terminal would obey: every control character but the line break."""
    return "".join(c if c == "\n" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def inline(text: str) -> str:
    """Return a text on one line: a line break in a name could show a row that is none."""
    return clean(text).replace("\n", " ")
