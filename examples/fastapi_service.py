"""Sign-up and sign-in with FastAPI: `uvicorn fastapi_service:app --workers 4`."""

import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from devnest.passwords import PasswordHasher
from devnest.pool import Pool, PoolError

accounts: dict[str, str] = {}  # stands for a database table with a unique name
pool = Pool.shared(nice=10)
hasher = PasswordHasher(pool, deadline=5)


class Credentials(BaseModel):
    name: str = Field(min_length=1, max_length=64)
    password: str = Field(min_length=8, max_length=1024)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with pool:
        yield


app = FastAPI(lifespan=lifespan)


@app.exception_handler(PoolError)
async def busy(_: Request, error: PoolError) -> JSONResponse:
    logging.getLogger(__name__).warning("no answer from the pool: %s", error)
    headers = {"Retry-After": str(math.ceil(error.retry_after))}
    return JSONResponse({"detail": "busy"}, 503, headers)


@app.post("/accounts", status_code=201)
async def sign_up(given: Credentials, request: Request) -> dict[str, str]:
    stored = await hasher.hash(given.password, client=request.client.host)
    if accounts.setdefault(given.name, stored) is not stored:
        raise HTTPException(409, "this name is taken")
    return {"name": given.name}


@app.post("/sessions")
async def sign_in(given: Credentials, request: Request) -> dict[str, str]:
    right, new = await hasher.verify_and_update(
        given.password, accounts.get(given.name), client=request.client.host
    )
    if not right:  # an unknown name takes as long as a wrong password
        raise HTTPException(401, "unknown name or wrong password")
    if new:
        accounts[given.name] = new
    return {"name": given.name}
