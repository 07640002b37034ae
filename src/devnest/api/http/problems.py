"""Errors as RFC 9457 `application/problem+json`; the table of HTTP statuses is here and nowhere else."""

import math
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import Request
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import Scope

from devnest.api.http.fair_queue import FairQueueFull
from devnest.api.http.patterns import in_words
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
    "answer_to",
    "problem_response",
    "respond_to",
]

PROBLEM_JSON = "application/problem+json"
PROBLEM_TYPE = (b"content-type", PROBLEM_JSON.encode())
CLIENT_CLOSED_REQUEST = 499  # nginx's, for the log and the metrics; there is nobody to send it to
log = structlog.get_logger("devnest.api")


class InvalidToken(Exception):
    """A bearer token is missing, broken, forged or expired."""


class FieldError(msgspec.Struct, frozen=True):
    """What is wrong with one field of a request."""

    field: str
    detail: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error's body. `type` is `about:blank` where the status says all, else a `urn:devnest:` name."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[FieldError] | msgspec.UnsetType = msgspec.UNSET


class ClientGone(Exception):
    """The client disconnected before its answer; nobody reads what is sent now."""


class ProblemError(Exception):
    """A refusal with its whole answer: raised by a route, sent as it is."""

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


def respond_to(request: Request[Any, Any, Any], error: Exception) -> Reply[Problem]:
    """Litestar's way to ask for `answer_to`."""
    return answer_to(error, request.scope)


def answer_to(error: Exception, scope: Scope) -> Reply[Problem]:
    """The answer to any exception a request can end with."""
    if isinstance(error, ClientGone):
        return Reply(b"", status=CLIENT_CLOSED_REQUEST, content_type=PROBLEM_TYPE)
    problem = _as_problem(error)
    if problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("unexpected error", path=scope["path"], exc_info=error)
    elif problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        log.info("refused", reason=str(error) or type(error).__name__)
    body, headers = problem_response(problem, scope["state"].get("request_id", ""))
    return Reply(body, status=problem.status, content_type=PROBLEM_TYPE, headers=headers)


def problem_response(problem: ProblemError, request_id: str) -> tuple[bytes, dict[str, str]]:
    """The body and the extra headers of a problem."""
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
            return _not_now(error)
        case ValidationException():
            extra: list[dict[str, str]] = list(error.extra or [])  # type: ignore[arg-type]
            errors = [FieldError(e.get("key", ""), in_words(e.get("message", ""))) for e in extra]
            if [error.field for error in errors] == ["data"]:  # Litestar's name for it
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


def _not_now(
    error: Throttled
    | RenamedTooOften
    | DatabaseUnavailable
    | SearchTooSlow
    | FairQueueFull
    | PoolError
    | MemoryError,
) -> ProblemError:
    """A refusal with a time to come back."""
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
                "too many passwords wait to be hashed",
                "full",
            )
        case MemoryError():  # argon2id's, as a rule
            detail, kind = "the service is out of memory", "memory"
        case _:
            detail, kind = "the password could not be hashed now", "full"
    headers = {"Retry-After": str(math.ceil(retry_after))}
    return ProblemError(status, detail, kind=f"urn:devnest:{kind}", headers=headers)


def _detail(error: HTTPException) -> str:
    return {
        404: "there is nothing at this path",
        405: "this path does not know that method",
        413: "the request body is too large",
    }.get(error.status_code, error.detail)
