"""Chromium without a window, driven by its DevTools pipe: opens a page, presses keys, collects console errors."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
PROGRAM = next((path for name in NAMES if (path := shutil.which(name))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe"),
)
CHILD = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
MIDDLE = """async (element) => {
  const at = () => element.getBoundingClientRect();
  const rest = async () => {
    for (let y = NaN; y !== at().y; await new Promise((go) => setTimeout(go, 150))) y = at().y;
  };
  await rest();
  element.scrollIntoView({ block: "center", behavior: "instant" });
  await rest();
  return [at().x + at().width / 2, at().y + at().height / 2];
}"""
KEYS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Home": 36, "End": 35, "Escape": 27}


class Browser:
    """One page of a new browser; `errors` collects errors and warnings, `requests` the URLs that the page loads.

    Args:
        width: width of the window, pixels.
        height: height of the window, pixels.
        dark: whether the page is shown in its dark colours.
    """

    def __init__(self, width: int = 1280, height: int = 800, dark: bool = False) -> None:
        self.size, self.dark = (width, height), dark
        self.errors, self.requests, self.loaded = list[str](), list[str](), False
        self.count, self.buffer = 0, b""

    def __enter__(self) -> "Browser":
        self.folder = tempfile.TemporaryDirectory(prefix="chromium", ignore_cleanup_errors=True)
        pipes = [os.pipe() for _ in range(2)]
        (child_in, self.out), (self.into, child_out) = pipes
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (child_in, child_out)]  # clear of 3 and 4
        argv = [sys.executable, "-c", CHILD, *map(str, high), str(PROGRAM), *FLAGS]
        argv += [f"--user-data-dir={self.folder.name}", "about:blank"]
        self.process = subprocess.Popen(argv, pass_fds=high, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for fd in (child_in, child_out, *high):
            os.close(fd)
        targets = self.ask("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self.session = self.ask("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.do(f"{domain}.enable")
        shape = {"width": self.size[0], "height": self.size[1], "deviceScaleFactor": 1, "mobile": False}
        self.do("Emulation.setDeviceMetricsOverride", **shape)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if self.dark else "light"}
        self.do("Emulation.setEmulatedMedia", features=[scheme])
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        for fd in (self.out, self.into):
            os.close(fd)
        self.folder.cleanup()

    def do(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command to the page."""
        return self.ask(method, self.session, **params)

    def ask(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send a command and return its result; events before it are recorded."""
        self.count += 1
        message: dict[str, Any] = {"id": self.count, "method": method, "params": params}
        message |= {"sessionId": session} if session else {}
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while (answer := self.receive()).get("id") != self.count:
            self.record_event(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def receive(self, seconds: float = 60) -> dict[str, Any]:
        """Wait for the next message."""
        deadline = time.monotonic() + seconds
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.into], [], [], max(0.0, deadline - time.monotonic()))
            part = os.read(self.into, 1 << 20) if ready else b""
            if not part:
                raise RuntimeError("chromium sends no message")
            self.buffer += part
        message, _, self.buffer = self.buffer.partition(b"\0")
        return dict(json.loads(message))

    def record_event(self, event: dict[str, Any]) -> None:
        """Record errors, warnings and requests."""
        name, params = event.get("method"), event.get("params", {})
        if name == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"]))
        elif name == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(params["args"]))
        elif name == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"]["text"])
        elif name == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif name == "Page.loadEventFired":
            self.loaded = True

    def open(self, path: Path) -> None:
        """Open a file and wait until it is loaded."""
        self.loaded = False
        self.do("Page.navigate", url=path.absolute().as_uri())
        while not self.loaded:
            self.record_event(self.receive())

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        result = self.do("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(json.dumps(result["exceptionDetails"]))
        return result["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key."""
        for kind in ("rawKeyDown", "keyUp"):
            self.do("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=KEYS[key])

    def click(self, selector: str) -> None:
        """Click in the middle of an element, once it no longer moves."""
        x, y = self.run(f"({MIDDLE})(document.querySelector({json.dumps(selector)}))")
        for kind in ("mousePressed", "mouseReleased"):
            self.do("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def picture(self, path: Path, complete: bool = True) -> Path:
        """Save the page, or the part in the window, as a PNG."""
        result = self.do("Page.captureScreenshot", format="png", captureBeyondViewport=complete)
        path.write_bytes(base64.b64decode(result["data"]))
        return path
