"""Django's `ModelBackend` for asynchronous views."""

import asyncio
from typing import Any

from django.contrib.auth import get_user_model, hashers
from django.contrib.auth.backends import ModelBackend as DjangoModelBackend
from django.http import HttpRequest

from devnest.contrib.django import acheck_password

__all__ = ["ModelBackend"]


class ModelBackend(DjangoModelBackend):
    """Django's `ModelBackend`, whose `aauthenticate` does not block the event loop."""

    async def aauthenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return the user with these credentials, or None."""
        users = get_user_model()
        if username is None:
            username = kwargs.get(users.USERNAME_FIELD)
        if username is None or password is None:
            return None
        try:
            user = await users._default_manager.aget_by_natural_key(username)
        except users.DoesNotExist:  # takes as long as a wrong password
            await asyncio.to_thread(hashers.make_password, password)
            return None

        async def update(raw_password: str) -> None:
            user.password = await asyncio.to_thread(hashers.make_password, raw_password)
            await user.asave(update_fields=["password"])

        is_correct = await acheck_password(password, user.password, update)
        return user if is_correct and self.user_can_authenticate(user) else None
