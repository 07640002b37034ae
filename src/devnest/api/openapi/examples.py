"""Examples of every response in the OpenAPI document, and links from responses to other routes."""

from http import HTTPStatus
from typing import Any

from devnest.api.http.problems import PROBLEM_JSON

__all__ = ["RESPONSES", "add_examples", "add_links"]

Problems = dict[str, tuple[str, str, dict[str, str]]]
ID = "019c2f4e-7a60-7d31-9c5b-3f1f0a9b7e21"
OTHER_ID = "019c2f51-08b2-7c44-8a1e-64d2b7c0f9a3"
REQUEST_ID = "5f0c6d1e9b7a4c3d8e2f1a0b9c8d7e6f"
AT = "2026-02-05T12:30:00.123456Z"
PUBLIC = {"id": ID, "username": "ada", "created_at": AT}
AUTHOR = {"id": ID, "username": "ada"}
POST = {
    "id": OTHER_ID,
    "author": AUTHOR,
    "title": "Hello",
    "body": "A first post.",
    "tags": ["python"],
    "created_at": AT,
    "updated_at": AT,
}
COMMENT = {"id": OTHER_ID, "author": AUTHOR, "body": "Well said.", "created_at": AT}
TOKENS = {
    "access_token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.c2lnbmF0dXJl",
    "token_type": "Bearer",
    "expires_in": 900,
    "refresh_token": "8h2kCq3n0aYb7cF1mZrT5wXvL9sJ4dGpQeUoIyHtNkE",
}
# By the name of the response's type.
RESPONSES: dict[str, Any] = {
    "Account": {**PUBLIC, "email": "ada@example.org"},
    "Profile": PUBLIC,
    "Tokens": TOKENS,
    "SignedIn": {
        **TOKENS,
        "device_token": "AQcAAAAAaZxmAFVn0bH7v3k9m1c6T8rX2yJ4sQwEzL5pNhKdGfUoIaRt",
    },
    "Session": {
        "id": OTHER_ID,
        "created_at": AT,
        "last_used_at": "2026-02-05T00:00:00Z",
        "expires_at": "2026-03-07T12:30:00.123456Z",
        "address": "203.0.113.9",
        "user_agent": "Mozilla/5.0",
        "current": True,
    },
    "Post": POST,
    "Page": {"items": [POST], "next_cursor": "AZwvUQiyfESKHmTSt8D5ow"},
    "Comment": COMMENT,
    "CommentPage": {"items": [COMMENT], "next_cursor": None},
    "TagCount": {"tag": "python", "count": 42},
    "PublicKeys": {
        "keys": [
            {
                "kty": "OKP",
                "crv": "Ed25519",
                "use": "sig",
                "alg": "EdDSA",
                "kid": "k1",
                "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            }
        ]
    },
    "Readiness": {"status": "ok", "database": "ok", "pool": "ok"},
}
UNREADY = {
    "status": "unavailable",
    "database": "the database does not answer: connection refused",
    "pool": "ok",
}
TEXTS = {"/healthz": "ok\n", "/metrics": "# TYPE pool_up gauge\npool_up 1\n"}
# By status: the type, the detail, and the fields that are wrong.
PROBLEMS: Problems = {
    "400": ("urn:devnest:malformed", "the body is not JSON: Input data was truncated", {}),
    "401": ("about:blank", "this route needs a bearer token", {}),
    "403": ("about:blank", "the post belongs to another account", {}),
    "404": ("about:blank", "there is no such post", {}),
    "408": ("urn:devnest:slow", "the body took too long to arrive", {}),
    "409": ("urn:devnest:taken", "this username is taken", {"username": "this username is taken"}),
    "412": ("urn:devnest:changed", "the condition does not allow the current version", {}),
    "413": ("about:blank", "the request body is too large", {}),
    "415": ("urn:devnest:media-type", "the body has to be application/json", {}),
    "422": ("urn:devnest:invalid", "the body is not valid", {"color": "unknown field"}),
    "429": ("urn:devnest:throttled", "too many failed attempts; try again in 4 s", {}),
    "503": ("urn:devnest:database", "the service cannot reach its database", {}),
}
WRONG_PASSWORD: Problems = {"403": ("urn:devnest:credentials", "the current password is wrong", {})}
MISSING_PASSWORD: Problems = {
    "422": ("urn:devnest:invalid", "a change needs the password", {"password": "missing"})
}
INVALID_TOKEN: Problems = {
    "400": ("urn:devnest:token", "the token is not valid; ask for a new one", {})
}
FIRST_CONFIRMATION = (
    "without an access token of the account, the first confirmation of its address "
    "needs a new password"
)
WRONG_CREDENTIALS: Problems = {
    "401": ("urn:devnest:credentials", "the account or the password is wrong", {})
}
OWN_PROBLEMS: dict[str, Problems] = {
    "/api/v1/auth/email/verify": {
        **INVALID_TOKEN,
        "422": ("urn:devnest:invalid", FIRST_CONFIRMATION, {"password": "missing"}),
    },
    "/api/v1/auth/login": WRONG_CREDENTIALS,
    "/api/v1/auth/password/change": WRONG_PASSWORD,
    "/api/v1/auth/password/reset": INVALID_TOKEN,
    "/api/v1/users/me": {**WRONG_PASSWORD, **MISSING_PASSWORD},
    "/api/v1/users/{username}": {"404": ("about:blank", "there is no such account", {})},
}
RETRY = {
    "Retry-After": {
        "description": "The number of seconds after which to try again.",
        "schema": {"type": "integer"},
    }
}
BODY_ID = "$response.body#/id"
# By method, path and status of a response: the links by name. Each has the method and the path of
# its target, and says which values of the response go where in the request.
LINKS: dict[tuple[str, str], dict[str, tuple[str, dict[str, Any]]]] = {
    ("post /api/v1/auth/register", "201"): {
        "SignIn": (
            "post /api/v1/auth/login",
            {
                "requestBody": {
                    "email": "$response.body#/email",
                    "password": "$request.body#/password",
                }
            },
        ),
        "PublicPage": (
            "get /api/v1/users/{username}",
            {"parameters": {"username": "$response.body#/username"}},
        ),
    },
    ("post /api/v1/auth/login", "200"): {
        "Refresh": (
            "post /api/v1/auth/refresh",
            {"requestBody": {"refresh_token": "$response.body#/refresh_token"}},
        ),
    },
    ("post /api/v1/auth/refresh", "200"): {
        "Refresh": (
            "post /api/v1/auth/refresh",
            {"requestBody": {"refresh_token": "$response.body#/refresh_token"}},
        ),
    },
    ("post /api/v1/auth/password/change", "200"): {
        "Refresh": (
            "post /api/v1/auth/refresh",
            {"requestBody": {"refresh_token": "$response.body#/refresh_token"}},
        ),
    },
    ("post /api/v1/posts", "201"): {
        "Read": ("get /api/v1/posts/{post_id}", {"parameters": {"post_id": BODY_ID}}),
        "Change": ("patch /api/v1/posts/{post_id}", {"parameters": {"post_id": BODY_ID}}),
        "Delete": ("delete /api/v1/posts/{post_id}", {"parameters": {"post_id": BODY_ID}}),
        "Comment": ("post /api/v1/posts/{post_id}/comments", {"parameters": {"post_id": BODY_ID}}),
        "ReadComments": (
            "get /api/v1/posts/{post_id}/comments",
            {"parameters": {"post_id": BODY_ID}},
        ),
    },
    ("post /api/v1/posts/{post_id}/comments", "201"): {
        "Delete": (
            "delete /api/v1/posts/{post_id}/comments/{comment_id}",
            {"parameters": {"post_id": "$request.path.post_id", "comment_id": BODY_ID}},
        ),
    },
}


def add_examples(document: dict[str, Any]) -> None:
    """Add an example to every response that has a body.

    Args:
        document: The OpenAPI document, which is changed in place.
    """
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                for media_type, content in response.get("content", {}).items():
                    content["example"] = _example(path, status, media_type, content["schema"])
                if status in ("429", "503"):
                    response["headers"] = {**response.get("headers", {}), **RETRY}


def _example(path: str, status: str, media_type: str, schema: dict[str, Any]) -> Any:
    if media_type == PROBLEM_JSON:
        kind, detail, errors = OWN_PROBLEMS.get(path, {}).get(status) or PROBLEMS[status]
        title = HTTPStatus(int(status)).phrase  # Python 3.13 changed some to the names of RFC 9110
        problem = {
            "type": kind,
            "title": title,
            "status": int(status),
            "detail": detail,
            "request_id": REQUEST_ID,
        }
        return (
            {**problem, "errors": [{"field": f, "detail": d} for f, d in errors.items()]}
            if errors
            else problem
        )
    if path in TEXTS:
        return TEXTS[path]
    if status == "503":
        return UNREADY
    if schema.get("type") == "array":
        return [RESPONSES[_name(schema["items"])]]
    return RESPONSES[_name(schema)]


def _name(schema: dict[str, Any]) -> str:
    """The name of the type that a schema refers to."""
    return str(schema["$ref"]).rpartition("/")[2]


def add_links(document: dict[str, Any]) -> None:
    """Add links from responses to the requests that need their values.

    Args:
        document: The OpenAPI document, which is changed in place.
    """

    def operation(which: str) -> dict[str, Any]:
        method, path = which.split()
        found: dict[str, Any] = document["paths"][path][method]
        return found

    for (source, status), links in LINKS.items():
        operation(source)["responses"][status]["links"] = {
            name: {"operationId": operation(target)["operationId"], **carried}
            for name, (target, carried) in links.items()
        }
