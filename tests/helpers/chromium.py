"""Drive Chromium over a pipe (the DevTools protocol), so that a test needs no package for it.

A page is opened as it is: its policy holds for its own script, and the test reads it from outside.
Protocol: https://chromedevtools.github.io/devtools-protocol/.
"""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import Any, Literal

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
MISSING = "Chromium is not installed: apt install chromium"

Scheme = Literal["light", "dark"]


class Browser:
    """One tab of a Chromium that is already running.

    Args:
        commands: where Chromium reads.
        answers: where Chromium writes.
    """

    def __init__(self, commands: BufferedWriter, answers: BufferedReader) -> None:
        self._commands, self._answers = commands, answers
        self._rest, self._number, self._session = b"", 0, ""
        self.console: list[str] = []
        """What Chromium has logged about the page that is open."""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Log"):
            self._call(f"{domain}.enable")

    def open(self, page: Path | str, width: int, scheme: Scheme = "light") -> None:
        """Show a file or an address in a window of `width` CSS pixels; return when it has loaded."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", features=features)
        self.console.clear()
        self._call("Page.navigate", url=page if isinstance(page, str) else page.as_uri())
        while self._message().get("method") != "Page.loadEventFired":
            pass

    def run(self, script: str) -> Any:
        """Return what an expression yields in the page, as JSON."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key, as a person does: what has the focus gets it."""
        event = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self._call("Input.dispatchKeyEvent", type="keyDown", text=text, **event)
        self._call("Input.dispatchKeyEvent", type="keyUp", **event)

    def screenshot(self, path: Path) -> None:
        """Write a PNG of the whole page."""
        shot = self._call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while (answer := self._message()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            data = self._answers.read1(65536)
            assert data, "Chromium has ended"
            self._rest += data
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if message.get("method") == "Log.entryAdded":
            self.console.append(message["params"]["entry"]["text"])
        return message


@contextmanager
def running(user_data: Path) -> Iterator[Browser]:
    """Start Chromium with a profile folder of its own, and end it."""
    assert BROWSER is not None
    read, commands = os.pipe()
    answers, write = os.pipe()
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
    options += ["--hide-scrollbars", f"--user-data-dir={user_data}", "--no-first-run"]
    # Chromium reads descriptor 3 and writes descriptor 4.
    shell = f'exec "$0" "$@" 3<&{read} 4>&{write}'
    process = subprocess.Popen(
        ["/bin/bash", "-c", shell, BROWSER, *options],
        pass_fds=(read, write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read)
    os.close(write)
    with os.fdopen(commands, "wb") as to_it, os.fdopen(answers, "rb") as from_it:
        try:
            yield Browser(to_it, from_it)
        finally:
            process.terminate()
            process.wait()
