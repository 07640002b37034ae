"""Sign-up and sign-in with Django: `gunicorn django_service:wsgi` or `uvicorn django_service:app`.

`python django_service.py migrate` makes the tables first. The views are asynchronous; under WSGI,
Django runs each on an event loop of its own.
"""

import asyncio
import json
import os

import django
from django.conf import settings

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["127.0.0.1"],
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ.get("DATABASE", "accounts.sqlite3"),
        }
    },
    PASSWORD_HASHERS=["devnest.contrib.django.BCryptSHA256PasswordHasher"],
    AUTHENTICATION_BACKENDS=["devnest.contrib.django.backends.ModelBackend"],
    MIDDLEWARE=["devnest.contrib.django.BusyMiddleware"],
)
django.setup()

from django.contrib.auth import aauthenticate  # noqa: E402  Django has to be set up before
from django.contrib.auth.hashers import make_password  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.management import execute_from_command_line  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import IntegrityError  # noqa: E402
from django.http import HttpRequest, JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402


async def sign_up(request: HttpRequest) -> JsonResponse:
    given = json.loads(request.body)
    stored = await asyncio.to_thread(make_password, given["password"])
    try:
        await User.objects.acreate(username=given["name"], password=stored)
    except IntegrityError:
        return JsonResponse({"detail": "this name is taken"}, status=409)
    return JsonResponse({"name": given["name"]}, status=201)


async def sign_in(request: HttpRequest) -> JsonResponse:
    given = json.loads(request.body)
    user = await aauthenticate(request, username=given["name"], password=given["password"])
    if user is None:
        return JsonResponse({"detail": "unknown name or wrong password"}, status=401)
    return JsonResponse({"name": user.username})


urlpatterns = [path("accounts", sign_up), path("sessions", sign_in)]
app, wsgi = get_asgi_application(), get_wsgi_application()

if __name__ == "__main__":
    execute_from_command_line()
