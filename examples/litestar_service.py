"""Sign-up and sign-in with Litestar and a shared pool: `uvicorn litestar_service:app`.

Start the pool first, with this directory in PYTHONPATH, and give its socket to the service:
`python -m devnest.pool serve --socket PATH` and `POOL_SOCKET=PATH`.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import msgspec
from litestar import Litestar, Request, Response, post
from litestar.exceptions import NotAuthorizedException

from devnest.pool import Pool, PoolError, PoolFull
from passwords import check_passwords, hash_passwords

accounts: dict[str, str] = {}


class Credentials(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(max_length=64)]
    password: Annotated[str, msgspec.Meta(max_length=72)]


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    async with Pool.connect(f"unix://{os.environ['POOL_SOCKET']}") as app.state.pool:
        yield


def busy(_: Request, error: PoolError) -> Response[dict[str, str]]:
    wait_s = error.retry_after if isinstance(error, PoolFull) else 1.0
    return Response({"detail": "busy"}, status_code=503, headers={"Retry-After": f"{wait_s:.0f}"})


@post("/accounts")
async def sign_up(data: Credentials, request: Request) -> dict[str, str]:
    run, key = request.app.state.pool.run, request.client.host
    accounts[data.name] = await run(hash_passwords, data.password, deadline=5, priority=1, key=key)
    return {"name": data.name}


@post("/sessions", status_code=200)
async def sign_in(data: Credentials, request: Request) -> dict[str, str]:
    run, hashed = request.app.state.pool.run, accounts.get(data.name)
    if not hashed or not await run(
        check_passwords, data.password, hashed, deadline=5, key=request.client.host
    ):
        raise NotAuthorizedException
    return {"name": data.name}


app = Litestar([sign_up, sign_in], lifespan=[lifespan], exception_handlers={PoolError: busy})
