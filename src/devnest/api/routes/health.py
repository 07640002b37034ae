"""`/healthz`, `/readyz` and `/metrics`: for whoever watches the service."""

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

POOL_TIMEOUT_S = 2.0
RETRY_AFTER_S = 2


class Readiness(msgspec.Struct, frozen=True):
    """The state of each part this process needs: `ok`, or what is wrong. `status`: `ok` or `unavailable`."""

    status: str
    database: str
    pool: str


@get("/healthz", tags=["operation"], summary="This process lives", media_type="text/plain")
async def healthz() -> str:
    """No I/O: where the event loop turns, this answers."""
    return "ok\n"


@get(
    "/readyz",
    tags=["operation"],
    summary="This process can serve",
    responses={
        503: ResponseSpec(Readiness, generate_examples=False, description="A part does not work")
    },
)
async def readyz(request: ApiRequest) -> Reply[Readiness]:
    """503 where a part does not answer within 2 s; the body says of each what is wrong."""
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
    summary="Prometheus' metrics of the whole cluster",
    media_type=CONTENT_TYPE,
)
async def metrics(request: ApiRequest) -> bytes:
    """The same whichever server answers. Parts that do not answer within 2 s are left out."""
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
    return "ok" if stats.idle + stats.busy else f"no worker runs, {stats.starting} start"


async def _pool_metrics(pool: RemotePool | None) -> str:
    """The pool's own account, which begins anew with each pool process."""
    if pool is None:
        return ""
    try:
        account, up = (await _pool_stats(pool)).prometheus(), 1
    except (PoolError, TimeoutError):
        account, up = "", 0
    return f"# HELP pool_up Whether the pool answers\n# TYPE pool_up gauge\npool_up {up}\n{account}"


async def _pool_stats(pool: RemotePool) -> Stats:
    async with asyncio.timeout(POOL_TIMEOUT_S):
        return await pool.stats()
