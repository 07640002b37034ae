"""The OpenAPI document and the page to read it on; nothing is fetched from elsewhere."""

from base64 import b64encode
from functools import cache, lru_cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
from litestar import Controller, Litestar, MediaType, Request, get
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.spec import Components, SecurityScheme

from devnest import __version__
from devnest.api.http.bodies import (
    AccountChange,
    AccountDeletion,
    EmailConfirmation,
    ForgottenPassword,
    Login,
    NewComment,
    NewPost,
    PasswordChange,
    PasswordReset,
    PostChange,
    RefreshToken,
    Registration,
)
from devnest.api.http.idempotency import IDEMPOTENCY_KEY
from devnest.api.http.problems import PROBLEM_JSON, Problem
from devnest.api.openapi.examples import add_examples, add_links

__all__ = ["BEARER", "answers", "openapi_config"]

BEARER: list[dict[str, list[str]]] = [{"bearer": []}]
MEANINGS = {
    400: "The body is not JSON, or is nested deeper than 32 levels, or a parameter is not valid",
    401: "No valid access token, or wrong credentials",
    403: "Not yours to do",
    404: "There is nothing at this path",
    408: "The body took longer than 10 s to come",
    409: "Taken",
    412: "There is another version than `If-Match` or `If-None-Match` allows",
    413: "The body is too large",
    415: "The body is not application/json, or has a `Content-Encoding`",
    422: "The body is JSON, but a field is wrong; `errors` names each",
    429: "Too many failed attempts from this client, or changes of a name; `Retry-After` says when to try again",
    503: "Not now; `Retry-After` says when",
}
BODIES = (
    Registration,
    Login,
    RefreshToken,
    PasswordChange,
    AccountChange,
    AccountDeletion,
    ForgottenPassword,
    PasswordReset,
    EmailConfirmation,
    NewPost,
    PostChange,
    NewComment,
)
# Read by hand in the routes that know it, since a declared header costs every request of theirs a little.
ONCE = ("/api/v1/auth/register", "/api/v1/posts", "/api/v1/posts/{post_id}/comments")
IDEMPOTENCY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same key with the same body gets the same answer for a day, and the work is done once",
    "schema": {"type": "string", "pattern": IDEMPOTENCY_KEY},
    "example": "7d2a8f6e-0c1b-4f0e-9a53-2b7c1de0a4f8",
}
# Read by hand too: of a declared header Litestar takes one line, and these fields may have several.
CONDITIONAL = {"/api/v1/posts/{post_id}": ("get", "patch", "delete")}
CONDITIONS = [
    {
        "name": name,
        "in": "header",
        "description": description,
        "schema": {"type": "string", "maxLength": 4096},
        "example": example,
    }
    for name, description, example in (
        ("If-Match", "Do it only to one of these versions: their `ETag`s, or `*`", "*"),
        (
            "If-None-Match",
            "Do it only if the version is none of these: their `ETag`s, or `*`",
            '"64a2f1b3c4d5e-0a1b2c3d"',
        ),
    )
]
SWAGGER = find_spec(
    "swagger_ui"
)  # Swagger UI's own files, from the package swagger-ui-py; its code is not loaded
assert SWAGGER is not None
assert SWAGGER.origin is not None
STATIC = Path(SWAGGER.origin).with_name("static")
SCRIPT = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#docs", deepLinking: true})'
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>DevNest API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><link rel="stylesheet" href="/docs/swagger-ui.css"></head>
<body><div id="docs"></div><script src="/docs/swagger-ui-bundle.js"></script>
<script>@</script></body></html>
""".replace("@", SCRIPT)
# Swagger UI sets styles from its script; it may run itself and the one line above, and ask this server.
PAGE_POLICY = (
    f"default-src 'none'; script-src 'self' 'sha256-{b64encode(sha256(SCRIPT.encode()).digest()).decode()}'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'"
)


def answers(*statuses: int) -> dict[int, ResponseSpec]:
    """The problems a route can answer with."""
    return {
        status: ResponseSpec(
            Problem, generate_examples=False, description=MEANINGS[status], media_type=PROBLEM_JSON
        )
        for status in statuses
    }


class Documentation(Controller):
    """`/openapi.json`, and `/docs` to read and try it in a browser."""

    include_in_schema = False

    @get("/openapi.json", media_type="application/json")
    async def document(self, request: Request[Any, Any, Any]) -> bytes:
        """The OpenAPI 3.1 document."""
        return _document(request.app)

    @get(
        "/docs",
        media_type=MediaType.HTML,
        response_headers={"content-security-policy": PAGE_POLICY},
    )
    async def page(self) -> str:
        """Swagger UI."""
        return PAGE

    @get("/docs/swagger-ui.css", media_type="text/css")
    async def style(self) -> bytes:
        """Its style sheet."""
        return _static("swagger-ui.css")

    @get("/docs/swagger-ui-bundle.js", media_type="text/javascript")
    async def script(self) -> bytes:
        """Its program."""
        return _static("swagger-ui-bundle.js")


@cache
def _static(name: str) -> bytes:
    """A file that everybody who asks is sent from one place in memory: the script alone has 1.4 MiB."""
    return (STATIC / name).read_bytes()


@lru_cache(maxsize=1)
def _document(app: Litestar) -> bytes:
    """The document with the bodies as msgspec itself reads them; Litestar leaves inner constraints out.

    No type says that a login names the account in one of two ways, or which field needs which, so that is added here.
    Made once: it takes 25 ms.
    """
    schema = app.openapi_schema.to_schema()
    _, components = msgspec.json.schema_components(
        BODIES, ref_template="#/components/schemas/{name}"
    )
    components["Login"]["oneOf"] = [{"required": [name]} for name in ("email", "username")]
    components["AccountChange"]["dependentRequired"] = {
        name: ["password"] for name in ("email", "username")
    }
    schema["components"]["schemas"].update(components)
    for operations in schema["paths"].values():
        for operation in operations.values():
            if "application/json" in operation["responses"].get("400", {}).get("content", {}):
                del operation["responses"][
                    "400"
                ]  # Litestar's own, where a path has a parameter; here it is a 404
    for path in ONCE:
        schema["paths"][path]["post"].setdefault("parameters", []).append(IDEMPOTENCY_PARAMETER)
    for path, methods in CONDITIONAL.items():
        for method in methods:
            schema["paths"][path][method].setdefault("parameters", []).extend(CONDITIONS)
    add_examples(schema)
    add_links(schema)
    return msgspec.json.encode(schema)


def openapi_config() -> OpenAPIConfig:
    """The document's frame."""
    return OpenAPIConfig(
        title="DevNest",
        version=__version__,
        description="Accounts and posts of a developers' community. Errors are `application/problem+json` (RFC 9457).",
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT")
            }
        ),
        use_handler_docstrings=True,
        # In place of Litestar's pages, which load their scripts from other hosts.
        openapi_controller=Documentation,  # type: ignore[arg-type]
    )
