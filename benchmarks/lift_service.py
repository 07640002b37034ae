"""A FastAPI service that hashes one password for each request, in one of three ways.

`LIFT` chooses: `thread` calls pyca/bcrypt by `asyncio.to_thread`, `own` has a pool in each process,
and `shared` uses the pool of all processes.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

import bcrypt as pyca
from fastapi import FastAPI

from devnest import bcrypt
from devnest.pool import Pool, RemotePool, batched

COST = int(os.environ.get("LIFT_COST", "10"))
PASSWORD = b"correct horse battery staple"


@batched(max_size=bcrypt.LANES, pure=True)
def hash_passwords(calls: list[tuple[bytes]]) -> list[bytes]:
    passwords = [password for (password,) in calls]
    return bcrypt.hashpw_many(passwords, [bcrypt.gensalt(COST) for _ in calls])


def make_pool(way: str) -> contextlib.AbstractAsyncContextManager[Pool | RemotePool | None]:
    """Return a pool for this process, a connection to the shared one, or `None` for threads."""
    if way == "own":
        return Pool()
    return Pool.shared(os.environ["LIFT_SOCKET"]) if way == "shared" else contextlib.nullcontext()


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with make_pool(os.environ["LIFT"]) as app.state.pool:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/hash")
async def hash_password() -> str:
    if app.state.pool is None:
        return (await asyncio.to_thread(pyca.hashpw, PASSWORD, pyca.gensalt(COST))).decode()
    hashed: bytes = await app.state.pool.run(hash_passwords, PASSWORD)
    return hashed.decode()
