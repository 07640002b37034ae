"""Gives the samples of a run to others while it lasts: `--out csv=`, `json=` and `prometheus=`.

The parent process of a run writes them, once a second, from what the generators have counted; no
generator waits for it. A file has a thread of its own, with a bounded queue, so that a slow disk
does not delay the collection. Whatever goes wrong with an output ends that output and never the
run.
"""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from devnest.load.errors import BadPlan
from devnest.load.exporter import Exporter
from devnest.load.messages import Second
from devnest.load.result import Point
from devnest.load.samples import csv_head, csv_lines, json_head, json_lines, samples_of, vus_sample

__all__ = ["FileOutput", "Output", "OutputSpec", "opened_outputs", "parse_output"]

# Reports of one second that may wait for the disk. Each holds some hundred kilobytes at most, at
# ten thousand requests a second.
_MAX_WAITING = 64
_CHUNK_LINES = 4096  # lines that are written at once
_MAX_END_S = 30.0  # how long the end of a run waits for a disk
_TOO_SLOW = "it takes the samples too slowly"
_FORMATS = {"csv": (csv_head, csv_lines), "json": (json_head, json_lines)}


class Output(Protocol):
    """Where samples go. The text of `failure` is empty while all is well."""

    failure: str

    def second(self, second: Second, point: Point | None) -> None:
        """Take one second of one generator, and the run's second once it is whole."""


class FileOutput:
    """Writes samples to a file, as CSV or JSON lines, while the run lasts.

    Args:
        kind: `csv` or `json`.
        path: The file; it is emptied first.
    """

    def __init__(self, kind: str, path: Path) -> None:
        self.failure = ""
        self._path = path
        self._head, self._lines = _FORMATS[kind]
        self._waiting: queue.Queue[tuple[float, Second, Point | None] | None] = queue.Queue(
            _MAX_WAITING
        )
        self._writer: threading.Thread | None = None

    def second(self, second: Second, point: Point | None) -> None:
        """Queue one second of one generator; fail where the disk is too far behind."""
        if self.failure:
            return
        if self._writer is None:  # not before: a run that does not start leaves the file as it was
            self._writer = threading.Thread(target=self._write, daemon=True)
            self._writer.start()
        try:
            self._waiting.put_nowait((time.time(), second, point))
        except queue.Full:
            self._fail(f"{_TOO_SLOW}; those after {second.ordinal} s are missing")

    def close(self) -> None:
        """Write what waits, and close the file."""
        if self._writer is None:
            return
        max_end_s = 1.0 if self.failure else _MAX_END_S
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=max_end_s)
        self._writer.join(max_end_s)
        if self._writer.is_alive():
            self._fail(_TOO_SLOW)

    def _fail(self, reason: str) -> None:
        self.failure = self.failure or f"cannot write {self._path}: {reason}"

    def _write(self) -> None:
        try:
            with self._path.open("w", encoding="utf-8", newline="") as file:
                file.write(self._head())
                while (taken := self._waiting.get()) is not None:
                    self._write_second(file, *taken)
        except OSError as error:
            self._fail(error.strerror or str(error))
        except ValueError as error:  # a name that is no text
            self._fail(str(error))
        while self.failure and self._waiting.get() is not None:
            pass  # what still comes is dropped, so that the end of the run does not wait

    def _write_second(self, file: IO[str], at: float, second: Second, point: Point | None) -> None:
        pending: list[str] = []
        samples = samples_of(second, at)
        for line in self._lines(samples):
            pending.append(line)
            if len(pending) == _CHUNK_LINES:
                file.write("".join(pending))
                pending.clear()
        if point is not None:
            pending += self._lines(iter([vus_sample(point, at)]))
        file.write("".join(pending))
        file.flush()


class OutputSpec(NamedTuple):
    """An output that was asked for: its kind, and a file or an address."""

    kind: str
    where: str

    @property
    def path(self) -> Path | None:
        """The file to write, if it is one."""
        return Path(self.where) if self.kind in _FORMATS else None


def parse_output(text: str) -> OutputSpec:
    """Return the format and the destination of `csv=FILE`, `json=FILE` or `prometheus=HOST:PORT`.

    Raises:
        BadPlan: It is anything else.
    """
    kind, equals, where = text.partition("=")
    if not equals or not where or kind not in (*_FORMATS, "prometheus"):
        raise BadPlan(
            f"not an output: {text!r} (write csv=FILE, json=FILE or prometheus=HOST:PORT)"
        )
    if kind == "prometheus":
        Exporter.parse(where)
    return OutputSpec(kind, where)


@contextlib.asynccontextmanager
async def opened_outputs(specs: Sequence[OutputSpec]) -> AsyncIterator[list[Output]]:
    """Open the outputs for a run, and finish them after it.

    Raises:
        BadPlan: An address cannot be listened on.
    """
    outputs: list[Output] = []
    async with contextlib.AsyncExitStack() as stack:
        for spec in specs:
            if spec.path is not None:
                file = FileOutput(spec.kind, spec.path)
                stack.push_async_callback(asyncio.to_thread, file.close)
                outputs.append(file)
            else:
                exporter = Exporter.parse(spec.where)
                await exporter.open()
                stack.push_async_callback(exporter.close)
                outputs.append(exporter)
        yield outputs
