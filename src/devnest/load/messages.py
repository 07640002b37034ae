"""What a generator and its parent say to each other: msgpack behind a length, on a socket pair."""

import asyncio

import msgspec

from devnest.load.tally import Figures

__all__ = ["Channel", "Done", "Failed", "Go", "Job", "Ready", "Second", "Stop"]

_LENGTH_BYTES = 4


class Job(msgspec.Struct, tag=True):
    """To a generator, first: what it is part of."""

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
    """From a generator: it has prepared; these figures are counted apart."""

    prepared: dict[str, float]


class Go(msgspec.Struct, tag=True):
    """To a generator: start the clock."""


class Stop(msgspec.Struct, tag=True):
    """To a generator: end the run now, and give the figures."""


class Second(msgspec.Struct, tag=True):
    """From a generator, once a second: what happened since the last one."""

    ordinal: int  # 0 is the first second of the run
    vus: int  # at most, in that second
    cpu_s: float
    wall_s: float
    stall_s: float  # the longest time in which the event loop did not turn
    figures: Figures


class Done(msgspec.Struct, tag=True):
    """From a generator, last: there are no more figures."""


class Failed(msgspec.Struct, tag=True):
    """From a generator, last: it could not run; `kind` is the name of an error of `devnest.load`."""

    kind: str
    text: str


Message = Job | Ready | Go | Stop | Second | Done | Failed


class Channel:
    """One end of the conversation."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)

    def send(self, message: Message) -> None:
        """Queue a message; never waits, and says nothing where the other end has gone."""
        if not self._writer.is_closing():
            frame = self._encoder.encode(message)
            self._writer.write(len(frame).to_bytes(_LENGTH_BYTES, "big") + frame)

    async def receive(self) -> Message | None:
        """The next message; None where the other end has gone."""
        try:
            length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES), "big")
            return self._decoder.decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def close(self) -> None:
        """Send what is queued, then hang up."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return
