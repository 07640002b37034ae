"""`/healthz` and `/readyz`: for whoever watches the service."""

import msgspec
from litestar import Response, get

from devnest.api.requests import ApiRequest
from devnest.store import DatabaseUnavailable

__all__ = ["Readiness", "healthz", "readyz"]


class Readiness(msgspec.Struct, frozen=True):
    """The state of each part this process needs: `ok`, or what is wrong."""

    status: str
    database: str


@get("/healthz", tags=["operation"], summary="This process lives", media_type="text/plain")
async def healthz() -> str:
    """No I/O: where the event loop turns, this answers."""
    return "ok\n"


@get("/readyz", tags=["operation"], summary="This process can serve")
async def readyz(request: ApiRequest) -> Response[Readiness]:
    """503 where the database does not answer; the body says what is wrong."""
    try:
        await request.services.database.fetch_value("SELECT 1")
    except DatabaseUnavailable as error:
        return Response(Readiness("unavailable", str(error)), status_code=503, headers={"Retry-After": "2"})
    return Response(Readiness("ok", "ok"))
