"""The HTTP interface: routes, their bodies and their errors."""

from devnest.api.app import create_app
from devnest.api.services import Services
from devnest.api.tokens import TokenIssuer

__all__ = ["Services", "TokenIssuer", "create_app"]
