"""Nothing in the working directory is run: whoever may write there would run code as DevNest's
user.
"""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.metrics import SERVERS, pids, until
from tests.support import DevNest, http, prepare, sign_up
from tests.traps import Traps, imported_early

# What Python imports where PYTHONPATH says so, before any line of ours runs, and what our first
# lines import.
BEFORE_MAIN = {
    "_distutils_hack", "sitecustomize", "usercustomize",
    "annotated_doc", "click", "rich", "shellingham", "typer", "typing_extensions",
}  # fmt: skip
COMMANDS = {
    "devnest": [str(Path(sys.executable).with_name("devnest"))],
    "python -m devnest": [sys.executable, "-m", "devnest"],
    "python -c": [
        sys.executable,
        "-P",
        "-c",
        "import devnest.cli as cli, sys; sys.path.insert(0, ''); cli.main()",
    ],
}


@pytest.mark.parametrize("how", COMMANDS)
def test_serve_and_its_children_import_nothing_from_the_working_directory(
    data_dir: Path, tmp_path: Path, username: str, how: str
) -> None:
    """From its start over a sign-up, pages and a rolling restart to its end.

    Once with a database to make.
    """
    traps = Traps(
        tmp_path / "traps", but=imported_early(tmp_path) if how == "python -m devnest" else set()
    )
    devnest = DevNest(
        data_dir, command=COMMANDS[how], cwd=traps.path, fresh=how == "devnest"
    ).start()
    with devnest.client() as client:
        sign_up(client, username)
    for path in ("/metrics", "/readyz", "/docs", "/openapi.json"):
        assert http.get(devnest.url + path).status_code == 200
    before = pids(until(devnest.url, lambda page: pids(page, *SERVERS) != set()), *SERVERS)
    devnest.process.send_signal(signal.SIGHUP)
    until(
        devnest.url, lambda page: len(now := pids(page, *SERVERS)) == 1 and now.isdisjoint(before)
    )
    assert devnest.stop() == 0
    assert traps.found == ""


@pytest.mark.parametrize(
    "command", [["migrate"], ["user", "create", "ada", "ada@example.org"], ["keys", "list"]]
)
def test_other_commands_neither(data_dir: Path, tmp_path: Path, command: list[str]) -> None:
    """They start PostgreSQL where none runs."""
    prepare(data_dir)
    if command[0] == "keys":
        DevNest(data_dir).start().stop()
    traps = Traps(tmp_path / "traps")
    run = subprocess.run(
        [*COMMANDS["devnest"], *command, "--data-dir", data_dir],
        cwd=traps.path, input="correct horse battery\n", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert traps.found == ""


@pytest.mark.parametrize("entry", ["", ".", "traps"])
def test_a_relative_entry_of_the_import_path_is_not_for_the_children(
    data_dir: Path, tmp_path: Path, entry: str
) -> None:
    """An empty one is what `PYTHONPATH=$PYTHONPATH:/more` makes.

    Python itself has looked there for its own start.
    """
    traps = Traps(tmp_path / "traps", but={*sys.stdlib_module_names, *BEFORE_MAIN})
    inside = tmp_path if entry == "traps" else traps.path
    devnest = DevNest(
        data_dir, environment={"PYTHONPATH": f"{entry}:/no/such/directory"}, cwd=inside
    ).start()
    assert devnest.stop() == 0
    assert traps.found == ""


def test_a_program_of_others_keeps_its_working_directory(tmp_path: Path) -> None:
    """The pool and bcrypt are libraries: `python -m` of a package that uses them imports as
    ever.
    """
    (tmp_path / "neighbour.py").write_text("")
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "__init__.py").write_text("import devnest.pool\n")
    (tmp_path / "program" / "__main__.py").write_text("import neighbour\n")
    subprocess.run([sys.executable, "-m", "program", "devnest"], cwd=tmp_path, check=True)
