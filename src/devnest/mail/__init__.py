"""Sends mail to account holders after the response, by SMTP or into a file."""

from devnest.mail.backlog import Sender
from devnest.mail.outbox import LOSSES, Outbox
from devnest.mail.transports import Failure, FileTransport, SmtpTransport, Transport, compose

__all__ = [
    "LOSSES",
    "Failure",
    "FileTransport",
    "Outbox",
    "Sender",
    "SmtpTransport",
    "Transport",
    "compose",
]
