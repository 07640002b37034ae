"""Runs the console blocks of a page as its reader would, in a directory that looks like a clone.

A block has prompts (`$ `, and `> ` where a command goes on) and what the commands print. `...`
stands for anything, and not every line that is printed has to be on the page. All commands of a
page run in one shell; one that serves runs beside it until the page ends. "Save this as `NAME`:"
before a block of Python makes the file.

What is not as on the reader's machine: the port is a free one instead of 8000, DevNest's data
directory is a temporary one that is made already, passwords are hashed at the lowest cost, and the
packages are installed.
"""

import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.support import PATIENCE_S

ROOT = Path(__file__).parents[2]
SERVES = re.compile(r"make run|devnest serve|-m (uvicorn|gunicorn|celery)|devnest\.pool serve")
PART = re.compile(
    r"(?:Save this as `(?P<name>[\w.]+)`:\n+)?```(?P<language>console|python)\n(?P<text>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
END = "end of the command"
OF_MAKE = {"CONSTRAINTS", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "TEST", "VENV"}


class File(NamedTuple):
    """A file that the reader is told to save."""

    name: str
    text: str


class Step(NamedTuple):
    """A command, and the lines that the page shows after it."""

    command: str
    shown: list[str]


def parts(page: str) -> Iterator[File | Step]:
    """What a page asks its reader to do, in order."""
    for part in PART.finditer(page):
        if part["language"] == "python":
            if part["name"]:
                yield File(part["name"], part["text"])
        else:
            yield from steps(part["text"])


def steps(block: str) -> Iterator[Step]:
    """The commands of a console block."""
    found: list[Step] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append(Step(line[2:], []))
        elif line.startswith("> ") and not found[-1].shown:
            found[-1] = Step(f"{found[-1].command}\n{line[2:]}", [])
        else:
            found[-1].shown.append(line)
    return iter(found)


def pattern(line: str) -> re.Pattern[str]:
    """What a line of the page stands for."""
    return re.compile(".*".join(re.escape(piece) for piece in line.split("...")))


class Output:
    """The lines that a process prints, as a thread reads them."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.seen: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._thread = threading.Thread(target=self._read, args=(process,), daemon=True)
        self._thread.start()

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def up_to(self, wanted: re.Pattern[str]) -> "re.Match[str]":
        """Read on to a line that matches; fail with all that was printed."""
        deadline = time.monotonic() + PATIENCE_S
        while (line := self._next(deadline)) is not None:
            self.seen.append(line)
            if match := wanted.fullmatch(line):
                return match
        raise AssertionError("\n".join([f"not printed: {wanted.pattern}", *self.seen]))

    def wait(self) -> None:
        """Wait for the end: nobody has the pipe open any more."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "a process of the page is still there"

    def _next(self, deadline: float) -> str | None:
        with suppress(queue.Empty):
            return self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
        return None


class Reader:
    """Somebody who does what a page says."""

    def __init__(self, directory: Path, data_dir: Path) -> None:
        self.directory = directory
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = str(free.getsockname()[1])
        # A make that runs the tests hands its own variables on, and a reader's make has none.
        inherited = {name: text for name, text in os.environ.items() if name not in OF_MAKE}
        self.environment = {
            **inherited,
            "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "DEVNEST_PORT": self.port,
            "DEVNEST_DATA_DIR": str(data_dir),
            "DEVNEST_HASH_COST": "4",
        }
        self.servers: list[tuple[subprocess.Popen[str], Output]] = []
        self.shell = self._start(["bash"], stdin=subprocess.PIPE)
        self.output = Output(self.shell)

    def _start(
        self, command: list[str], stdin: int = subprocess.DEVNULL
    ) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            command,
            cwd=self.directory,
            env=self.environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def do(self, part: File | Step) -> None:
        """Save the file, or run the command and compare what it prints."""
        if isinstance(part, File):
            (self.directory / part.name).write_text(part.text)
            return
        command = re.sub(r"\b8000\b", self.port, part.command)
        shown = [pattern(re.sub(r"\b8000\b", self.port, line)) for line in part.shown]
        if SERVES.search(command):
            process = self._start(["bash", "-c", command])
            self.servers.append((process, Output(process)))
            for line in shown:
                self.servers[-1][1].up_to(line)
        else:
            self._run(command, shown)

    def _run(self, command: str, shown: list[re.Pattern[str]]) -> None:
        assert self.shell.stdin is not None
        self.output.seen.clear()
        self.shell.stdin.write(f"{{ {command}\n}} < /dev/null\nprintf '\\n{END}: %s\\n' $?\n")
        self.shell.stdin.flush()
        status = self.output.up_to(re.compile(f"{END}: ([0-9]+)"))[1]
        printed = "\n".join(self.output.seen)
        assert status == "0", f"{command}\nended with {status}:\n{printed}"
        lines = iter(self.output.seen)
        for line in shown:
            assert any(line.fullmatch(seen) for seen in lines), (
                f"{command}\nprinted no {line.pattern}:\n{printed}"
            )

    def stop(self) -> None:
        """End what serves, as Ctrl-C does, and the shell; wait until all of it has gone."""
        for process, output in reversed(self.servers):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            process.wait(PATIENCE_S)
            output.wait()
        assert self.shell.stdin is not None
        self.shell.stdin.close()
        self.shell.wait(PATIENCE_S)
        self.output.wait()


def look_like_a_clone(directory: Path) -> None:
    """Link what the repository has, and an environment in which everything is installed."""
    for entry in ROOT.iterdir():
        if not entry.name.startswith((".", "build")):
            (directory / entry.name).symlink_to(entry)
    environment = directory / ".venv"
    environment.mkdir()
    (environment / "bin").symlink_to(Path(sys.prefix) / "bin")
    (environment / ".made").touch()
    (environment / ".installed").touch()


@contextmanager
def reader(directory: Path, data_dir: Path) -> Iterator[Reader]:
    """Somebody with a clone."""
    look_like_a_clone(directory)
    somebody = Reader(directory, data_dir)
    try:
        yield somebody
    finally:
        somebody.stop()
