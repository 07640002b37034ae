"""Word to systemd, where it is listening: the datagrams of sd_notify(3)."""

import os
import socket
from contextlib import suppress

__all__ = ["notify", "watchdog_interval_s"]

SEND_TIMEOUT_S = 0.2  # for a listener whose queue is full; what it does not hear must not stop us


def notify(state: str) -> None:
    """Send a state such as `READY=1`; nothing happens without systemd."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.settimeout(SEND_TIMEOUT_S)
        sender.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        sender.sendall(state.encode())


def watchdog_interval_s() -> float | None:
    """How often systemd wants to hear `WATCHDOG=1`, halved to be sure; None where it does not."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2e6 if microseconds.isdigit() and int(microseconds) else None
