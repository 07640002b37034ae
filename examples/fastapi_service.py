"""Sign-up and sign-in with FastAPI: `uvicorn fastapi_service:app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from devnest.pool import Pool, PoolError, PoolFull
from passwords import check_passwords, hash_passwords

accounts: dict[str, str] = {}


class Credentials(BaseModel):
    name: str = Field(max_length=64)
    password: str = Field(max_length=72)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with Pool(nice=10) as app.state.pool:
        yield


app = FastAPI(lifespan=lifespan)


@app.exception_handler(PoolError)
async def busy(_: Request, error: PoolError) -> JSONResponse:
    wait_s = error.retry_after if isinstance(error, PoolFull) else 1
    return JSONResponse({"detail": "busy"}, 503, {"Retry-After": f"{wait_s:.0f}"})


@app.post("/accounts", status_code=201)
async def sign_up(given: Credentials, request: Request) -> dict[str, str]:
    run, key = app.state.pool.run, request.client.host
    accounts[given.name] = await run(
        hash_passwords, given.password, deadline=5, priority=1, key=key
    )
    return {"name": given.name}


@app.post("/sessions")
async def sign_in(given: Credentials, request: Request) -> dict[str, str]:
    run, key, hashed = app.state.pool.run, request.client.host, accounts.get(given.name)
    if not hashed or not await run(check_passwords, given.password, hashed, deadline=5, key=key):
        raise HTTPException(401)
    return {"name": given.name}
