"""The target of a run: its URL is parsed, resolved and connected to before the measurement."""

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import Self

from devnest.load.errors import BadPlan, TargetUnreachable, connect_failure
from devnest.urls import BadUrl, parse_url

__all__ = ["CONNECT_TIMEOUT_S", "Target"]

CONNECT_TIMEOUT_S = 10.0  # for one TCP connection with its TLS handshake


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go. `address` is a resolved address, so that no VU waits for a DNS lookup."""

    url: str
    host: str
    port: int
    tls: bool
    base_path: str
    insecure: bool = False
    address: str = ""

    @classmethod
    def parse(cls, url: str, *, insecure: bool = False) -> Self:
        """Parse `http://HOST[:PORT][/BASE]` or `https://...`.

        Raises:
            BadPlan: `url` is anything else.
        """
        try:
            parsed = parse_url(url, ("http", "https"))
        except BadUrl as error:
            raise BadPlan(f"not a URL to drive: {error}") from None
        if len(parsed.hosts) != 1 or parsed.hosts[0].name.startswith("/"):
            raise BadPlan("not a URL to drive: it names no host, or more than one")
        if parsed.options or "?" in url or "@" in url:
            raise BadPlan(
                "not a URL to drive: it is only the server's address, "
                "without query, fragment or user"
            )
        tls, host = parsed.scheme == "https", parsed.hosts[0]
        return cls(
            url,
            host.name,
            host.port or (443 if tls else 80),
            tls,
            parsed.raw_path.rstrip("/"),
            insecure,
        )

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return a context with the system's certificates, or without verification (`insecure`)."""
        if not self.tls:
            return None
        context = ssl.create_default_context()
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    async def reached(self, timeout_s: float = CONNECT_TIMEOUT_S) -> "Target":
        """Return the same target with an address that accepts connections.

        Raises:
            TargetUnreachable: The host has no address, or none accepts a connection in time.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise TargetUnreachable(
                f"cannot resolve {self.host}: {error.strerror or error}"
            ) from None
        failures = []
        for address in dict.fromkeys(str(entry[4][0]) for entry in found):
            try:
                await self._try_connect(address, min(timeout_s, CONNECT_TIMEOUT_S))
            except OSError as error:  # also an SSLError
                failures.append(f"{address}: {connect_failure(error)}")
            else:
                return Target(
                    self.url, self.host, self.port, self.tls, self.base_path, self.insecure, address
                )
        raise TargetUnreachable(f"cannot connect to {self.url} ({'; '.join(failures)})")

    async def _try_connect(self, address: str, timeout_s: float) -> None:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(
                address,
                self.port,
                ssl=self.ssl_context(),
                server_hostname=self.host if self.tls else None,
            )
        writer.transport.abort()
