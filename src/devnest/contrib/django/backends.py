"""Django's `ModelBackend` for asynchronous views."""

import asyncio
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.backends import ModelBackend as DjangoModelBackend
from django.contrib.auth.base_user import AbstractBaseUser
from django.http import HttpRequest

from devnest.contrib.django import acheck_password
from devnest.pool import PoolError

__all__ = ["ModelBackend"]


class ModelBackend(DjangoModelBackend):
    """Django's `ModelBackend`, whose `aauthenticate` does not block the event loop.

    A user model with an `acheck_password` of its own is asked by that.
    """

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
            await asyncio.to_thread(users().set_password, password)
            return None

        async def update(raw_password: str) -> None:
            try:
                await asyncio.to_thread(user.set_password, raw_password)
            except PoolError:  # the password is right; the next sign-in tries again
                return
            user._password = None  # else `save` would take it for a change of the password
            await user.asave(update_fields=["password"])

        if type(user).acheck_password is AbstractBaseUser.acheck_password:
            is_correct = await acheck_password(password, user.password, update)
        else:
            is_correct = await user.acheck_password(password)
        return user if is_correct and self.user_can_authenticate(user) else None
