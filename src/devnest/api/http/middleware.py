"""Around every request: its id, its log line, its place in the metrics, and an answer of last resort."""

import asyncio
import random
import re
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from devnest.api.http.cors import ALLOWED
from devnest.api.http.problems import PROBLEM_JSON, ProblemError, problem_response
from devnest.logs import request_log
from devnest.metrics import NO_ROUTE, Metrics

__all__ = ["RequestMiddleware", "not_http"]

SLASHES = re.compile("/{2,}")
GIVEN_ID = re.compile(
    rb"[A-Za-z0-9._-]{8,64}"
)  # what a proxy may send; anything else could forge log lines
# OWASP REST Security Cheat Sheet. Strict-Transport-Security is for what terminates TLS.
SAFE = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
CONTENT_SECURITY_POLICY = b"content-security-policy"
STRICT_POLICY = (CONTENT_SECURITY_POLICY, b"default-src 'none'; frame-ancestors 'none'")
SECRET = ("/api/v1/auth/", "/api/v1/users/me")  # no cache may keep an answer of these
API = "/api/"
# Litestar remembers the last 1,024 queries and paths, read and unread. RFC 9112, 3, wants 8,000 bytes to be enough.
MAX_TARGET_BYTES = 16 * 1024
MAX_PARAMETERS = 32  # of a query; the route with most knows five
TOO_LONG = ProblemError(414, f"the request's target has more than {MAX_TARGET_BYTES:,} bytes")
TOO_MANY = ProblemError(
    400, f"the query has more than {MAX_PARAMETERS} parameters", kind="urn:devnest:parameter"
)
NOTHING_THERE = ProblemError(404, "there is nothing at this path")
FAILED = ProblemError(500, "the server failed; the log has the reason under this request id")
ENDING = ProblemError(
    503, "the server ends", kind="urn:devnest:ending", headers={"Retry-After": "1"}
)
log = structlog.get_logger("devnest.api")


class RequestMiddleware:
    """ASGI middleware, outermost, so that it sees the errors of everything inside."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._request_log = request_log()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = next(
            (
                v.decode()
                for k, v in scope["headers"]
                if k == b"x-request-id" and GIVEN_ID.fullmatch(v)
            ),
            "",
        )
        request_id = request_id or _new_id()
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)
        method, status = scope["method"], 0
        refusal = _refusal(scope)
        if method == "HEAD":  # a GET whose body uvicorn does not send (RFC 9110, 9.3.2)
            scope = {**scope, "method": "GET"}
        headers = _headers(scope["path"], request_id)
        self._metrics.active_requests += 1

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _complete(message["headers"], headers)
            await send(message)

        try:
            if refusal is None:
                await self._app(scope, receive, send_with_id)
            else:
                await _send_problem(send_with_id, refusal, scope)
        except asyncio.CancelledError:  # the server ends, and has waited for this long enough
            if status != 0:
                raise
            await _send_problem(send_with_id, ENDING, scope)
        except Exception as error:  # what the API's own handler could not answer
            log.exception("unexpected error", exc_info=error)
            if status == 0:
                await _send_problem(send_with_id, FAILED, scope)
        finally:
            elapsed_s = time.perf_counter() - started
            self._metrics.active_requests -= 1
            # The router leaves the template, never the path: "/posts/{post_id}" is one label, whatever the id.
            self._metrics.request(method, scope.get("path_template", NO_ROUTE), status, elapsed_s)
            self._request_log.info(
                "request",
                method=method,
                path=scope["path"],
                status=status,
                elapsed_ms=round(elapsed_s * 1000, 1),
            )
            structlog.contextvars.unbind_contextvars("request_id")


def _refusal(scope: Scope) -> ProblemError | None:
    """Make the path one in the eyes of everything that looks at it, and tell what is wrong with the target, if any.

    Outside the API a route has one spelling: a proxy that denies `/metrics` may not know `//metrics` or `/%6detrics`.
    """
    query = scope.get("query_string", b"")
    if len(scope.get("raw_path") or b"") + len(query) > MAX_TARGET_BYTES:
        return TOO_LONG
    if query.count(b"&") >= MAX_PARAMETERS:
        return TOO_MANY
    if "//" in scope["path"]:
        scope["path"] = SLASHES.sub("/", scope["path"])
    path = scope["path"]
    if path.startswith(API) or (path[-1:] != "/" and scope["raw_path"] == path.encode()):
        return None
    return NOTHING_THERE


def _new_id() -> str:
    """Nothing depends on its being hard to guess, and asking the kernel for randomness is a tenth of a refusal."""
    return f"{random.getrandbits(128):032x}"


def _headers(path: str, request_id: str) -> list[tuple[bytes, bytes]]:
    """What every answer carries, besides its own."""
    headers = [(b"x-request-id", request_id.encode()), *SAFE]
    if path.startswith(SECRET):
        headers.append((b"cache-control", b"no-store"))
    return headers


def _complete(
    given: Iterable[tuple[bytes, bytes]], headers: list[tuple[bytes, bytes]]
) -> list[tuple[bytes, bytes]]:
    """Add what every answer carries, and the strict policy unless the route has given its own."""
    complete = [*given, *headers]
    if all(name != CONTENT_SECURITY_POLICY for name, _ in given):
        complete.append(STRICT_POLICY)
    return complete


def not_http(status: int, detail: str, default_headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The answer to what is no HTTP request, as it goes over the wire, with an id that is in the log too."""
    request_id = _new_id()
    log.info("not HTTP", reason=detail, request_id=request_id)
    body, _ = problem_response(ProblemError(status, detail, kind="urn:devnest:http"), request_id)
    headers = [
        *default_headers, *_headers("", request_id), STRICT_POLICY, (b"content-type", PROBLEM_JSON.encode()),
        (b"content-length", str(len(body)).encode()), (b"connection", b"close"),
    ]  # fmt: skip
    line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()
    return b"".join((line, *(b"%s: %s\r\n" % pair for pair in headers), b"\r\n", body))


async def _send_problem(send: Send, problem: ProblemError, scope: Scope) -> None:
    state: dict[str, Any] = scope["state"]
    body, extra = problem_response(problem, state["request_id"])
    headers = [
        (b"content-type", PROBLEM_JSON.encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    headers += state.get(ALLOWED, [])  # a page of another site would see no answer at all
    headers += [(name.encode(), value.encode()) for name, value in extra.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
