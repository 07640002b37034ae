"""What the guard of a design is told, and what it answers; a JSON line each."""

import msgspec

__all__ = ["Dead", "Job", "Ready", "Skipped", "Word", "decode_word"]


class Job(msgspec.Struct, frozen=True):
    """Start this on a fresh database. `port` 0 is any free one."""

    command: list[str]
    environment: dict[str, str]
    ready: str
    needs_database: bool
    start_limit_s: float
    hash_cost: int
    port: int
    postgres_bin: str | None


class Ready(msgspec.Struct, frozen=True, tag=True):
    """It answers at this URL."""

    url: str


class Skipped(msgspec.Struct, frozen=True, tag=True):
    """This machine lacks what it needs."""

    reason: str


class Dead(msgspec.Struct, frozen=True, tag=True):
    """It did not start, or ended unasked; with the last lines of its log."""

    reason: str
    log: list[str]


Word = Ready | Skipped | Dead


def decode_word(line: bytes) -> Word:
    word: Word = msgspec.json.decode(line, type=Word)
    return word
