"""`/healthz`, `/readyz` and `/metrics`: for load balancers and monitoring."""

import asyncio

import msgspec
from litestar import get
from litestar.openapi import ResponseSpec

from devnest.api.http.request import ApiRequest
from devnest.api.http.response import Reply
from devnest.api.services import Services
from devnest.metrics import CONTENT_TYPE
from devnest.pool import PoolError, RemotePool, Stats
from devnest.store import DatabaseUnavailable, DatabaseUnfit

__all__ = ["Readiness", "healthz", "metrics", "readyz"]

POOL_TIMEOUT_S = 2.0  # the wait for the pool, which responds within milliseconds if it works
RETRY_AFTER_S = 2  # the interval at which HAProxy repeats `/readyz` by default


class Readiness(msgspec.Struct, frozen=True):
    """The state of the parts that this process needs. `database` and `pool` are `ok`, or say what
    is wrong. `status` is `ok` or `unavailable`.
    """

    status: str
    database: str
    pool: str


@get(
    "/healthz",
    tags=["operation"],
    summary="Check that this process is alive",
    media_type="text/plain",
    operation_id="checkLiveness",
)
async def healthz() -> str:
    """Responds without any I/O, so it fails only if the process is stopped or blocked."""
    return "ok\n"


@get(
    "/readyz",
    tags=["operation"],
    summary="Check that this process can serve requests",
    responses={
        503: ResponseSpec(
            Readiness,
            generate_examples=False,
            description="The database or the pool cannot serve requests now. The body says which, "
            "and why.",
        )
    },
    operation_id="checkReadiness",
)
async def readyz(request: ApiRequest) -> Reply[Readiness]:
    """Checks the database and the pool. The response is 503 if one of them does not respond within
    2 s, or cannot serve requests: a read-only database, a schema of another version, a pool without
    a worker.
    """
    database, pool = await asyncio.gather(
        _database_state(request.services), _pool_state(request.services)
    )
    if database == pool == "ok":
        return Reply(Readiness("ok", database, pool))
    readiness = Readiness("unavailable", database, pool)
    return Reply(readiness, status=503, headers={"Retry-After": str(RETRY_AFTER_S)})


@get(
    "/metrics",
    tags=["operation"],
    summary="Read the metrics of all servers",
    media_type=CONTENT_TYPE,
    operation_id="readMetrics",
)
async def metrics(request: ApiRequest) -> bytes:
    """Returns metrics in the format of Prometheus, for all processes together. It does not matter
    which server responds. Parts that do not respond within 2 s are left out.
    """
    page, pool = await asyncio.gather(
        request.services.metrics.page(), _pool_metrics(request.services.pool)
    )
    return page + pool.encode()


async def _database_state(services: Services) -> str:
    try:
        await services.database.probe()
    except (DatabaseUnavailable, DatabaseUnfit) as error:
        return str(error)
    return "ok"


async def _pool_state(services: Services) -> str:
    if services.pool is None:
        return "ok"
    try:
        stats = await _pool_stats(services.pool)
    except PoolError as error:
        return str(error)
    except TimeoutError:
        return f"no answer within {POOL_TIMEOUT_S:g} s"
    return (
        "ok" if stats.idle + stats.busy else f"no worker is running, {stats.starting} are starting"
    )


async def _pool_metrics(pool: RemotePool | None) -> str:
    """The metrics of the pool; its counters begin at 0 when the pool process is restarted."""
    if pool is None:
        return ""
    try:
        page, up = (await _pool_stats(pool)).prometheus(), 1
    except (PoolError, TimeoutError):
        page, up = "", 0
    return f"# HELP pool_up Whether the pool answers\n# TYPE pool_up gauge\npool_up {up}\n{page}"


async def _pool_stats(pool: RemotePool) -> Stats:
    async with asyncio.timeout(POOL_TIMEOUT_S):
        return await pool.stats()
