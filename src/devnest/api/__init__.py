"""The HTTP interface: routes, their bodies and their errors."""

from devnest.api.app import create_app, create_management_app
from devnest.api.http.bodies import Registration
from devnest.api.http.middleware import not_http
from devnest.api.http.patterns import in_words
from devnest.api.http.request import BODY_IS_LATE
from devnest.api.searches import Searches
from devnest.api.security.rehash import Rehasher
from devnest.api.security.tokens import ACCESS_TOKEN_LIFETIME_S, LEEWAY_S, TokenIssuer
from devnest.api.services import Services

__all__ = [
    "ACCESS_TOKEN_LIFETIME_S",
    "BODY_IS_LATE",
    "LEEWAY_S",
    "Registration",
    "Rehasher",
    "Searches",
    "Services",
    "TokenIssuer",
    "create_app",
    "create_management_app",
    "in_words",
    "not_http",
]
