"""A headless Chromium that is steered over its debugging protocol: for pictures of the studio, and its test."""

from __future__ import annotations

import base64
import json
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlsuite.extras import import_extra
from scripts.screenshot_tensorboard import find_browser


class Browser:
    """One page.

    Args:
        address: of the page.
        size: of the window, in pixels.

    Raises:
        UserError: if there is no Chromium, or no package to speak with it.
    """

    def __init__(self, address: str, size: tuple[int, int] = (1100, 760)) -> None:
        connect = import_extra("websockets.sync.client", "steering a browser").connect
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        window = [f"--window-size={size[0]},{size[1]}", f"--user-data-dir={self.folder.name}"]
        quiet = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
        self.process = subprocess.Popen(
            [find_browser(), *quiet, *window, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        port = _wait(lambda: (Path(self.folder.name) / "DevToolsActivePort").read_text().splitlines()[0])
        self.socket = connect(_wait(lambda: _page(port)), max_size=None)
        self.number = 0
        self.call("Page.enable")

    def call(self, method: str, **keys: Any) -> dict[str, Any]:
        """Return what a method of the protocol answers."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": keys}, allow_nan=False))
        while True:
            answer = json.loads(self.socket.recv(timeout=60))
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def run(self, script: str) -> Any:
        """Return what a script on the page gives."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def wait_for(self, script: str, seconds: float = 90.0) -> Any:
        """Return what a script gives as soon as that is something; TimeoutError with the page's text otherwise."""
        end = time.monotonic() + seconds
        while not (found := self.run(script)):
            if time.monotonic() > end:
                raise TimeoutError(f"{script} stayed {found!r}: {self.run('document.body.innerText')}")
            time.sleep(0.2)
        return found

    def choose_file(self, selector: str, path: Path) -> None:
        """Put a file into an input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path.resolve())])

    def picture(self) -> bytes:
        """Return the page as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def close(self) -> None:
        """End the browser."""
        self.socket.close()
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()


def _page(port: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=10) as answer:
        pages = [page for page in json.load(answer) if page["type"] == "page"]
    return pages[0]["webSocketDebuggerUrl"]


def _wait(ask: Callable[[], Any], seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except (OSError, IndexError, ValueError):
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
