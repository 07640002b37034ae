"""Access tokens for schemathesis: what ends its session or account has one of its own, all other
requests share one.
"""

import uuid
from functools import cache
from typing import Any

import httpx
import schemathesis

from tests.support import NO_TLS, PATIENCE_S, sign_up

EXAMPLE = (
    "correct horse battery staple"  # the password in the document's examples, so that those succeed
)
ENDINGS = (
    "POST /api/v1/auth/logout",
    "POST /api/v1/auth/password/change",
    "DELETE /api/v1/auth/sessions",
    "DELETE /api/v1/users/me",
)
SESSIONS = "GET /api/v1/auth/sessions"  # its ids are tried on `DELETE /auth/sessions/{session_id}`


@schemathesis.auth(refresh_interval=None)
class Token:
    """An access token for each request."""

    def get(self, case: schemathesis.Case[Any], _context: schemathesis.AuthContext) -> str:
        """Of a new account, or of the one for all."""
        url = str(case.operation.base_url)
        return fresh(url) if case.operation.label in (*ENDINGS, SESSIONS) else shared(url)

    def set(
        self, case: schemathesis.Case[Any], data: str, _context: schemathesis.AuthContext
    ) -> None:
        """Send it."""
        case.headers["Authorization"] = f"Bearer {data}"


def fresh(url: str) -> str:
    """The access token of a new account."""
    with httpx.Client(base_url=url, timeout=PATIENCE_S, verify=NO_TLS) as client:
        return sign_up(client, f"u{uuid.uuid4().hex[:20]}", EXAMPLE)


shared = cache(fresh)
