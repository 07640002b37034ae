"""A real Chromium that a test drives, over the pipe of its DevTools protocol."""

import asyncio
import base64
import contextlib
import itertools
import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PATIENCE_S = 60.0
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-sync", "--disable-background-networking", "--disable-component-update"),
    "--remote-debugging-pipe",
]


class NoAnswer(Exception):
    """The browser could not do what it was told."""


class Browser:
    """One tab, and what it asked for and complained about.

    Attributes:
        asked: The addresses of all requests.
        complaints: Exceptions of scripts, and errors in the console.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._session = ""
        self.asked: list[str] = []
        self.complaints: list[str] = []

    async def listen(self) -> None:
        while True:
            message = msgspec.json.decode((await self._reader.readuntil(b"\0"))[:-1])
            if "id" in message:
                self._waiting.pop(message["id"]).set_result(message)
                continue
            match message["method"], message["params"]:
                case "Network.requestWillBeSent", {"request": {"url": url}}:
                    self.asked.append(url)
                case "Runtime.exceptionThrown", {"exceptionDetails": details}:
                    self.complaints.append(str(details))
                case "Log.entryAdded", {"entry": {"level": "error"} as entry}:
                    self.complaints.append(str(entry))

    async def call(self, method: str, **params: object) -> dict[str, Any]:
        number = next(self._numbers)
        self._waiting[number] = answer = asyncio.get_running_loop().create_future()
        message: dict[str, object] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._writer.write(msgspec.json.encode(message) + b"\0")
        async with asyncio.timeout(PATIENCE_S):
            got = await answer
        if "error" in got:
            raise NoAnswer(got["error"])
        result: dict[str, Any] = got["result"]
        return result

    async def attach(self) -> None:
        targets = (await self.call("Target.getTargets"))["targetInfos"]
        tab = next(each["targetId"] for each in targets if each["type"] == "page")
        answer = await self.call("Target.attachToTarget", targetId=tab, flatten=True)
        self._session = answer["sessionId"]
        for domain in ("Network", "Runtime", "Log", "Page"):
            await self.call(f"{domain}.enable")

    async def go(self, url: str) -> None:
        await self.call("Page.navigate", url=url)

    async def value(self, script: str) -> Any:
        """Return the value of a script in the page."""
        answer = await self.call("Runtime.evaluate", expression=script, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, script: str) -> None:
        """Wait until a script in the page is true."""
        async with asyncio.timeout(PATIENCE_S):
            # Between two pages there is no element, or even no page to run a script in.
            guarded = (
                f"(() => {{ try {{ return Boolean({script}); }} catch {{ return false; }} }})()"
            )
            while True:
                with contextlib.suppress(NoAnswer):
                    if await self.value(guarded):
                        return
                await asyncio.sleep(0.05)

    async def look(self, width: int, *, dark: bool = False) -> bytes:
        """Return a picture of the whole page at that width."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        await asyncio.sleep(0.5)
        answer = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(answer["data"])


@asynccontextmanager
async def browsing(folder: Path) -> AsyncIterator[Browser]:
    """Start Chromium with a profile in `folder`, and end it."""
    assert BROWSER is not None
    ours, theirs = socket.socketpair()

    def pipes() -> None:  # the protocol is on the descriptors 3 and 4
        number = os.dup(theirs.fileno())
        os.dup2(number, 3)
        os.dup2(number, 4)

    process = await asyncio.create_subprocess_exec(
        *(BROWSER, *FLAGS, f"--user-data-dir={folder / 'browser'}", "about:blank"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        preexec_fn=pipes,
        close_fds=False,
    )
    theirs.close()
    reader, writer = await asyncio.open_connection(sock=ours, limit=1 << 26)
    browser = Browser(reader, writer)
    listening = asyncio.create_task(browser.listen())
    try:
        await browser.attach()
        yield browser
    finally:
        listening.cancel()
        writer.close()
        process.kill()
        await process.wait()
