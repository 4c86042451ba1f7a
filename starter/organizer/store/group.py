"""Group commit: what many threads write at once becomes one transaction, and each learns of its own."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError

_T = TypeVar("_T")


class _Waiting(Generic[_T]):
    """What a thread waits for: its item's end, or its turn to write."""

    def __init__(self, item: _T) -> None:
        self.item = item
        self.woken = threading.Event()
        self.is_done = False
        self.error: BaseException | None = None


class GroupCommit(Generic[_T]):
    """Commits what threads put, in groups: whoever comes while one is written waits and joins the next.

    One thread at a time writes, for all that wait, and then hands over to the first that has come meanwhile.
    Where a group fails for what is in it, each of its items is written alone, so that only the bad one
    fails; where the database fails, all of them fail.

    Args:
        commit: writes items in one transaction, all or nothing; they are durable when it returns.
        most: how many at once.
    """

    def __init__(self, commit: Callable[[Sequence[_T]], None], most: int = 200) -> None:
        self._commit = commit
        self._most = most
        self._queue: deque[_Waiting[_T]] = deque()
        self._lock = threading.Lock()
        self._is_writing = False

    def put(self, item: _T) -> None:
        """Return when the item is durable; raise what its own commit raised."""
        own = _Waiting(item)
        with self._lock:
            self._queue.append(own)
            waits, self._is_writing = self._is_writing, True
        if waits:
            own.woken.wait()
        if not own.is_done:  # it is this thread's turn to write
            try:
                self._write(self._taken())
            finally:
                self._hand_over()
        if own.error is not None:
            raise own.error

    def _taken(self) -> list[_Waiting[_T]]:
        with self._lock:
            return [self._queue.popleft() for _ in range(min(self._most, len(self._queue)))]

    def _hand_over(self) -> None:
        """Let the first that waits write, if any does."""
        with self._lock:
            if self._queue:
                self._queue[0].woken.set()
            else:
                self._is_writing = False

    def _write(self, group: Sequence[_Waiting[_T]]) -> None:
        try:
            self._commit([waiting.item for waiting in group])
        except Exception as error:  # noqa: BLE001 - raised where each thread waits
            if len(group) > 1 and not isinstance(error.__cause__, (OperationalError, InterfaceError)):
                for waiting in group:
                    self._write([waiting])
                return
            self._end(group, error)
        except BaseException as error:
            self._end(group, error)
            raise
        else:
            self._end(group, None)

    @staticmethod
    def _end(group: Sequence[_Waiting[_T]], error: BaseException | None) -> None:
        for waiting in group:
            waiting.error = error
            waiting.is_done = True
            waiting.woken.set()
