"""`Tracer`: OpenTelemetry spans of sampled requests, and of the database and the pool within them.

The sampling is decided first, and nothing is made for a request that is not sampled: spans of the
SDK cost more than a light request may pay. So the parts below know nothing of tracing; a database
asks by `Tracer.observe_queries` whether anybody wants to see the queries of this request.
"""

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from litestar.types import Scope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from devnest.api.http.traceparent import Parent
from devnest.metrics import METHODS, OTHER_METHOD
from devnest.passwords import Guess, NewPassword, Runner, Verdict, Work
from devnest.store import GroupCommit, Query, QueryObserver

__all__ = ["Ended", "Trace", "TracedGroupCommit", "TracedRunner", "Tracer"]

MAX_PATH_CHARACTERS = 1024  # of the path in a span; a request's target may have 16 KiB
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]{1,255})(?::([0-9]{1,5}))?")
OPERATION = re.compile(r"\b(?!WITH\b)[A-Z]{3,}\b", re.IGNORECASE)
TARGET = re.compile(r"\b(?:FROM|INTO|UPDATE|JOIN)\s+([a-z_]+)")
CHANGE = re.compile(r"\b(?:INSERT INTO|(?<!NO KEY )(?<!FOR )UPDATE [a-z]|DELETE FROM)")
INNER = re.compile(r"\([^()]*\)")
SAMPLED = TraceFlags(TraceFlags.SAMPLED)
FAILED, UNSET = Status(StatusCode.ERROR), Status(StatusCode.UNSET)
T = TypeVar("T")
R = TypeVar("R")
current: ContextVar["Trace | None"] = ContextVar("devnest.trace", default=None)


class Ended(NamedTuple):
    """A span that has ended, as the arguments of the SDK's."""

    name: str
    context: SpanContext
    parent: SpanContext | None
    attributes: dict[str, Any]
    kind: SpanKind
    status: Status
    start_time: int
    end_time: int


class Trace:
    """A span of a sampled request, under which further spans are made.

    The SDK's own spans take twice as long: they can be changed by several threads, and bound what
    is put into them.

    Attributes:
        is_over: Whether the span has ended. A task that outlives its request makes no more spans.
    """

    def __init__(
        self,
        take: Callable[[Ended], None],
        name: str,
        kind: SpanKind,
        parent: SpanContext | None,
        attributes: dict[str, Any],
    ) -> None:
        self.is_over = False
        self._take = take
        self._name = name
        self._kind = kind
        self._parent = parent
        self._attributes = attributes
        trace_id = parent.trace_id if parent else random.getrandbits(128) or 1
        span_id = random.getrandbits(64) or 1
        self._context = SpanContext(trace_id, span_id, False, SAMPLED)
        self._started_ns = time.time_ns()

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        return f"{self._context.trace_id:032x}"

    def record(
        self,
        name: str,
        duration_s: float,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: dict[str, Any] | None = None,
        *,
        ended_s_ago: float = 0.0,
    ) -> None:
        """Make a span below this one of something that has ended."""
        span = Trace(self._take, name, kind, self._context, attributes or {})
        ended_ns = span._started_ns - int(ended_s_ago * 1e9)
        span._started_ns = ended_ns - int(duration_s * 1e9)
        span.end(ended_ns)

    @contextmanager
    def child(self, name: str, kind: SpanKind, attributes: dict[str, Any]) -> Iterator[None]:
        """Make a span below this one of what is done within the block, and of its failure."""
        child = Trace(self._take, name, kind, self._context, attributes)
        token = current.set(child)
        try:
            yield
        except BaseException as error:
            # Without its text, which may quote what a client sent.
            attributes["error.type"] = type(error).__name__
            raise
        finally:
            current.reset(token)
            child.end()

    def end(self, ended_ns: int | None = None) -> None:
        """End the span. It has failed if it has an attribute `error.type`."""
        self.is_over = True
        status = FAILED if "error.type" in self._attributes else UNSET
        self._take(
            Ended(
                self._name,
                self._context,
                self._parent,
                self._attributes,
                self._kind,
                status,
                self._started_ns,
                ended_ns or time.time_ns(),
            )
        )

    def end_request(self, scope: Scope, method: str, status: int, error_type: str | None) -> None:
        """End a server span, with what the semantic conventions for HTTP ask for.

        Args:
            scope: The request, after its route was found.
            method: Its method, which is not the scope's for HEAD.
            status: The status of the response; 0 if none was sent.
            error_type: The class of an unexpected error.
        """
        route = scope.get("path_template")
        known = method if method in METHODS else OTHER_METHOD
        self._name = f"{known if known == method else 'HTTP'} {route or ''}".rstrip()
        attributes = self._attributes
        attributes.update(_request_attributes(scope, known))
        if route:
            attributes["http.route"] = route
        if status:
            attributes["http.response.status_code"] = status
        if status >= 500 or not status:
            attributes["error.type"] = error_type or (str(status) if status else OTHER_METHOD)
        self.end()


class TracedRunner(Runner):
    """Hashes passwords by another runner, in a span of its own.

    Args:
        runner: The other runner.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.raise_if_refused = runner.raise_if_refused  # type: ignore[method-assign]

    async def __call__(self, call: NewPassword | Guess, work: Work, client: str) -> str | Verdict:
        if (trace := _open_trace()) is None:
            return await self._runner(call, work, client)
        with trace.child("hash password", SpanKind.INTERNAL, {"devnest.work": work.name.lower()}):
            return await self._runner(call, work, client)


class TracedGroupCommit(GroupCommit[T, R]):
    """A `GroupCommit` with a span of each call, from its wait to the commit of its group.

    The statement itself belongs to several requests, and so to the trace of none.
    """

    async def __call__(self, item: T) -> R:
        if (trace := _open_trace()) is None:
            return await super().__call__(item)
        attributes = {"db.system.name": "postgresql", "db.query.summary": "group commit"}
        with trace.child("group commit", SpanKind.CLIENT, attributes):
            return await super().__call__(item)


class Tracer:
    """Decides which requests are recorded, and makes their server spans.

    Args:
        take: Takes each span that has ended.
        sampling: The share of requests without a caller's decision that are recorded, 0 to 1.

    Attributes:
        runner: Makes a runner that records what another does.
        group_commit: A `GroupCommit` that records its calls.
    """

    runner = TracedRunner
    group_commit = TracedGroupCommit

    def __init__(self, take: Callable[[Ended], None], sampling: float) -> None:
        self._take = take
        self._sampling = sampling

    def begin(self, parent: Parent | None) -> Trace | None:
        """Begin the server span of a request; None if it is not sampled.

        Args:
            parent: What the caller says of its trace. If it says whether it records the trace, the
                same is done here.
        """
        is_sampled = parent.is_sampled if parent else random.random() < self._sampling  # noqa: S311
        if not is_sampled:
            return None
        trace = Trace(self._take, "HTTP", SpanKind.SERVER, _remote(parent) if parent else None, {})
        current.set(trace)
        return trace

    @staticmethod
    def record_pool_times(wait_s: float, run_s: float) -> None:
        """Record how long a call waited in the pool's queue, and how long a worker had it."""
        if (trace := _open_trace()) is not None:
            trace.record("pool wait", wait_s, ended_s_ago=run_s)
            trace.record("pool run", run_s)

    @staticmethod
    def observe_queries() -> QueryObserver | None:
        """Return what records queries as spans of the present request, if it is sampled."""
        trace = _open_trace()
        if trace is None:
            return None

        def record(query: Query) -> None:
            attributes = {"db.system.name": "postgresql", **_describe(query.query)}
            error = query.exception
            if error is not None:
                attributes["error.type"] = getattr(error, "sqlstate", None) or type(error).__name__
            trace.record(attributes["db.query.summary"], query.elapsed, SpanKind.CLIENT, attributes)

        return record


def _open_trace() -> Trace | None:
    trace = current.get()
    return None if trace is None or trace.is_over else trace


def _remote(parent: Parent) -> SpanContext:
    return SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), True, SAMPLED)


def _request_attributes(scope: Scope, method: str) -> dict[str, Any]:
    # A path may have lone surrogates, which no span can hold.
    path = scope["path"][:MAX_PATH_CHARACTERS].encode(errors="replace").decode()
    attributes: dict[str, Any] = {
        "http.request.method": method,
        "url.path": path,
        "url.scheme": scope["scheme"],
        "network.protocol.version": scope["http_version"],
    }
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    if match := HOST.fullmatch(host.decode("latin-1")):
        attributes["server.address"] = match[1]
        if match[2]:
            attributes["server.port"] = int(match[2])
    return attributes


@lru_cache(maxsize=512)
def _describe(query: str) -> dict[str, str]:
    """Say what a statement does and to which table; the statements are DevNest's own, and few."""
    change = CHANGE.search(query)  # what a WITH is for is the change in it
    main = query[change.start() :] if change else _without_parentheses(query)
    match = OPERATION.search(main)
    operation = match[0].upper() if match else "QUERY"
    targets = TARGET.findall(main)[:1] or TARGET.findall(query)[-1:]  # else of the innermost
    summary = " ".join((operation, *targets))
    return {"db.operation.name": operation, "db.query.summary": summary}


def _without_parentheses(query: str) -> str:
    while query != (outer := INNER.sub("", query)):
        query = outer
    return query
