"""Without the kernel, or with a wrong one, everything still works on pyca/bcrypt, and says so."""

import subprocess
import sys
import textwrap

import pytest

import devnest.bcrypt
from tests.bcrypt.vectors import load

USE = """
from devnest import bcrypt
from devnest.bcrypt.backend import PROBLEM
from devnest.bcrypt.hashing import CostTooHigh
import bcrypt as pyca
salts = [bcrypt.gensalt(4) for _ in range(9)]
assert bcrypt.hashpw_many([b"a"] * 9, salts) == [pyca.hashpw(b"a", salt) for salt in salts]
assert bcrypt.checkpw_many([b"a"], [pyca.hashpw(b"a", salts[0])]) == [True]
assert bcrypt.hashpw(b"a", b"2b$+4$" + salts[0][7:]) == pyca.hashpw(b"a", salts[0])
try:
    bcrypt.checkpw(b"a", b"$2b$31$" + salts[0][7:], max_cost=14)
except CostTooHigh:
    print(bcrypt.LANES, PROBLEM)
"""

NO_KERNEL = """
import sys
sys.modules["devnest.bcrypt._kernel"] = None
"""

FOREIGN_KERNEL = """
import sys
from importlib.machinery import ExtensionFileLoader, ModuleSpec
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "devnest.bcrypt._kernel":
            return ModuleSpec(name, ExtensionFileLoader(name, sys.executable), origin=sys.executable)
sys.meta_path.insert(0, Finder())
"""

WRONG_KERNEL = """
import sys, types
import devnest.bcrypt._kernel as right
def digests(passwords, settings, lanes):
    digests = bytearray(right.digests(passwords, settings, lanes))
    if lanes == 6:
        digests[100] ^= 1
    return bytes(digests)
for name in [name for name in sys.modules if name.startswith("devnest")]:
    del sys.modules[name]
sys.modules["devnest.bcrypt._kernel"] = types.SimpleNamespace(digests=digests)
"""


def run(*parts: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter, warnings as errors but for the kernel's."""
    code = "".join(textwrap.dedent(part) for part in parts)
    return subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-W",
            "default:the bcrypt kernel:RuntimeWarning",
            "-c",
            code,
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


def test_without_the_kernel() -> None:
    """One lane, one warning that names the importing line and the remedy."""
    done = run(NO_KERNEL, USE)
    assert done.stdout.startswith("1 the bcrypt kernel is not compiled")
    (warning,) = done.stderr.splitlines()
    line = (NO_KERNEL + USE).splitlines().index("from devnest import bcrypt") + 1
    problem = (
        "the bcrypt kernel is not compiled: passwords are hashed by pyca/bcrypt, one at a time"
    )
    assert warning.startswith(f"<string>:{line}: RuntimeWarning: {problem}")
    assert "install a C compiler" in warning
    assert "circular" not in warning


def test_the_warning_can_be_hidden() -> None:
    """By the filter that the package's docstring gives."""
    code = (
        'import warnings; warnings.filterwarnings("ignore", "the bcrypt kernel", RuntimeWarning)\n'
    )
    assert code.strip().removeprefix("import warnings; ") in str(devnest.bcrypt.__doc__)
    assert run(code, NO_KERNEL, USE).stderr == ""


def test_with_a_kernel_of_another_machine() -> None:
    """A file that cannot be loaded is told with the loader's reason."""
    done = run(FOREIGN_KERNEL, USE)
    assert done.stdout.startswith("1 the bcrypt kernel cannot be loaded (")
    assert done.stderr.count("\n") == 1


def test_with_a_wrong_kernel() -> None:
    """One wrong digest in one width disables it."""
    done = run(WRONG_KERNEL, USE)
    assert done.stdout.startswith("1 the bcrypt kernel computes wrong answers")
    assert done.stderr.count("\n") == 1
    assert (
        "RuntimeWarning: the bcrypt kernel computes wrong answers on this machine and is not used"
        in done.stderr
    )


def test_with_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """No word in the log, and the lanes that were asked for."""
    monkeypatch.setenv("DEVNEST_LANES", "3")
    done = run(USE)
    assert (done.stdout, done.stderr) == ("3 \n", "")


def test_known_answers_are_published_ones() -> None:
    """The answers the kernel is held to at import are among the vectors."""
    from devnest.bcrypt.backend import KNOWN

    assert set(KNOWN) <= {tuple(vector) for vector in load(4)}
