"""Sends notifications to systemd, if it started this process: the datagrams of sd_notify(3)."""

import os
import socket
from contextlib import suppress

__all__ = ["notify", "watchdog_interval_s"]

# A notification is dropped if systemd's queue is full for this long: it must not block the
# supervisor.
SEND_TIMEOUT_S = 0.2


def notify(state: str) -> None:
    """Send a state to systemd; do nothing if systemd did not start this process.

    Args:
        state: Such as `READY=1`; several in one call have a line each.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.settimeout(SEND_TIMEOUT_S)
        sender.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        sender.sendall(state.encode())


def watchdog_interval_s() -> float | None:
    """Return how many seconds apart `WATCHDOG=1` is to be sent; None if the unit has no watchdog.

    That is half of the unit's `WatchdogSec`, as sd_watchdog_enabled(3) recommends.
    """
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2e6 if microseconds.isdigit() and int(microseconds) else None
