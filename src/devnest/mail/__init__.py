"""Mail: messages to account holders, sent after the answer by SMTP or put into a file."""

from devnest.mail.outbox import Outbox
from devnest.mail.transports import Failure, FileTransport, SmtpTransport, Transport, compose

__all__ = ["Failure", "FileTransport", "Outbox", "SmtpTransport", "Transport", "compose"]
