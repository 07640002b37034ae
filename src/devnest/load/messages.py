"""The messages between a generator process and its parent.

Each travels over a socket pair as msgpack behind its length in four bytes.
"""

import asyncio

import msgspec

from devnest.load.tally import Counts

__all__ = ["Channel", "Done", "Failed", "Go", "Job", "Ready", "Second", "Stop", "Vus"]

_LENGTH_BYTES = 4


class Job(msgspec.Struct, tag=True):
    """The first message to a generator: the run and its part of it."""

    url: str
    address: str
    insecure: bool
    profile: str
    settings: dict[str, str]
    stages: list[tuple[float, int]] | None
    rate: float | None
    index: int
    generators: int
    seed: int
    timeout_s: float
    run_tag: str


class Ready(msgspec.Struct, tag=True):
    """From a generator: the profile is prepared. `prepared` is what `Profile.prepare` returned."""

    prepared: dict[str, float]


class Go(msgspec.Struct, tag=True):
    """To a generator: start the clock."""


class Stop(msgspec.Struct, tag=True):
    """To a generator: end the run now and send what was counted."""


class Vus(msgspec.Struct, tag=True):
    """To a generator, after `Go`: have this many VUs from now on, in all generators together."""

    number: int


class Second(msgspec.Struct, tag=True):
    """From a generator, once a second: what happened in it."""

    ordinal: int  # 0 is the first second of the run
    vus: int  # the most that were present at once
    cpu_s: float
    wall_s: float
    stall_s: float  # the longest time in which the event loop was blocked
    counts: Counts


class Done(msgspec.Struct, tag=True):
    """The last message from a generator: it has sent everything."""


class Failed(msgspec.Struct, tag=True):
    """The last message from a generator that could not run.

    `kind` is the name of an error class of `devnest.load`, `text` its message.
    """

    kind: str
    text: str


Message = Job | Ready | Go | Stop | Vus | Second | Done | Failed


class Channel:
    """One end of the socket pair."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)

    def send(self, message: Message) -> None:
        """Queue a message without waiting. It is dropped where the other end has closed."""
        if not self._writer.is_closing():
            encoded = self._encoder.encode(message)
            self._writer.write(len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded)

    async def receive(self) -> Message | None:
        """Return the next message, or None where the other end has closed."""
        try:
            length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES), "big")
            return self._decoder.decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def close(self) -> None:
        """Send what is queued, then close the socket."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return
