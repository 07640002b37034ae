"""`RequestMiddleware`: request ids, log lines, metrics, and a response for unexpected errors."""

import asyncio
import random
import re
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from devnest.api.http.cors import CORS_HEADERS
from devnest.api.http.problems import PROBLEM_JSON, ProblemError, encode_problem
from devnest.api.http.traceparent import Parent, parse_traceparent
from devnest.logs import request_log
from devnest.metrics import NO_ROUTE, Metrics

if TYPE_CHECKING:
    from devnest.api.tracing import Trace, Tracer

__all__ = ["RequestMiddleware", "invalid_http_response"]

SLASHES = re.compile("/{2,}")
# The request ids that are accepted from a proxy. Other characters could forge lines of the log.
VALID_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")
# From OWASP's REST Security Cheat Sheet. Strict-Transport-Security is left to the proxy that
# terminates TLS.
SAFE_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
CONTENT_SECURITY_POLICY = b"content-security-policy"
STRICT_POLICY = (CONTENT_SECURITY_POLICY, b"default-src 'none'; frame-ancestors 'none'")
# No cache may keep a response under these paths.
NO_STORE_PREFIXES = ("/api/v1/auth/", "/api/v1/users/me")
API_PREFIX = "/api/"
# The path and the query together. RFC 9112, section 3, recommends to support at least 8,000 bytes.
# Litestar caches the last 1,024 paths and queries, raw and parsed, so they need a bound.
MAX_TARGET_BYTES = 16 * 1024
MAX_PARAMETERS = 32  # the parameters of a query; no route has more than five
TARGET_TOO_LONG = ProblemError(
    414, f"the request's target has more than {MAX_TARGET_BYTES:,} bytes"
)
TOO_MANY_PARAMETERS = ProblemError(
    400, f"the query has more than {MAX_PARAMETERS} parameters", kind="urn:devnest:parameter"
)
NOT_FOUND = ProblemError(404, "there is nothing at this path")
FAILED = ProblemError(500, "the server failed; the log has the reason under this request id")
STOPPING = ProblemError(
    503, "the server is stopping", kind="urn:devnest:ending", headers={"Retry-After": "1"}
)
log = structlog.get_logger("devnest.api")


class RequestMiddleware:
    """The outermost ASGI middleware, which sees every request and every error inside it.

    Args:
        app: The application behind it.
        metrics: Where requests are counted.
        tracer: Records sampled requests.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, tracer: "Tracer | None" = None) -> None:
        self._app = app
        self._metrics = metrics
        self._tracer = tracer
        self._request_log = request_log()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, add the common headers to its response, then log and count it."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id, trace = self._begin(scope)
        method, status = scope["method"], 0
        refusal = _refusal(scope)
        if method == "HEAD":  # the same as GET, and uvicorn leaves out the body (RFC 9110, 9.3.2)
            scope = {**scope, "method": "GET"}
        headers = _headers(scope["path"], request_id)
        error_type = None
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
        except asyncio.CancelledError:  # the server is stopping, and its grace period is over
            if status != 0:
                raise
            await _send_problem(send_with_id, STOPPING, scope)
        except Exception as error:  # `handle_exception` answers all others
            log.exception("unexpected error", exc_info=error)
            error_type = type(error).__name__
            if status == 0:
                await _send_problem(send_with_id, FAILED, scope)
        finally:
            self._count(scope, method, status, time.perf_counter() - started)
            structlog.contextvars.unbind_contextvars("request_id", "trace_id")
            _end(trace, scope, method, status, error_type)

    def _begin(self, scope: Scope) -> tuple[str, "Trace | None"]:
        """Return the request's id, and its trace if it is sampled; the log's lines get both ids."""
        request_id, parent = _read_ids(scope["headers"])
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)
        trace = self._tracer.begin(parent) if self._tracer is not None else None
        if followed := parent or trace:
            structlog.contextvars.bind_contextvars(trace_id=followed.trace_id)
        return request_id, trace

    def _count(self, scope: Scope, method: str, status: int, elapsed_s: float) -> None:
        """Count and log a request that has ended."""
        self._metrics.active_requests -= 1
        # The template, such as "/posts/{post_id}", so that ids do not become labels.
        self._metrics.request(method, scope.get("path_template", NO_ROUTE), status, elapsed_s)
        self._request_log.info(
            "request",
            method=method,
            path=scope["path"],
            status=status,
            elapsed_ms=round(elapsed_s * 1000, 1),
        )


def _refusal(scope: Scope) -> ProblemError | None:
    """Normalize the path in the scope, and return the problem with the request's target, if any.

    Outside `/api/` a route has exactly one spelling. Otherwise a proxy that denies `/metrics`
    might let `//metrics` or `/%6detrics` through.
    """
    query = scope.get("query_string", b"")
    if len(scope.get("raw_path") or b"") + len(query) > MAX_TARGET_BYTES:
        return TARGET_TOO_LONG
    if query.count(b"&") >= MAX_PARAMETERS:
        return TOO_MANY_PARAMETERS
    if "//" in scope["path"]:
        scope["path"] = SLASHES.sub("/", scope["path"])
    path = scope["path"]
    if path.startswith(API_PREFIX):
        return None
    if (path == "/" or path[-1:] != "/") and scope["raw_path"] == path.encode():
        return None
    return NOT_FOUND


def _end(
    trace: "Trace | None", scope: Scope, method: str, status: int, error_type: str | None
) -> None:
    if trace is not None:
        trace.end_request(scope, method, status, error_type)


def _read_ids(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, Parent | None]:
    """Return the request's id, a new one if a proxy gave none, and its caller's trace, if any."""
    request_id, traceparent = "", None
    for name, value in headers:
        if name == b"x-request-id":
            if not request_id and VALID_REQUEST_ID.fullmatch(value):
                request_id = value.decode()
        elif name == b"traceparent":  # a second one makes both invalid
            traceparent = value if traceparent is None else b""
    return request_id or _new_id(), parse_traceparent(traceparent) if traceparent else None


def _new_id() -> str:
    """Make a random id. It need not be hard to guess, so it does not cost a call to the kernel."""
    return f"{random.getrandbits(128):032x}"


def _headers(path: str, request_id: str) -> list[tuple[bytes, bytes]]:
    """The headers that are added to every response."""
    headers = [(b"x-request-id", request_id.encode()), *SAFE_HEADERS]
    if path.startswith(NO_STORE_PREFIXES):
        headers.append((b"cache-control", b"no-store"))
    return headers


def _complete(
    given: Iterable[tuple[bytes, bytes]], headers: list[tuple[bytes, bytes]]
) -> list[tuple[bytes, bytes]]:
    """Add the common headers, and the strict policy unless the route has set its own."""
    complete = [*given, *headers]
    if all(name != CONTENT_SECURITY_POLICY for name, _ in given):
        complete.append(STRICT_POLICY)
    return complete


def invalid_http_response(
    status: int, detail: str, default_headers: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """Make the response to bytes that are not a valid HTTP request, and log them with its id.

    Args:
        status: The HTTP status.
        detail: What is wrong.
        default_headers: The headers that the server adds to every response.

    Returns:
        The response as it goes over the connection, which has to be closed after it.
    """
    request_id = _new_id()
    log.info("not HTTP", reason=detail, request_id=request_id)
    body, _ = encode_problem(ProblemError(status, detail, kind="urn:devnest:http"), request_id)
    headers = [
        *default_headers,
        *_headers("", request_id),
        STRICT_POLICY,
        (b"content-type", PROBLEM_JSON.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()
    return b"".join((line, *(b"%s: %s\r\n" % pair for pair in headers), b"\r\n", body))


async def _send_problem(send: Send, problem: ProblemError, scope: Scope) -> None:
    state: dict[str, Any] = scope["state"]
    body, extra = encode_problem(problem, state["request_id"])
    headers = [
        (b"content-type", PROBLEM_JSON.encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    # Without them, the browser would hide the problem from a page of another site.
    headers += state.get(CORS_HEADERS, [])
    headers += [(name.encode(), value.encode()) for name, value in extra.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
