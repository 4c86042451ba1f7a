"""Fetch one file over HTTP or HTTPS: tried again where that helps, bounded in size and time, never trusted.

URLs are strangers' texts: no other scheme is opened, also not after a redirect, and a
file counts only if all announced bytes came and `accept` takes them. Proxies are those
of the environment (`https_proxy`). What is fetched, and where it goes: photographs.py.
"""

import email.utils
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse, InvalidURL
from typing import TypeVar
from urllib.error import HTTPError
from urllib.parse import SplitResult, quote, urljoin, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from starter import __version__

Accepted = TypeVar("Accepted")

_REDIRECTS = {301, 302, 303, 307, 308}
_TRY_AGAIN = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
"""The 4xx codes that speak of now and not of the file."""


class FetchError(Exception):
    """A file could not be had."""

    def __init__(self, reason: str, *, final: bool = False, wait: float = 0) -> None:
        self.reason = reason
        self.final = final
        """Whether trying again, now or another day, would be in vain."""
        self.wait = wait
        """How long the server asks to wait, seconds."""
        super().__init__(reason)


@dataclass(frozen=True)
class FetchRules:
    """How patient a download is, and how much it takes."""

    tries: int = 5
    """How often one URL is asked for."""
    timeout: float = 20.0
    """Seconds without a byte, or below `slowest` from the start, after which a try has failed."""
    slowest: float = 1024.0
    """Bytes a second, on average."""
    most_bytes: int = 64 * 2**20
    """Larger files are refused."""
    most_redirects: int = 5
    """Further redirects are refused."""
    back_off: float = 1.0
    """Seconds before the second try, up to half of them less by chance; doubled with every try."""
    longest_wait: float = 120.0
    """A server that asks for more patience has failed, seconds."""


@dataclass
class Fetcher:
    """Fetches files, also from many threads; a server that asks to wait is left alone by all of them."""

    rules: FetchRules = field(default_factory=FetchRules)
    stopped: threading.Event = field(default_factory=threading.Event)
    """Set it to end all waiting and reading soon."""
    _free_at: dict[str, float] = field(default_factory=lambda: defaultdict(float), repr=False)
    """By host: when it may be asked again, on the monotonic clock."""

    def fetch(self, url: str, accept: Callable[[bytes], Accepted]) -> Accepted:
        """Return what `accept` makes of the file at `url`; it raises FetchError for what it does not take.

        Raises:
            FetchError: every try failed, or one in a way that is final.
        """
        host = _checked(url).netloc
        attempt = 0
        while True:
            attempt += 1
            self._pause(self._free_at[host] - time.monotonic())
            try:
                return accept(self._get(url))
            except FetchError as error:
                if error.final or attempt >= self.rules.tries or error.wait > self.rules.longest_wait:
                    raise
                if error.wait:
                    self._free_at[host] = max(self._free_at[host], time.monotonic() + error.wait)
                # Without chance all threads would come back to a busy server together.
                jitter = random.uniform(0.5, 1)  # noqa: S311 - no secret
                self._pause(self.rules.back_off * 2 ** (attempt - 1) * jitter)

    def _pause(self, seconds: float) -> None:
        if self.stopped.is_set() or (seconds > 0 and self.stopped.wait(seconds)):
            raise FetchError("stopped")

    def _get(self, url: str) -> bytes:
        for _ in range(self.rules.most_redirects + 1):
            try:
                request = Request(  # noqa: S310 - the scheme is checked
                    _ascii(url),
                    headers={"User-Agent": f"starter/{__version__}", "Accept": "image/*, */*;q=0.5"},
                )
                with _opener().open(request, timeout=self.rules.timeout) as reply:
                    return self._read(reply)
            except HTTPError as error:
                with error:
                    url = _redirected(url, error)
            except InvalidURL as error:
                raise FetchError(f"not a URL: {error}", final=True) from error
            except (OSError, HTTPException) as error:
                reason = str(getattr(error, "reason", "") or error) or type(error).__name__
                raise FetchError(f"no connection, or it broke: {reason}") from error
        raise FetchError(f"more than {self.rules.most_redirects} redirects", final=True)

    def _read(self, reply: HTTPResponse) -> bytes:
        announced, most = reply.length, self.rules.most_bytes
        too_large = FetchError(f"larger than {most:,} bytes", final=True)
        if announced is not None and announced > most:
            raise too_large
        started, size, parts = time.monotonic(), 0, []
        while part := reply.read1(2**16):  # at most one read of the socket, so that a trickle is seen
            parts.append(part)
            size += len(part)
            if size > most:
                raise too_large
            self._pause(0)
            seconds = time.monotonic() - started
            if seconds > self.rules.timeout and size / seconds < self.rules.slowest:
                raise FetchError(f"slower than {self.rules.slowest:g} bytes a second")
        if announced is not None and size != announced:
            raise FetchError(f"{size:,} of {announced:,} bytes came")
        return b"".join(parts)


def _opener() -> OpenerDirector:
    """Return what opens http and https and nothing else; it leaves redirects to us.

    urllib's own opener also knows file and ftp, and reads the body of a redirect without a limit.
    """
    opener = OpenerDirector()
    for kind in (ProxyHandler, HTTPHandler, HTTPSHandler, HTTPDefaultErrorHandler, HTTPErrorProcessor):
        opener.add_handler(kind())
    return opener


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise FetchError(f"not a URL: {error}", final=True) from error
    if parts.scheme not in {"http", "https"} or not host:
        raise FetchError("not an http or https URL", final=True)
    return parts


def _ascii(url: str) -> str:
    """Quote what may not stand in a request line, and leave what is quoted."""
    return quote(url, safe="%/:?#[]@!$&'()*+,;=~")


def _redirected(url: str, reply: HTTPError) -> str:
    """Return where a redirect leads; every other reply is an error."""
    where = reply.headers.get("Location")
    if reply.code in _REDIRECTS and where:
        target = urljoin(url, where)
        _checked(target)
        return target
    again = reply.code >= HTTPStatus.INTERNAL_SERVER_ERROR or reply.code in _TRY_AGAIN
    raise FetchError(
        f"HTTP {reply.code} {reply.reason}".rstrip(), final=not again,
        wait=_seconds(reply.headers.get("Retry-After", "")),
    )  # fmt: skip


def _seconds(retry_after: str) -> float:
    """Read Retry-After: seconds or a date; 0 where it says nothing of use."""
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return 0.0
