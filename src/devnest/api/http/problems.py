"""Errors as `application/problem+json` (RFC 9457), with the table from exceptions to statuses."""

import math
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import Request
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import Scope

from devnest.api.http.fair_queue import FairQueueFull
from devnest.api.http.patterns import describe_patterns
from devnest.api.http.response import Reply
from devnest.pool import PoolError, PoolFull
from devnest.store import (
    AlreadyTaken,
    AuthorGone,
    DatabaseUnavailable,
    KeyReused,
    RenamedTooOften,
    SearchRefused,
    SearchTooSlow,
    Throttled,
)

__all__ = [
    "PROBLEM_JSON",
    "ClientGone",
    "FieldError",
    "InvalidToken",
    "Problem",
    "ProblemError",
    "encode_problem",
    "error_reply",
    "handle_exception",
]

PROBLEM_JSON = "application/problem+json"
PROBLEM_TYPE = (b"content-type", PROBLEM_JSON.encode())
CLIENT_CLOSED_REQUEST = 499  # as in nginx; only the log and the metrics show it
log = structlog.get_logger("devnest.api")


class InvalidToken(Exception):
    """A bearer token is malformed, forged or expired, or its session has ended."""


class FieldError(msgspec.Struct, frozen=True):
    """A mistake in a field, parameter or header of the request. `field` is empty if the mistake
    concerns the whole body.
    """

    field: str
    detail: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of an error. `type` is a `urn:devnest:` name, or `about:blank` if the status says
    everything. `request_id` is also in the server's log. `errors` lists the fields that are wrong.
    """

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[FieldError] | msgspec.UnsetType = msgspec.UNSET


class ClientGone(Exception):
    """The client disconnected before the response was sent."""


class ProblemError(Exception):
    """An error whose response is known where it is raised.

    Args:
        status: The HTTP status.
        detail: What is wrong, for the person who reads the response.
        kind: The problem's `type`.
        errors: The fields that are wrong.
        headers: Further headers of the response.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: str = "about:blank",
        errors: list[FieldError] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind
        self.errors = errors
        self.headers = headers or {}


def handle_exception(request: Request[Any, Any, Any], error: Exception) -> Reply[Problem]:
    """Make the response to an exception, as a Litestar exception handler.

    Args:
        request: The request that the exception ended.
        error: The exception.
    """
    return error_reply(error, request.scope)


def error_reply(error: Exception, scope: Scope) -> Reply[Problem]:
    """Make the response to any exception that ends a request, and log it if it is the server's.

    Args:
        error: The exception.
        scope: The request's ASGI scope.
    """
    if isinstance(error, ClientGone):
        return Reply(b"", status=CLIENT_CLOSED_REQUEST, content_type=PROBLEM_TYPE)
    problem = _as_problem(error)
    if problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("unexpected error", path=scope["path"], exc_info=error)
    elif problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        log.info("refused", reason=str(error) or type(error).__name__)
    body, headers = encode_problem(problem, scope["state"].get("request_id", ""))
    return Reply(body, status=problem.status, content_type=PROBLEM_TYPE, headers=headers)


def encode_problem(problem: ProblemError, request_id: str) -> tuple[bytes, dict[str, str]]:
    """Encode a problem.

    Args:
        problem: The problem.
        request_id: The id of the request, which the body contains.

    Returns:
        The body and the further headers of the response.
    """
    body = Problem(
        problem.kind,
        HTTPStatus(problem.status).phrase,
        problem.status,
        problem.detail,
        request_id,
        problem.errors or msgspec.UNSET,
    )
    return msgspec.json.encode(body), problem.headers


def _as_problem(error: Exception) -> ProblemError:
    match error:
        case ProblemError():
            return error
        case InvalidToken() | AuthorGone():
            return ProblemError(
                401, str(error), headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}
            )
        case AlreadyTaken():
            taken = FieldError(error.field, str(error))
            return ProblemError(409, str(error), kind="urn:devnest:taken", errors=[taken])
        case KeyReused():
            return ProblemError(422, str(error), kind="urn:devnest:key-reused")
        case SearchRefused():
            return ProblemError(
                400,
                "a parameter is not valid",
                kind="urn:devnest:parameter",
                errors=[FieldError("q", str(error))],
            )
        case (
            Throttled()
            | RenamedTooOften()
            | DatabaseUnavailable()
            | SearchTooSlow()
            | FairQueueFull()
            | PoolError()
            | MemoryError()
        ):
            return _retry_later(error)
        case ValidationException():
            extra: list[dict[str, str]] = list(error.extra or [])  # type: ignore[arg-type]
            errors = [
                FieldError(e.get("key", ""), describe_patterns(e.get("message", ""))) for e in extra
            ]
            if [error.field for error in errors] == ["data"]:  # Litestar's name of the body
                return ProblemError(400, "the body is missing", kind="urn:devnest:malformed")
            return ProblemError(
                400, "a parameter is not valid", kind="urn:devnest:parameter", errors=errors
            )
        case HTTPException(status_code=status) if status < 500:
            return ProblemError(status, _detail(error), headers=dict(error.headers or {}))
        case _:
            return ProblemError(
                500, "the server failed; the log has the reason under this request id"
            )


def _retry_later(
    error: Throttled
    | RenamedTooOften
    | DatabaseUnavailable
    | SearchTooSlow
    | FairQueueFull
    | PoolError
    | MemoryError,
) -> ProblemError:
    """Make the problem of a request that may succeed later, with `Retry-After`."""
    status, retry_after = 503, 1.0
    match error:
        case Throttled():
            status, retry_after, detail, kind = 429, error.retry_after, str(error), "throttled"
        case RenamedTooOften():
            status, retry_after, detail, kind = 429, error.retry_after, str(error), "renames"
        case DatabaseUnavailable():
            retry_after, detail, kind = (
                error.retry_after,
                "the service cannot reach its database",
                "database",
            )
        case SearchTooSlow():
            retry_after, detail, kind = error.retry_after, str(error), "search-time"
        case FairQueueFull():
            retry_after, detail, kind = error.retry_after, str(error), "full"
        case PoolFull():
            retry_after, detail, kind = (
                error.retry_after,
                "too many passwords are waiting to be hashed",
                "full",
            )
        case MemoryError():  # nearly always raised by argon2id, which needs the most memory
            detail, kind = "the service is out of memory", "memory"
        case _:
            detail, kind = "the password could not be hashed; try again", "full"
    headers = {"Retry-After": str(math.ceil(retry_after))}
    return ProblemError(status, detail, kind=f"urn:devnest:{kind}", headers=headers)


def _detail(error: HTTPException) -> str:
    return {
        404: "there is nothing at this path",
        405: "this path does not support this method",
        413: "the request body is too large",
    }.get(error.status_code, error.detail)
