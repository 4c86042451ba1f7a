"""What is kept of what a process prints: the end."""


class LogTail:
    """The end of what a pipe delivered, and how much there was."""

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
        return (f"[{dropped:,} earlier bytes not kept]\n".encode() if dropped else b"") + kept
