"""Measure `starter data taco` on a real annotation file, against a server on this machine.

TACO's photographs are on an image host; here pictures of coarse noise in the annotated
sizes stand in for them, JPEG of quality 60. The server fails for now on one request in
FAIL and has lost one photograph in GONE. What is timed is the command, not the drawing.

    python benchmarks/taco.py annotations.json --folder /tmp/taco
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FAIL, GONE = 25, 300


class Handler(SimpleHTTPRequestHandler):
    """Serves files, fails every FAILth request, and lacks every GONEth photograph."""

    asked = 0

    def do_GET(self) -> None:
        """Answer one request."""
        type(self).asked += 1
        if self.asked % FAIL == 0:
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def draw(folder: Path, number: int, entry: dict[str, Any]) -> None:
    """Draw the stand-in of one photograph."""
    path = folder / entry["file_name"]
    if number % GONE == GONE - 1 or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    size = (entry["width"], entry["height"])
    Image.fromarray(noise).resize(size, Image.Resampling.BILINEAR).save(path, "JPEG", quality=60)


def run(*words: str) -> None:
    """Run one command of the kit and print its time and what it says."""
    started = time.monotonic()
    done = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-m", "starter", *words], capture_output=True, text=True, check=False
    )  # fmt: skip
    print(f"$ starter {' '.join(words)}\n{done.stdout}{done.stderr}exit {done.returncode}")
    print(f"{time.monotonic() - started:.1f} s\n", flush=True)


def main() -> None:
    """Draw, serve, download twice, and cut with both mappings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("--folder", type=Path, required=True, help="for about 2 GB")
    options = parser.parse_args()
    drawn, out = options.folder / "drawn", options.folder / "out"
    images = json.loads(options.annotations.read_text(encoding="utf-8"))["images"]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda pair: draw(drawn, *pair), enumerate(images)))
    size = sum(path.stat().st_size for path in drawn.rglob("*.*") if path.is_file())
    print(f"{len(images):,} photographs drawn, {size / 1e6:,.0f} MB", flush=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: Handler(*a, directory=str(drawn)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for mapping in ("taco-6", "taco-9"):
        run("data", "taco", "--annotations", str(options.annotations), "--out", str(out / mapping),
            "--photographs", str(out / "photographs"), "--mapping", mapping, "--max-side", "256",
            "--base-url", f"http://127.0.0.1:{server.server_address[1]}")  # fmt: skip
        print(f"{Handler.asked:,} requests so far\n", flush=True)


if __name__ == "__main__":
    main()
