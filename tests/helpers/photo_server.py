"""A real HTTP server for the tests of the downloader: it serves, and fails in every way that is asked for."""

import io
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import numpy as np
from PIL import Image

SIZE = (240, 160)


def photograph(seed: int, size: tuple[int, int] = SIZE, orientation: int = 1, kind: str = "JPEG") -> bytes:
    """Return a picture of coarse noise, unlike all others; stored as a camera held that way stores it."""
    noise = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    if orientation == 6:
        picture = picture.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    picture.save(buffer, kind, exif=exif)
    return buffer.getvalue()


class PhotoServer(ThreadingHTTPServer):
    """Serves `files`; `asked` counts the requests by path, `at` holds their times."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()
        self.at: list[tuple[str, float]] = []
        self.headers: dict[str, str] = {}
        self.delay = 0.0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: Any) -> None:
        """Say nothing of clients that hang up: some tests are about that."""


class _Handler(BaseHTTPRequestHandler):
    server: PhotoServer

    def do_GET(self) -> None:
        """Answer /KIND/.../NAME in the way of its first word, and everything else with the file."""
        path = unquote(self.path)
        with self.server.lock:
            self.server.asked[path] += 1
            count = self.server.asked[path]
            self.server.at.append((path, time.monotonic()))
        self.server.headers = dict(self.headers)
        kind, _, rest = path.strip("/").partition("/")
        answer = getattr(self, f"_{kind.replace('-', '_')}", None)
        if answer is None:
            self._file(self.server.files.get(path))
        else:
            self.rest, self.count = rest, count
            self.data = self.server.files.get(f"/{rest}", b"")
            answer()

    def _file(self, data: bytes | None) -> None:
        time.sleep(self.server.delay)
        if data is None:
            self.send_error(404)
            return
        self._start(200, **{"Content-Length": str(len(data))})
        self.wfile.write(data)

    def _start(self, code: int, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _status(self) -> None:
        """/status/CODE/NAME fails every time."""
        self.send_error(int(self.rest.partition("/")[0]))

    def _twice(self) -> None:
        """/twice/CODE/NAME fails two times."""
        code, _, name = self.rest.partition("/")
        if self.count <= 2:
            self.send_error(int(code))
        else:
            self._file(self.server.files[f"/{name}"])

    def _patience(self) -> None:
        """/patience/SECONDS/NAME asks to wait once."""
        seconds, _, name = self.rest.partition("/")
        if self.count == 1:
            self._start(429, **{"Retry-After": seconds, "Content-Length": "0"})
        else:
            self._file(self.server.files[f"/{name}"])

    def _stall(self) -> None:
        """Send half, and then nothing for long."""
        self._start(200, **{"Content-Length": str(len(self.data))})
        self.wfile.write(self.data[: len(self.data) // 2])
        self.wfile.flush()
        time.sleep(3)

    def _trickle(self) -> None:
        """Send a byte now and then: never silent, never done."""
        self._start(200, **{"Content-Length": str(len(self.data))})
        for byte in self.data[:60]:
            self.wfile.write(bytes([byte]))
            time.sleep(0.05)

    def _cut_off(self) -> None:
        """Promise all and send half."""
        self._start(200, **{"Content-Length": str(len(self.data))})
        self.wfile.write(self.data[: len(self.data) // 2])

    def _unannounced(self) -> None:
        """Send half and promise nothing: only decoding can tell."""
        self._start(200)
        self.wfile.write(self.data[: len(self.data) // 2])

    def _redirect(self) -> None:
        self._start(302, Location=f"/{self.rest}")

    def _round(self) -> None:
        self._start(302, Location=self.path)

    def _away(self) -> None:
        """Redirect to a file of the reader's own machine."""
        self._start(302, Location="file:///etc/hostname")

    def _page(self) -> None:
        self._file(b"<!doctype html><title>Sign in</title>")

    def _endless(self) -> None:
        """Send without end and without a promise."""
        self._start(200)
        while True:
            self.wfile.write(bytes(2**16))

    def log_message(self, *_: Any) -> None:
        """Keep the tests' output clean."""


@contextmanager
def serving() -> Iterator[PhotoServer]:
    """Run a server on a free port."""
    with PhotoServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
