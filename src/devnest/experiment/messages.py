"""The messages between `devnest bench` and a guard process, each a line of JSON."""

import msgspec

__all__ = ["Failed", "Job", "Ready", "Reply", "Skipped", "decode_reply"]


class Job(msgspec.Struct, frozen=True):
    """The design that a guard starts on a fresh database. Port 0 means any free port."""

    command: list[str]
    environment: dict[str, str]
    ready: str
    needs_database: bool
    max_start_s: float
    hash_cost: int
    port: int
    postgres_bin: str | None


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The design answers requests at this URL."""

    url: str


class Skipped(msgspec.Struct, frozen=True, tag=True):
    """Something that the design needs is not installed."""

    reason: str


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The design did not start or exited during a run; `log` has the last lines of its output."""

    reason: str
    log: list[str]


Reply = Ready | Skipped | Failed


def decode_reply(line: bytes) -> Reply:
    """Decode a line that a guard has written.

    Args:
        line: One JSON object.

    Returns:
        The reply.

    Raises:
        msgspec.DecodeError: The line is not a reply.
    """
    reply: Reply = msgspec.json.decode(line, type=Reply)
    return reply
