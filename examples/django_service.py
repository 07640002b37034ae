"""Sign-up and sign-in with asynchronous views of Django: `uvicorn django_service:app`."""

import asyncio
import json

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

from devnest.pool import Pool, PoolError, PoolFull
from passwords import check_passwords, hash_passwords

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"])
accounts: dict[str, str] = {}
pool = Pool(nice=10)
# Django has no start-up event: the first request starts the pool, and all requests wait for it.
starts: list[asyncio.Task[None]] = []


def with_pool(view):
    async def answer(request: HttpRequest) -> JsonResponse:
        if not starts:
            starts.append(asyncio.create_task(pool.start()))
        await asyncio.shield(starts[0])
        try:
            return await view(request)
        except PoolError as error:
            wait_s = error.retry_after if isinstance(error, PoolFull) else 1
            return JsonResponse(
                {"detail": "busy"}, status=503, headers={"Retry-After": f"{wait_s:.0f}"}
            )

    return answer


async def sign_up(request: HttpRequest) -> JsonResponse:
    given, key = json.loads(request.body), request.META["REMOTE_ADDR"]
    accounts[given["name"]] = await pool.run(
        hash_passwords, given["password"], deadline=5, priority=1, key=key
    )
    return JsonResponse({"name": given["name"]}, status=201)


async def sign_in(request: HttpRequest) -> JsonResponse:
    given, key = json.loads(request.body), request.META["REMOTE_ADDR"]
    hashed = accounts.get(given["name"])
    if not hashed or not await pool.run(
        check_passwords, given["password"], hashed, deadline=5, key=key
    ):
        return JsonResponse({"detail": "unknown name or wrong password"}, status=401)
    return JsonResponse({"name": given["name"]})


urlpatterns = [path("accounts", with_pool(sign_up)), path("sessions", with_pool(sign_in))]
app = get_asgi_application()
