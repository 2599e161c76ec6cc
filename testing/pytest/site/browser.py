"""A headless Chromium, by the Chrome DevTools Protocol over two pipes: neither a driver nor a port."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe",
)
PATIENCE = 120


def program():
    found = next(filter(None, map(shutil.which, NAMES)), None)
    assert found, f"no browser: one of {', '.join(NAMES)} is required; run scripts/setup.sh browser"
    return found


class Browser:
    """One page. What the browser reports is kept in `events` until it is taken."""

    def __init__(self, process, read, write):
        self.process, self.read, self.write = process, read, write
        self.rest, self.events, self.calls, self.session = b"", [], 0, None

    def receive(self):
        deadline = time.monotonic() + PATIENCE
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.read], [], [], max(0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            more = os.read(self.read, 1 << 20)
            assert more, "the browser ended"
            self.rest += more
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def call(self, method, /, **params):
        self.calls += 1
        request = {"id": self.calls, "method": method, "params": params}
        if self.session:
            request["sessionId"] = self.session
        os.write(self.write, json.dumps(request).encode() + b"\0")
        while (message := self.receive()).get("id") != self.calls:
            self.events.append(message)
        assert "error" not in message, f"{method}: {message['error']}"
        return message["result"]

    def attach(self):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def resize(self, width, height=900):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def open(self, url):
        """Load a page; returns what was reported meanwhile."""
        # Between two pages, so that a fragment does not make it a move within the page.
        self.call("Page.navigate", url="about:blank")
        self.events.clear()
        answer = self.call("Page.navigate", url=url)
        assert "errorText" not in answer, f"{url}: {answer}"
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")
        events, self.events = self.events, []
        return events

    def value(self, script):
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, script):
        """Until the script's value is true; returns it."""
        deadline = time.monotonic() + PATIENCE
        while not (value := self.value(script)):
            assert time.monotonic() < deadline, f"never true: {script}"
            time.sleep(0.02)
        return value

    def type(self, text):
        for character in text:
            self.press(character, text=character)

    def press(self, key, **more):
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def screenshot(self, file):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=False)["data"]))


@contextlib.contextmanager
def browser(profile):
    """The browser with a profile directory of its own."""
    # Its ends are to be 3 and 4 over there, so none of them may be one of these here.
    ends = [os.pipe(), os.pipe()]
    (reads, write), (read, writes) = [[fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in pipe] for pipe in ends]
    for end in (*ends[0], *ends[1]):
        os.close(end)
    command = [program(), *FLAGS, f"--user-data-dir={profile}"]
    with open(profile / "log", "wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{reads} 4>&{writes} {reads}<&- {writes}>&-', "bash", *command],
            pass_fds=(reads, writes), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )
    os.close(reads)
    os.close(writes)
    page = Browser(process, read, write)
    try:
        page.attach()
        yield page
        page.session = None
        page.call("Browser.close")
        process.wait(timeout=PATIENCE)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(read)
        os.close(write)
