"""The bcrypt hashers of Django 5.0 and newer, computed in the pool that all processes share.

In the settings::

    PASSWORD_HASHERS = [
        "devnest.contrib.django.BCryptSHA256PasswordHasher",
        "django.contrib.auth.hashers.PBKDF2PasswordHasher",  # hashes that exist already
    ]
    MIDDLEWARE = [..., "devnest.contrib.django.BusyMiddleware"]

In a project with asynchronous views also::

    AUTHENTICATION_BACKENDS = ["devnest.contrib.django.backends.ModelBackend"]

The stored form is Django's own, so Django's hashers verify these hashes too, and the other way
round. Optional settings are `DEVNEST_POOL_SOCKET`, the path of the pool's socket as for
`Pool.shared`, and `DEVNEST_HASH_DEADLINE`, the seconds after which a hash is refused (10).
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from functools import lru_cache

from django.conf import settings
from django.contrib.auth import hashers
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.deprecation import MiddlewareMixin

from devnest import bcrypt
from devnest.passwords.operations import hashpw_batch
from devnest.pool import Pool, PoolError, PoolExecutor

__all__ = [
    "BCryptPasswordHasher",
    "BCryptSHA256PasswordHasher",
    "BusyMiddleware",
    "acheck_password",
]

DEFAULT_DEADLINE_S = 10.0


class _PooledBcrypt:
    """What Django's hashers use of the package bcrypt."""

    gensalt = staticmethod(bcrypt.gensalt)

    @staticmethod
    def hashpw(password: bytes, salt: bytes) -> bytes:
        executor = _executor(getattr(settings, "DEVNEST_POOL_SOCKET", None))
        deadline = getattr(settings, "DEVNEST_HASH_DEADLINE", DEFAULT_DEADLINE_S)
        hashed: bytes = executor.run(hashpw_batch, password, salt, deadline=deadline)
        return hashed


@lru_cache(maxsize=8)
def _executor(path: str | None) -> PoolExecutor:
    return PoolExecutor(pool=Pool.shared(path))


class BCryptSHA256PasswordHasher(hashers.BCryptSHA256PasswordHasher):
    """Django's hasher of this name, in the shared pool."""

    def _load_library(self) -> type[_PooledBcrypt]:
        return _PooledBcrypt


class BCryptPasswordHasher(hashers.BCryptPasswordHasher):
    """Django's hasher of this name, in the shared pool; passwords may have at most 72 bytes."""

    def _load_library(self) -> type[_PooledBcrypt]:
        return _PooledBcrypt


async def acheck_password(
    password: str | None,
    encoded: str,
    setter: Callable[[str], Awaitable[None]] | None = None,
    preferred: str = "default",
) -> bool:
    """Do what Django's `acheck_password` does, without blocking the event loop.

    Django's own computes the hash on the event loop. This one waits in a thread.
    """
    is_correct, must_update = await asyncio.to_thread(
        hashers.verify_password, password, encoded, preferred
    )
    if setter and password is not None and is_correct and must_update:
        await setter(password)
    return bool(is_correct)


class BusyMiddleware(MiddlewareMixin):
    """Answers 503 with `Retry-After` where the pool had no time for a hash."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Return the response for a `PoolError`; other exceptions are Django's."""
        if not isinstance(exception, PoolError):
            return None
        headers = {"Retry-After": str(math.ceil(exception.retry_after))}
        return JsonResponse({"detail": "busy"}, status=503, headers=headers)
