"""`/openapi.json`, and `/docs`, which shows it without loading anything from other hosts."""

from base64 import b64encode
from functools import cache, lru_cache
from hashlib import sha256
from importlib.util import find_spec
from inspect import cleandoc
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
from litestar import Controller, Litestar, MediaType, Request, get
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.spec import Components, SecurityScheme
from litestar.response import Redirect
from litestar.routes import HTTPRoute

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
from devnest.api.http.response import Reply
from devnest.api.openapi.examples import add_examples, add_links

__all__ = ["BEARER", "openapi_config", "problems"]

BEARER: list[dict[str, list[str]]] = [{"bearer": []}]
DESCRIPTIONS = {
    400: "The body is not JSON or is nested more than 32 levels deep, a token in it is not valid, "
    "or a parameter is not valid.",
    401: "The access token is missing or not valid, or the credentials are wrong.",
    403: "The account may not do this, or its current password is wrong.",
    404: "There is nothing at this path.",
    408: "The body took longer than 10 s to arrive.",
    409: "The username or the e-mail address is taken.",
    412: "`If-Match` or `If-None-Match` does not allow the current version.",
    413: "The body is larger than 1 MiB.",
    415: "The body is not `application/json`, or it has a `Content-Encoding`.",
    422: "The body is JSON, but it is not valid. `errors` lists the fields that are wrong.",
    429: "Too many failed attempts, or too many changes of the username. `Retry-After` says when "
    "to try again.",
    503: "The service cannot do this now. `Retry-After` says when to try again.",
}
PATH_PARAMETERS = {
    "post_id": "The id of the post.",
    "comment_id": "The id of the comment.",
    "session_id": "The id of the session, as in the list of your sessions.",
    "username": "The username, in any case.",
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
# The routes that read `Idempotency-Key`. They do not declare it to Litestar, because a declared
# header costs time in each request.
IDEMPOTENT_PATHS = ("/api/v1/auth/register", "/api/v1/posts", "/api/v1/posts/{post_id}/comments")
IDEMPOTENCY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Makes it safe to repeat this request. For one day, a request with the same "
    "key and the same body gets the same response, and the work is done only once.",
    "schema": {"type": "string", "pattern": IDEMPOTENCY_KEY},
    "example": "7d2a8f6e-0c1b-4f0e-9a53-2b7c1de0a4f8",
}
# The routes that read `If-Match` and `If-None-Match`. These fields may have several lines, and of a
# declared header Litestar reads only one.
CONDITIONAL_METHODS = {"/api/v1/posts/{post_id}": ("get", "patch", "delete")}
CONDITION_PARAMETERS = [
    {
        "name": name,
        "in": "header",
        "description": description,
        "schema": {"type": "string", "maxLength": 4096},
        "example": example,
    }
    for name, description, example in (
        (
            "If-Match",
            "Do this only if the current version is one of these `ETag`s. `*` stands for any.",
            "*",
        ),
        (
            "If-None-Match",
            "Do this only if the current version is none of these `ETag`s. `*` stands for all.",
            '"64a2f1b3c4d5e-0a1b2c3d"',
        ),
    )
]
# The package swagger-ui-py contains Swagger UI's own files. Its Python code is not loaded.
SWAGGER = find_spec("swagger_ui")
assert SWAGGER is not None
assert SWAGGER.origin is not None
STATIC = Path(SWAGGER.origin).with_name("static")
SCRIPT = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#docs", deepLinking: true})'
# Swagger UI of this version has no dark colours of its own; its examples are dark already.
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>DevNest API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,"><link rel="stylesheet" href="/docs/swagger-ui.css">
<style>
body { margin: 0; }
@media (prefers-color-scheme: dark) {
  html { background: #14171a; }
  .swagger-ui { filter: invert(0.9) hue-rotate(180deg); }
  .swagger-ui .highlight-code { filter: invert(1) hue-rotate(180deg); }
}
</style></head>
<body><div id="docs"></div><script src="/docs/swagger-ui-bundle.js"></script>
<script>SCRIPT</script></body></html>
""".replace("SCRIPT", SCRIPT)
SCRIPT_HASH = b64encode(sha256(SCRIPT.encode()).digest()).decode()
# The page may run its own scripts and `SCRIPT`, and send requests to this server. Swagger UI sets
# styles from its script.
PAGE_POLICY = (
    f"default-src 'none'; script-src 'self' 'sha256-{SCRIPT_HASH}'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'"
)


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """Describe the problems that a route can respond with, for its `responses`.

    Args:
        statuses: Their HTTP statuses.
    """
    return {
        status: ResponseSpec(
            Problem,
            generate_examples=False,
            description=DESCRIPTIONS[status],
            media_type=PROBLEM_JSON,
        )
        for status in statuses
    }


class Documentation(Controller):
    """The routes of the document, and of the page on which it can be read and tried."""

    include_in_schema = False

    @get("/openapi.json", media_type="application/json")
    async def document(self, request: Request[Any, Any, Any]) -> bytes:
        """Send the OpenAPI 3.1 document."""
        return _document(request.app)

    @get("/", status_code=307)
    async def root(self) -> Redirect:
        """Lead to the page."""
        return Redirect("/docs", status_code=307)

    @get(
        "/docs",
        media_type=MediaType.HTML,
        response_headers={"content-security-policy": PAGE_POLICY},
    )
    async def page(self) -> str:
        """Send the page with Swagger UI."""
        return PAGE

    @get("/docs/swagger-ui.css", media_type="text/css")
    async def style(self) -> bytes:
        """Send the page's style sheet."""
        return _static("swagger-ui.css")

    @get("/docs/swagger-ui-bundle.js", media_type="text/javascript")
    async def script(self) -> bytes:
        """Send the page's script."""
        return _static("swagger-ui-bundle.js")


@cache
def _static(name: str) -> bytes:
    """Read a file once; all responses share the bytes, since the script alone has 1.4 MiB."""
    return (STATIC / name).read_bytes()


@lru_cache(maxsize=1)
def _document(app: Litestar) -> bytes:
    """Make the document, once, because it takes 25 ms.

    Litestar omits the constraints inside a body's fields, so msgspec's own schemas replace its
    schemas of the bodies. Two rules that no type expresses are added: a login has either an e-mail
    address or a username, and a change of either needs the password.
    """
    schema = app.openapi_schema.to_schema()
    _, components = msgspec.json.schema_components(
        BODIES, ref_template="#/components/schemas/{name}"
    )
    components["Login"]["oneOf"] = [{"required": [name]} for name in ("email", "username")]
    components["AccountChange"]["dependentRequired"] = {
        name: ["password"] for name in ("email", "username")
    }
    schemas = schema["components"]["schemas"]
    schemas.update(components)
    _describe_schemas(app, schemas)
    for operations in schema["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path":
                    parameter["description"] = PATH_PARAMETERS[parameter["name"]]
            if "application/json" in operation["responses"].get("400", {}).get("content", {}):
                # Litestar adds it where a path has a parameter. Here a wrong parameter is a 404.
                del operation["responses"]["400"]
    for path in IDEMPOTENT_PATHS:
        schema["paths"][path]["post"].setdefault("parameters", []).append(IDEMPOTENCY_PARAMETER)
    for path, methods in CONDITIONAL_METHODS.items():
        for method in methods:
            schema["paths"][path][method].setdefault("parameters", []).extend(CONDITION_PARAMETERS)
    add_examples(schema)
    add_links(schema)
    return msgspec.json.encode(schema)


def _describe_schemas(app: Litestar, schemas: dict[str, Any]) -> None:
    """Describe each schema by the first paragraph of its type's docstring."""
    returned = [
        handler.parsed_fn_signature.return_type.annotation
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
    ]
    sent = [get_args(each)[0] for each in returned if get_origin(each) is Reply]
    for types in (BODIES, (Problem, *sent)):
        for name, component in msgspec.json.schema_components(types)[1].items():
            description = cleandoc(component.get("description", ""))
            schemas[name]["description"] = description.partition("\n\n")[0]


def openapi_config() -> OpenAPIConfig:
    """Configure the parts of the document that do not come from the routes."""
    return OpenAPIConfig(
        title="DevNest",
        version=__version__,
        description="Accounts and posts of a developers' community. "
        "Errors are `application/problem+json` (RFC 9457).",
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT")
            }
        ),
        use_handler_docstrings=True,
        # Litestar's own pages load their scripts from other hosts.
        openapi_controller=Documentation,  # type: ignore[arg-type]
    )
