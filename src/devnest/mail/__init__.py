"""Mail: messages to account holders, sent after the answer by SMTP or put into a folder."""

from devnest.mail.outbox import Outbox
from devnest.mail.transports import FolderTransport, SmtpTransport, Transport, compose

__all__ = ["FolderTransport", "Outbox", "SmtpTransport", "Transport", "compose"]
