"""The HTTP API of DevNest: routes, request bodies, errors, tokens and the OpenAPI document."""

from devnest.api.app import create_app, create_management_app
from devnest.api.http.bodies import Registration
from devnest.api.http.middleware import invalid_http_response
from devnest.api.http.patterns import describe_patterns
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
    "describe_patterns",
    "invalid_http_response",
]
