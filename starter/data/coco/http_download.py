"""Fetch one file over HTTP or HTTPS: tried again where that helps, bounded in size and time, never trusted.

URLs are strangers' texts: no other scheme is opened, also not after a redirect, and a
file counts only if all announced bytes came and `accept` takes them. httpx2 speaks HTTP,
through the proxies of the environment; tenacity tries again. What is fetched, and where
it goes: photographs.py.
"""

import email.utils
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Self, TypeVar

import httpx2
from tenacity import (
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
    wait_random_exponential,
)

from starter import __version__

Accepted = TypeVar("Accepted")

_TRY_AGAIN = {httpx2.codes.REQUEST_TIMEOUT, httpx2.codes.TOO_EARLY, httpx2.codes.TOO_MANY_REQUESTS}
"""The 4xx codes that speak of now and not of the file."""
_HEADERS = {
    "User-Agent": f"starter/{__version__}",
    "Accept": "image/*, */*;q=0.5",
    "Accept-Encoding": "identity",  # a photograph does not deflate, and what does may be a bomb
}


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


class Fetcher:
    """Fetches files, also from many threads; a server that asks to wait is left alone by all of them.

    Raises:
        FetchError: a proxy of the environment is not one.
    """

    def __init__(self, rules: FetchRules) -> None:
        self.rules = rules
        self.stopped = threading.Event()
        """Set it to end all waiting and reading soon."""
        self._free_at: dict[bytes, float] = defaultdict(float)
        """By host: when it may be asked again, on the monotonic clock."""
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        try:
            self._client = httpx2.Client(headers=_HEADERS, cookies=no_cookies, timeout=rules.timeout)
        except (httpx2.InvalidURL, ValueError) as error:
            raise FetchError(f"the proxy in the environment is not valid: {error}", final=True) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def fetch(self, url: str, accept: Callable[[bytes], Accepted]) -> Accepted:
        """Return what `accept` makes of the file at `url`; it raises FetchError for what it does not take.

        Raises:
            FetchError: every try failed, or one in a way that is final.
        """
        half = self.rules.back_off / 2
        retrying = Retrying(
            stop=stop_after_attempt(self.rules.tries),
            # Without chance all threads would come back to a busy server together.
            wait=wait_exponential(half) + wait_random_exponential(half),
            retry=retry_if_exception(self._may_pass),
            sleep=self._pause,
            reraise=True,
        )
        return retrying(lambda: accept(self._get(url)))

    def _may_pass(self, error: BaseException) -> bool:
        return isinstance(error, FetchError) and not error.final and error.wait <= self.rules.longest_wait

    def _pause(self, seconds: float) -> None:
        if self.stopped.is_set() or (seconds > 0 and self.stopped.wait(seconds)):
            raise FetchError("stopped")

    def _get(self, url: str) -> bytes:
        try:
            request = self._client.build_request("GET", url)
        except (httpx2.InvalidURL, ValueError) as error:
            raise FetchError(f"not a URL: {error}", final=True) from error
        host = request.url.netloc
        self._pause(self._free_at[host] - time.monotonic())
        try:
            return self._followed(request)
        except FetchError as error:
            if 0 < error.wait <= self.rules.longest_wait:
                self._free_at[host] = max(self._free_at[host], time.monotonic() + error.wait)
            raise

    def _followed(self, request: httpx2.Request) -> bytes:
        """Follow redirects here: the client would read the body of each, without a limit."""
        for _ in range(self.rules.most_redirects + 1):
            if request.url.scheme not in {"http", "https"} or not request.url.host:
                raise FetchError("not an http or https URL", final=True)
            try:
                with closing(self._client.send(request, stream=True)) as reply:
                    if reply.next_request is None:
                        return self._read(reply)
                    request = reply.next_request
            except httpx2.TransportError as error:
                reason = str(error) or type(error).__name__
                raise FetchError(f"no connection, or connection lost: {reason}") from error
        raise FetchError(f"more than {self.rules.most_redirects} redirects", final=True)

    def _read(self, reply: httpx2.Response) -> bytes:
        if not reply.is_success:
            again = reply.is_server_error or reply.status_code in _TRY_AGAIN
            raise FetchError(
                f"HTTP {reply.status_code} {reply.reason_phrase}".rstrip(), final=not again,
                wait=_seconds(reply.headers.get("Retry-After", "")),
            )  # fmt: skip
        announced, most = int(reply.headers.get("Content-Length", 0)), self.rules.most_bytes
        too_large = FetchError(f"larger than {most:,} bytes", final=True)
        if announced > most:
            raise too_large
        started, data = time.monotonic(), bytearray()
        try:
            for part in reply.iter_raw():  # as it comes, so that a trickle is seen
                data += part
                if len(data) > most:
                    raise too_large
                self._pause(0)
                seconds = time.monotonic() - started
                if seconds > self.rules.timeout and len(data) / seconds < self.rules.slowest:
                    raise FetchError(f"slower than {self.rules.slowest:g} bytes per second")
        except httpx2.RemoteProtocolError as error:
            if len(data) >= announced:
                raise
            raise FetchError(f"only {len(data):,} of {announced:,} bytes arrived") from error
        return bytes(data)


def _seconds(retry_after: str) -> float:
    """Read Retry-After: seconds or a date; 0 where it says nothing of use."""
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return 0.0
