"""A browser without a window, driven through a pipe by the DevTools protocol: no library, no port, no network.

Owns: starting Chromium, asking a page. Must not know: what is on the page.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--no-first-run", "--remote-debugging-pipe", "--window-size=1280,900",
)  # fmt: skip
READY_S = 60.0


def find_browser() -> str | None:
    """A Chromium on this machine."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One Chromium, as long as a `with` block.

    Attributes:
        requests: addresses that pages asked for since they were last cleared.
        complaints: what pages raised or wrote as errors.
    """

    def __init__(self, path: str):
        self._profile = tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        command = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            ["bash", "-c", command, path, *ARGUMENTS, f"--user-data-dir={self._profile.name}"],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._answers = os.fdopen(self._read, "rb")
        self._buffer = b""
        self._number = 0
        self.requests: list[str] = []
        self.complaints: list[str] = []
        target = self.ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self.ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.page(f"{domain}.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        self._answers.close()
        self._profile.cleanup()

    def open(self, page: Path, address: str = "") -> None:
        """Load a file anew and wait until it has drawn itself."""
        self.requests, self.complaints = [], []
        self.page("Page.navigate", {"url": "about:blank"})
        self.page("Page.navigate", {"url": page.resolve().as_uri() + address})
        self.wait("document.body && document.body.dataset.ready === 'yes'")

    def run(self, expression: str) -> Any:
        """What an expression of JavaScript gives, as JSON has it."""
        told = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = self.page("Runtime.evaluate", told)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']['exception'].get('description')}")
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until a condition of the page holds."""
        until = time.monotonic() + READY_S
        while not self.run(condition):
            if time.monotonic() > until:
                raise AssertionError(f"{condition}: not within {READY_S:g} s; {self.complaints}")
            time.sleep(0.02)

    def press(self, key: str) -> None:
        """A key, pressed and let go."""
        text = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
        code = {"windowsVirtualKeyCode": 13} if key == "Enter" else {}
        self.page("Input.dispatchKeyEvent", {"type": "keyDown", "key": key, **text, **code})
        self.page("Input.dispatchKeyEvent", {"type": "keyUp", "key": key, **code})

    def resize(self, width: int, height: int = 900) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.page("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, scheme: str) -> None:
        """The system's colours: light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.page("Emulation.setEmulatedMedia", {"features": features})

    def page(self, method: str, parameters: dict | None = None) -> dict[str, Any]:
        return self.ask(method, parameters, sessionId=self._session)

    def ask(self, method: str, parameters: dict | None = None, **more: str) -> dict[str, Any]:
        """One call of the protocol; what happens meanwhile is noted."""
        self._number += 1
        call = {"id": self._number, "method": method, "params": parameters or {}, **more}
        os.write(self._write, json.dumps(call).encode() + b"\0")
        while True:
            message = self._message()
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message}"
                return message["result"]
            self._note(message)

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            chunk = os.read(self._read, 1 << 20)
            assert chunk, "the browser is gone"
            self._buffer += chunk
        first, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(first)

    def _note(self, message: dict[str, Any]) -> None:
        told = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(told["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(told["exceptionDetails"])[:500])
            case "Log.entryAdded" if told["entry"]["level"] == "error":
                self.complaints.append(told["entry"]["text"])
