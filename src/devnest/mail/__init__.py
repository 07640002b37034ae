"""Mail: messages to account holders, sent after the answer by SMTP or put into a file."""

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
