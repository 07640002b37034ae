"""Mail: messages to account holders, sent after the answer by SMTP or put into a folder."""

from devnest.mail.outbox import Outbox
from devnest.mail.transports import FolderTransport, MailRefused, SmtpTransport, Transport, compose

__all__ = ["FolderTransport", "MailRefused", "Outbox", "SmtpTransport", "Transport", "compose"]
