"""A Django service that hashes one password for each request: `make_password` in a WSGI view.

`LIFT` chooses the hasher: `django` is Django's own, `contrib` that of `devnest.contrib.django`.
"""

import os

import django
from django.conf import settings

WAY = os.environ["LIFT"]
MODULE = "django.contrib.auth.hashers" if WAY == "django" else "devnest.contrib.django"
settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["127.0.0.1"],
    PASSWORD_HASHERS=[f"{MODULE}.BCryptSHA256PasswordHasher"],
    DEVNEST_POOL_SOCKET=os.environ["LIFT_SOCKET"],
)
django.setup()

from django.contrib.auth.hashers import get_hasher, make_password  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402

get_hasher().rounds = int(os.environ["LIFT_COST"])


def hash_password(_: HttpRequest) -> HttpResponse:
    return HttpResponse(make_password("correct horse battery staple"))


urlpatterns = [path("hash", hash_password)]
app = get_wsgi_application()
