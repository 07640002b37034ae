"""The checked configuration of a running DevNest.

Only `devnest.cli` reads options and environment variables; everything else gets these values.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec

__all__ = ["HASH_NICE", "Hashing", "PoolSettings", "ServerSettings", "Settings"]

HASH_NICE = 5  # default of `--hash-nice`; docs/performance.md compares other values


class Hashing(StrEnum):
    """Where passwords are hashed."""

    POOL = "pool"
    THREAD = "thread"
    INLINE = "inline"


@dataclass(frozen=True)
class Settings:
    """The options of `devnest serve`, checked."""

    host: str
    port: int
    management: tuple[str, int] | None
    processes: int
    data_dir: Path
    hashing: Hashing
    hash_scheme: str
    hash_cost: int
    hash_workers: int
    lanes: int  # of each worker, for bcrypt
    hash_nice: int
    trusted_proxies: list[str]
    cors_origins: list[str]
    log_level: str
    database_url: str | None
    postgres_bin: Path | None
    signing_key_file: Path | None
    drain_timeout_s: float
    limits: bool
    password_min_length: int
    breached_passwords: Path | None
    smtp_url: str | None
    mail_from: str
    otlp_endpoint: str | None
    trace_sampling: float


class ServerSettings(msgspec.Struct, frozen=True):
    """What the supervisor sends to a server process.

    Attributes:
        management_listeners: How many of the server's last sockets serve `--management`.
        metrics_slot: The server's slot in the shared memory.
    """

    name: str
    management_listeners: int
    metrics_slot: int
    database_url: str
    signing_keys: str
    hashing: Hashing
    hash_scheme: str
    hash_cost: int
    hash_workers: int
    pool_url: str
    drain_timeout_s: float
    trusted_proxies: list[str]
    cors_origins: list[str]
    log_level: str
    limits: bool
    password_min_length: int
    breached_passwords: str | None
    smtp_url: str | None
    mail_file: str
    mail_from: str
    otlp_endpoint: str | None
    trace_sampling: float


class PoolSettings(msgspec.Struct, frozen=True):
    """What the supervisor sends to the pool process.

    Attributes:
        path: The pool's Unix socket.
        metrics_slot: The process's slot in the shared memory.
    """

    name: str
    metrics_slot: int
    path: str
    workers: int
    nice: int
    log_level: str
