"""Sign-up and sign-in with Litestar: `uvicorn litestar_service:app --workers 4`."""

import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import msgspec
from litestar import Litestar, Request, Response, post
from litestar.exceptions import ClientException, NotAuthorizedException

from devnest.passwords import PasswordHasher
from devnest.pool import Pool, PoolError

accounts: dict[str, str] = {}  # stands for a database table with a unique name
pool = Pool.shared(nice=10)
hasher = PasswordHasher(pool, deadline=5)


class Credentials(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    password: Annotated[str, msgspec.Meta(min_length=8, max_length=1024)]


@asynccontextmanager
async def lifespan(_: Litestar) -> AsyncIterator[None]:
    async with pool:
        yield


def busy(_: Request, error: PoolError) -> Response[dict[str, str]]:
    logging.getLogger(__name__).warning("no answer from the pool: %s", error)
    headers = {"Retry-After": str(math.ceil(error.retry_after))}
    return Response({"detail": "busy"}, status_code=503, headers=headers)


@post("/accounts")
async def sign_up(data: Credentials, request: Request) -> dict[str, str]:
    stored = await hasher.hash(data.password, client=request.client.host)
    if accounts.setdefault(data.name, stored) is not stored:
        raise ClientException("this name is taken", status_code=409)
    return {"name": data.name}


@post("/sessions", status_code=200)
async def sign_in(data: Credentials, request: Request) -> dict[str, str]:
    right, new = await hasher.verify_and_update(
        data.password, accounts.get(data.name), client=request.client.host
    )
    if not right:  # an unknown name takes as long as a wrong password
        raise NotAuthorizedException("unknown name or wrong password")
    if new:
        accounts[data.name] = new
    return {"name": data.name}


app = Litestar([sign_up, sign_in], lifespan=[lifespan], exception_handlers={PoolError: busy})
