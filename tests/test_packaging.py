"""What is published: the sdist, the wheel that it builds, and what each extra installs and runs.

The extras are installed by pip into environments of their own, from whatever index pip is set up
with. Where pip reaches none, those tests are skipped with that reason.
"""

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from devnest.cli.names import COMMANDS
from tests.support import PATIENCE_S, SHARED, DevNest, data_directory, http, sign_up

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")
# What an extra may bring, DevNest included, with some room for a dependency of a dependency: 23
# packages for `load` and 56 for `server` with the versions of constraints.txt.
MAX_PACKAGES = {"load": 27, "server": 62}
NOT_PACKED = (".git", ".venv*", ".*_cache", ".hypothesis", "build", "node_modules", "__pycache__")
HAS_COMPILER = shutil.which(os.environ.get("CC", "cc")) is not None
# pip is told not to compile what is installed; the first process that imports a module does.
COMPILED_ONCE = {"PYTHONDONTWRITEBYTECODE": ""}
MAX_COMMAND_S = 280  # a safety net for pip, which may have to download
IS_STABLE = not sysconfig.get_config_var("Py_GIL_DISABLED")

# Every module that this imports is a part of the bare install.
HASH_THROUGH_THE_POOL = """
import asyncio, sys
from devnest import bcrypt
from devnest.pool import Pool, PoolFull, batched
from devnest.passwords import hash_password, verify_password

@batched(max_size=4, pure=True)
def check(calls):
    return bcrypt.checkpw_many([password for password, _ in calls], [stored for _, stored in calls])

async def main():
    hashed = bcrypt.hashpw(b"correct horse", bcrypt.gensalt(4))
    async with Pool(workers=1) as pool:
        calls = [pool.run(check, password, hashed) for password in (b"correct horse", b"wrong")]
        print(*await asyncio.gather(*calls))
    print(verify_password("secret", hash_password("secret", 4)))
    loaded = {name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names
    print(*sorted(name for name in loaded if not name.startswith("_")))

if __name__ == "__main__":
    asyncio.run(main())
"""
LOADED_BY_LOAD = """
import sys
import devnest.cli.load, devnest.cli.commands
print(*sorted({".".join(name.split(".")[1:2]) for name in sys.modules if name.startswith("devnest.")}))
"""


class Built(NamedTuple):
    """What would be published."""

    sdist: Path
    wheel: Path


class Environment(NamedTuple):
    """A virtual environment with DevNest in it."""

    bin: Path
    packages: set[str]

    def run(self, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """A program of the environment to its end."""
        program, *arguments = command
        return run(str(self.bin / program), *arguments, cwd=cwd)


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command to its end, whatever its status."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment | COMPILED_ONCE,
        capture_output=True,
        text=True,
        timeout=MAX_COMMAND_S,
    )


def succeed(*command: str | Path, cwd: Path | None = None) -> str:
    """What a command prints that ends well."""
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built() -> Built:
    """The sdist of the working tree and the wheel of that sdist, once for the processes of a
    session.
    """
    shared = Path(os.environ[SHARED])
    dist = shared / "dist"
    with (shared / "dist.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not dist.exists():
            source, made = shared / "source", shared / "dist.made"
            shutil.copytree(ROOT, source, ignore=_not_packed, symlinks=True)
            code = "import sys; from setuptools import build_meta as b; b.build_sdist(sys.argv[1])"
            succeed(sys.executable, "-c", code, made, cwd=source)
            shutil.rmtree(source)
            (sdist,) = made.glob("*.tar.gz")
            options = ("--no-build-isolation", "--no-deps", "--wheel-dir")
            succeed(*PIP, "wheel", *options, made, sdist)
            made.rename(dist)
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    return Built(sdist, wheel)


def _not_packed(directory: str, names: list[str]) -> set[str]:
    ignored = shutil.ignore_patterns(*NOT_PACKED, "*.so", "*.egg-info")(directory, names)
    return ignored | {name for name in names if not (Path(directory) / name).exists()}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips a test where pip reaches no package index: what DevNest always needs cannot be had."""
    where = tmp_path_factory.mktemp("index")
    options = ("--quiet", "--no-deps", "--retries=1", "-c", CONSTRAINTS, "-d", where)
    done = run(*PIP, "download", *options, "bcrypt")
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        pytest.skip(f"NO EXTRA WAS TESTED, FOR PIP REACHES NO PACKAGE INDEX: {reason}")


@contextmanager
def environment(wheel: Path, extra: str) -> Iterator[Environment]:
    """An environment into which the wheel is installed with an extra."""
    with data_directory() as data_dir:  # which root's PostgreSQL user can reach too
        path = data_dir.parent / "environment"
        succeed(sys.executable, "-m", "venv", "--without-pip", path)
        pip = (*PIP, "--python", path / "bin" / "python")
        wanted = f"{wheel}[{extra}]" if extra else wheel
        succeed(*pip, "install", "--quiet", "--no-compile", "-c", CONSTRAINTS, wanted)
        listed = succeed(*pip, "list", "--format=freeze").splitlines()
        yield Environment(
            path / "bin", {canonicalize_name(line.partition("==")[0]) for line in listed}
        )


def asked_for(wheel: Path, extra: str) -> set[str]:
    """The packages that an extra names, in the metadata of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().split("\n\n")[0].splitlines()
    fields = (line.partition(": ") for line in lines)
    needed = [Requirement(value) for field, _, value in fields if field == "Requires-Dist"]
    names = {r.name for r in needed if r.marker and r.marker.evaluate({"extra": extra})}
    return {str(canonicalize_name(name)) for name in names} - {"devnest"}


def test_the_sdist_holds_the_repository(built: Built) -> None:
    """Every file that git knows: whoever has the sdist can run the tests and build the pages."""
    known = run("git", "-C", ROOT, "ls-files", "-z")
    if known.returncode:
        pytest.skip("this is no clone of the repository")
    with tarfile.open(built.sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    tracked = {name for name in known.stdout.split("\0") if name and (ROOT / name).exists()}
    assert tracked - packed == set()
    assert not [name for name in packed if name.endswith((".so", ".pyc"))]


def test_the_wheel_holds_the_package_alone(built: Built) -> None:
    """With its types and its page, and one binary for every Python from 3.11."""
    with zipfile.ZipFile(built.wheel) as archive:
        names = set(archive.namelist())
    assert {"devnest/py.typed", "devnest/load/page.html"} <= names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"devnest"}
    if HAS_COMPILER and IS_STABLE:
        assert "-cp311-abi3-" in built.wheel.name
        assert "devnest/bcrypt/_kernel.abi3.so" in names


def test_both_pass_the_check_of_the_package_index(built: Built) -> None:
    """Metadata and README, without a warning."""
    said = succeed(sys.executable, "-m", "twine", "--no-color", "check", "--strict", *built)
    assert said.count("PASSED") == 2


@pytest.mark.usefixtures("index")
def test_without_an_extra_it_is_a_library_of_two_packages(built: Built, tmp_path: Path) -> None:
    """The pool, bcrypt and passwords work, and the command says what it lacks."""
    with environment(built.wheel, "") as bare:
        assert bare.packages == {"bcrypt", "devnest"}
        (tmp_path / "program.py").write_text(HASH_THROUGH_THE_POOL)
        hashed = bare.run("python", "program.py", cwd=tmp_path)
        assert hashed.stdout == "True False\nTrue\nbcrypt devnest\n", hashed.stderr
        _serve_a_pool(bare, tmp_path / "pool" / "socket")
        for command in (("devnest",), ("python", "-m", "devnest")):
            told = bare.run(*command)
            assert (told.returncode, told.stdout, told.stderr.count("\n")) == (2, "", 1)
            assert "pip install 'devnest[server]'" in told.stderr
            for name, extra in COMMANDS.items():
                told = bare.run(*command, name, "--help")
                assert (told.returncode, told.stderr.count("\n")) == (2, 1)
                assert told.stderr.endswith(f"pip install 'devnest[{extra}]'\n")


def _serve_a_pool(bare: Environment, path: Path) -> None:
    command = [str(bare.bin / "python"), "-m", "devnest.pool", "serve", f"--socket={path}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("devnest.pool ready on unix://")
        server.terminate()
        assert server.wait(PATIENCE_S) == 0


@pytest.mark.usefixtures("index")
def test_with_the_extra_load_it_is_a_load_generator(built: Built) -> None:
    """It runs, loads nothing of the server, and other commands are marked in the help."""
    with environment(built.wheel, "load") as load:
        assert asked_for(built.wheel, "load") <= load.packages
        assert (
            load.packages & (asked_for(built.wheel, "server") - asked_for(built.wheel, "load"))
            == set()
        )
        assert len(load.packages) <= MAX_PACKAGES["load"], sorted(load.packages)
        assert load.run("devnest", "load", "--help").returncode == 0
        loaded = load.run("python", "-c", LOADED_BY_LOAD)
        assert loaded.stdout == "addresses busy cli exhaustion extras load streams urls\n", (
            loaded.stderr
        )
        with socket.create_server(("127.0.0.1", 0)) as taken:
            nowhere = f"http://127.0.0.1:{taken.getsockname()[1]}"
        refused = load.run("devnest", "load", nowhere, "--vus=1", "--duration=1s")
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
        assert refused.stderr.startswith("devnest: ")
        assert nowhere in refused.stderr
        for name in ("serve", "bench"):
            told = load.run("devnest", name)
            assert (told.returncode, told.stderr.count("\n")) == (2, 1)
            assert told.stderr.endswith(f"pip install 'devnest[{COMMANDS[name]}]'\n")
        assert (
            "Not installed: pip install 'devnest[server]'" in load.run("devnest", "--help").stdout
        )


@pytest.mark.usefixtures("index")
def test_with_the_extra_server_it_is_a_backend(built: Built, username: str) -> None:
    """It serves, with the PostgreSQL that came along, and `load` says what it lacks."""
    with environment(built.wheel, "server") as server, data_directory() as data_dir:
        assert asked_for(built.wheel, "server") | {"argon2-cffi"} <= server.packages
        assert "hdrhistogram" not in server.packages
        assert len(server.packages) <= MAX_PACKAGES["server"], sorted(server.packages)
        command = (str(server.bin / "devnest"),)
        options = ("--hash-scheme=argon2id",)
        devnest = DevNest(
            data_dir, *options, command=command, fresh=True, environment=COMPILED_ONCE
        ).start()
        try:
            with devnest.client() as client:
                sign_up(client, username)
            assert http.get(f"{devnest.url}/readyz").status_code == 200
        finally:
            status = devnest.stop()
        assert status == 0, devnest.log()
        told = server.run("devnest", "load", devnest.url)
        assert (told.returncode, told.stderr.count("\n")) == (2, 1)
        assert told.stderr.endswith("pip install 'devnest[load]'\n")
        for name in ("migrate", "calibrate", "user", "keys"):
            assert server.run("devnest", name, "--help").returncode == 0
