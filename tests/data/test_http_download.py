"""Fetching from servers that say what no honest one says, and through a proxy."""

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from starter.data.coco.http_download import Fetcher, FetchError, FetchRules

QUICK = FetchRules(tries=2, timeout=0.4, back_off=0.01, most_bytes=200_000)
Start = Callable[..., tuple[str, list[bytes]]]
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def answering() -> Iterator[Start]:
    """Start a server that answers one connection after the other; return its URL, and what it is asked."""
    with contextlib.ExitStack() as stack:

        def start(*replies: bytes, endless: bytes = b"") -> tuple[str, list[bytes]]:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            asked: list[bytes] = []

            def serve() -> None:
                for reply in replies:
                    with listener.accept()[0] as connection, contextlib.suppress(OSError):
                        asked.append(connection.recv(2**16))
                        connection.sendall(reply)
                        while endless:
                            connection.sendall(endless)

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            stack.callback(thread.join, timeout=5)
            return f"http://127.0.0.1:{listener.getsockname()[1]}", asked

        yield start


def fetched(url: str) -> bytes:
    with Fetcher(QUICK) as fetcher:
        return fetcher.fetch(url, bytes)


def whole(data: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(data)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + data


def test_the_body_of_a_redirect_is_not_read(answering: Start) -> None:
    target, _ = answering(whole(b"picture"))
    url, _ = answering(f"HTTP/1.1 302 Found\r\nLocation: {target}/a\r\n\r\n".encode(), endless=bytes(2**16))
    assert fetched(url) == b"picture"


@pytest.mark.parametrize("where", ["http://[::1", "http://127.0.0.1:port/", "http://a\x7fb/"])
def test_a_redirect_to_no_url_is_final(answering: Start, where: str) -> None:
    url, asked = answering(whole(b"", f"Location: {where}", status="302 Found"))
    with pytest.raises(FetchError, match="HTTP 302 Found") as caught:
        fetched(url)
    assert caught.value.final
    assert len(asked) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:port/", "http://a\nb/", "http://\ud800/"])
def test_what_is_no_url_is_final(url: str) -> None:
    with pytest.raises(FetchError, match="not a URL") as caught:
        fetched(url)
    assert caught.value.final


@pytest.mark.parametrize(
    "reply",
    [b"", b"picture", b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
     b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 50_000 + b"\r\n"],
    ids=["nothing", "no HTTP", "no number", "negative", "no chunk", "endless headers"],
)  # fmt: skip
def test_what_is_no_http_is_tried_again(answering: Start, reply: bytes) -> None:
    url, asked = answering(reply, reply)
    with pytest.raises(FetchError, match=r"no connection, or connection lost: .") as caught:
        fetched(url)
    assert not caught.value.final
    assert len(asked) == 2


def test_nothing_is_unpacked_and_no_cookie_is_kept(
    answering: Start,
) -> None:
    """40 bytes of gzip that say they are a picture are 40 bytes."""
    packed = whole(b"\x1f\x8b" + bytes(38), "Content-Encoding: gzip", "Set-Cookie: name=us")
    url, asked = answering(packed, packed)
    with Fetcher(QUICK) as fetcher:
        assert [len(fetcher.fetch(url, bytes)) for _ in range(2)] == [40, 40]
    assert b"accept-encoding: identity" in asked[1].lower()
    assert b"cookie" not in asked[1].lower()


def test_a_proxy_of_the_environment_is_asked(answering: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, asked = answering(whole(b"picture"))
    monkeypatch.setenv("http_proxy", proxy)
    assert fetched("http://photographs.invalid/a.jpg") == b"picture"
    assert asked[0].startswith(b"GET http://photographs.invalid/a.jpg ")


@pytest.mark.parametrize("proxy", ["ftp://127.0.0.1", "http://127.0.0.1:port", "http://[::1"])
def test_a_proxy_that_is_none_is_told(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(FetchError, match=r"the proxy in the environment is not valid: ."):
        Fetcher(QUICK)


def test_the_command_line_starts_without_it() -> None:
    code = "import sys, starter.cli.app, starter.evaluation.evaluate as _\n"
    code += "print({'httpx2', 'tenacity'} & {*sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
