"""The `devnest` command itself."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from devnest import __version__
from devnest.cli.commands import app
from devnest.cli.names import COMMANDS
from devnest.exhaustion import TRANSIENT_STATUS
from tests.support import PATIENCE_S


def test_it_says_its_version_and_its_commands() -> None:
    """Without loading any of them for the version."""
    assert CliRunner().invoke(app, ["--version"]).stdout == f"DevNest {__version__}\n"
    help_text = CliRunner().invoke(app, ["--help"]).stdout
    assert all(command in help_text for command in COMMANDS)


def test_a_umask_never_takes_files_from_who_makes_them(data_dir: Path) -> None:
    """With 777 everything made without a mode of its own would be closed to everybody."""
    command = [sys.executable, "-m", "devnest", "migrate", f"--data-dir={data_dir}"]
    done = subprocess.run(
        command, umask=0o777, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (data_dir / "postgres").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("descriptors", [6, 8, 10])
def test_a_machine_without_descriptors_is_told_in_one_line(
    descriptors: int, tmp_path: Path
) -> None:
    """Wherever they end, in an import too; and that another try may help."""
    done = subprocess.run(
        [sys.executable, "-m", "devnest", "serve", "--port=0", f"--data-dir={tmp_path}/d"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors)),
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == TRANSIENT_STATUS, done.stderr
    assert done.stderr.startswith("devnest: ")
    assert done.stderr.count("\n") == 1


def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    """As the installed completion asks for them, in a new home directory."""
    environment = {**os.environ, "HOME": str(tmp_path), "SHELL": "/bin/bash"}
    devnest = Path(sys.executable).with_name("devnest")
    installed = subprocess.run(
        [devnest, "--install-completion", "bash"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "installed" in installed.stdout
    assert ".bash_completions" in (tmp_path / ".bashrc").read_text()
    script = f"""
    source {tmp_path}/.bashrc
    COMP_WORDS=({devnest} $1 $2); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
    $(complete -p devnest | sed 's/.*-F \\([^ ]*\\) .*/\\1/') {devnest}
    echo "${{COMPREPLY[@]}}"
    """
    for words, expected in ((["migr"], "migrate"), (["bench", "--dem"], "--demo")):
        completed = subprocess.run(
            ["/bin/bash", "-c", script, "bash", *words],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert completed.stdout.split() == [expected]
