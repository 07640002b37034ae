"""`devnest.contrib.django`, in Django projects that run in processes of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = """
import asyncio, os, sys, threading, time
import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1] + "/db"}},
    PASSWORD_HASHERS=[
        "devnest.contrib.django.BCryptSHA256PasswordHasher",
        "devnest.contrib.django.BCryptPasswordHasher",
        "django.contrib.auth.hashers.PBKDF2PasswordHasher",
    ],
    AUTHENTICATION_BACKENDS=["devnest.contrib.django.backends.ModelBackend"],
    DEVNEST_POOL_SOCKET=sys.argv[1] + "/pool.sock",
)
django.setup()
from django.contrib.auth import aauthenticate, authenticate, hashers
from django.contrib.auth.models import User
from django.core.management import call_command
from devnest.contrib import django as contrib

contrib.BCryptSHA256PasswordHasher.rounds = 4
"""


def run(directory: Path, code: str) -> str:
    """Run code in a project, and return what it prints."""
    directory.chmod(0o700)
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", PROJECT + code, str(directory)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_stored_forms_are_django_s(tmp_path: Path) -> None:
    """Either side verifies what the other wrote."""
    code = """
theirs = {"bcrypt_sha256": hashers.BCryptSHA256PasswordHasher(), "bcrypt": hashers.BCryptPasswordHasher()}
ours = {"bcrypt_sha256": contrib.BCryptSHA256PasswordHasher(), "bcrypt": contrib.BCryptPasswordHasher()}
for name in ours:
    theirs[name].rounds = ours[name].rounds = 4
    for password in ("correct horse", "caf\\u00e9", "x" * 72, ""):
        for one, other in ((ours, theirs), (theirs, ours)):
            encoded = one[name].encode(password, one[name].salt())
            assert encoded.startswith(name + "$$2b$04$"), encoded
            assert other[name].verify(password, encoded)
            assert not other[name].verify("!" + password[1:], encoded)
print(hashers.make_password("secret")[:21])
"""
    assert run(tmp_path, code) == "bcrypt_sha256$$2b$04$\n"


def test_sign_in_awaited_and_blocking(tmp_path: Path) -> None:
    """Hashes of PBKDF2 are replaced; an unknown user and a wrong password are refused."""
    code = """
call_command("migrate", verbosity=0)
old = hashers.get_hasher("pbkdf2_sha256").encode("secret", "salt" * 6, 1000)

async def main():
    user = await User.objects.acreate(username="ada", password=old)
    assert await aauthenticate(username="ada", password="wrong") is None
    assert await aauthenticate(username="bob", password="secret") is None
    assert await aauthenticate(username="ada") is None
    assert (await aauthenticate(username="ada", password="secret")).pk == user.pk
    await user.arefresh_from_db()
    assert user.password.startswith("bcrypt_sha256$"), user.password
    assert await contrib.acheck_password("secret", user.password)
    assert not await contrib.acheck_password(None, user.password)
    assert not await contrib.acheck_password("secret", "!unusable")
    user.is_active = False
    await user.asave()
    assert await aauthenticate(username="ada", password="secret") is None

asyncio.run(main())
User.objects.update(is_active=True)
assert authenticate(username="ada", password="secret") is not None
assert authenticate(username="ada", password="wrong") is None
print("ok")
"""
    assert run(tmp_path, code) == "ok\n"


def test_a_busy_pool_does_not_undo_a_sign_in(tmp_path: Path) -> None:
    """The old hash is right and stays; the next sign-in replaces it."""
    code = """
call_command("migrate", verbosity=0)
old = hashers.get_hasher("pbkdf2_sha256").encode("secret", "salt" * 6, 1000)

async def main():
    user = await User.objects.acreate(username="ada", password=old)
    assert hashers.make_password("secret")  # the pool has started
    settings.DEVNEST_HASH_DEADLINE = 1e-6
    assert (await aauthenticate(username="ada", password="secret")).password == old
    await user.arefresh_from_db()
    assert user.password == old
    del settings.DEVNEST_HASH_DEADLINE
    assert (await aauthenticate(username="ada", password="secret")).password != old
    await user.arefresh_from_db()
    assert user.password.startswith("bcrypt_sha256$"), user.password

asyncio.run(main())
print("ok")
"""
    assert run(tmp_path, code) == "ok\n"


def test_methods_of_the_user_model_are_called(tmp_path: Path) -> None:
    """A model that refuses a right password, or notes a new one, does so in `aauthenticate` too."""
    code = """
call_command("migrate", verbosity=0)
old = hashers.get_hasher("pbkdf2_sha256").encode("secret", "salt" * 6, 1000)
noted = []

def set_password(self, raw):
    noted.append(raw)
    super(User, self).set_password(raw)

async def refuse(self, raw):
    return False

async def main():
    await User.objects.acreate(username="ada", password=old)
    User.set_password = set_password
    user = await aauthenticate(username="ada", password="secret")
    assert user.password.startswith("bcrypt_sha256$"), user.password
    assert user._password is None
    assert noted == ["secret"], noted
    User.acheck_password = refuse
    assert await aauthenticate(username="ada", password="secret") is None

asyncio.run(main())
print("ok")
"""
    assert run(tmp_path, code) == "ok\n"


def test_the_event_loop_goes_on_while_a_password_is_checked(tmp_path: Path) -> None:
    """Django's own function would stop it for the whole hash."""
    code = """
contrib.BCryptSHA256PasswordHasher.rounds = 13
encoded = hashers.make_password("secret")

async def main():
    checking = asyncio.create_task(contrib.acheck_password("secret", encoded))
    turns = 0
    while not checking.done():
        turns += 1
        await asyncio.sleep(0.001)
    assert checking.result()
    assert turns > 10, turns

asyncio.run(main())
print("ok")
"""
    assert run(tmp_path, code) == "ok\n"


def test_a_child_of_a_fork_gets_a_connection_of_its_own(tmp_path: Path) -> None:
    """As under gunicorn with `--preload`."""
    code = """
encoded = hashers.make_password("secret")
child = os.fork()
if not child:
    os._exit(not hashers.check_password("secret", encoded))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), hashers.check_password("secret", encoded))
"""
    assert run(tmp_path, code) == "0 True\n"


@pytest.mark.parametrize("cost", ["31", "00", "xx"])
def test_a_stored_hash_out_of_bounds_is_refused_before_any_work(tmp_path: Path, cost: str) -> None:
    """No row keeps a worker busy for days."""
    code = f"""
encoded = hashers.make_password("secret").replace("$04$", "${cost}$")
try:
    contrib.BCryptSHA256PasswordHasher().verify("secret", encoded)
except ValueError as error:
    print(type(error).__name__, encoded in str(error))
"""
    assert run(tmp_path, code) == "UnusableHash False\n"


def test_hashers_need_no_app() -> None:
    """A project without `django.contrib.auth` among its apps can use them, as Django's own."""
    code = """
import sys
from django.conf import settings
settings.configure(PASSWORD_HASHERS=["devnest.contrib.django.BCryptPasswordHasher"])
from django.contrib.auth import hashers
assert hashers.get_hasher().algorithm == "bcrypt"
print("ok")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("ok\n", "")


def test_a_busy_pool_is_503(tmp_path: Path) -> None:
    """With the seconds after which to come again; other errors stay Django's."""
    code = """
from devnest.pool import PoolFull, WorkerCrashed
middleware = contrib.BusyMiddleware(lambda request: None)
response = middleware.process_exception(None, PoolFull(2.4))
print(response.status_code, response["Retry-After"])
print(middleware.process_exception(None, WorkerCrashed("gone")).status_code)
print(middleware.process_exception(None, ValueError()))
"""
    assert run(tmp_path, code) == "503 3\n503\nNone\n"
