"""Installs a peer at its first use and runs it: `python benchmarks/peers/start.py PEER [VARIANT]`.

Without arguments it lists the peers and their variants. The environment variables PORT,
DATABASE_URL, BCRYPT_COST and PROCESSES configure the peer.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parent
EXIT_NOT_INSTALLED = 69  # sysexits' EX_UNAVAILABLE: this machine lacks what the peer needs


def peers() -> dict[str, dict[str, Any]]:
    """Return the descriptions of all peers, by the name of their folder."""
    return {
        path.parent.name: tomllib.loads(path.read_text())
        for path in sorted(HERE.glob("*/peer.toml"))
    }


def install(folder: Path, peer: dict[str, Any]) -> None:
    """Run the peer's install commands, once for each change of the files that pin its versions."""
    pins = hashlib.sha256(
        b"".join((folder / name).read_bytes() for name in peer["pins"])
    ).hexdigest()
    marker = folder / ".installed"
    if marker.exists() and marker.read_text() == pins:
        return
    for command in peer["install"]:
        words = [sys.executable if word == "{python}" else word for word in command]
        subprocess.run(words, cwd=folder, check=True, stdout=sys.stderr)
    marker.write_text(pins)


def stop(words: str, status: int) -> NoReturn:
    sys.stderr.write(f"{words}\n")
    sys.exit(status)


def main() -> None:
    known = peers()
    if len(sys.argv) == 1:
        for name, peer in known.items():
            for variant, what in peer["variants"].items():
                print(f"{name} {variant}: {peer['title']}, {what['title']}")
        return
    name = sys.argv[1]
    if name not in known:
        stop(f"no peer {name}; there are {', '.join(known)}", 2)
    peer = known[name]
    variant = sys.argv[2] if len(sys.argv) > 2 else next(iter(peer["variants"]))
    if variant not in peer["variants"]:
        stop(f"no variant {variant} of {name}; there are {', '.join(peer['variants'])}", 2)
    if missing := [program for program in peer["needs"] if shutil.which(program) is None]:
        stop(f"not installed here: {', '.join(missing)}", EXIT_NOT_INSTALLED)
    if not os.environ.get("DATABASE_URL"):
        stop("DATABASE_URL is not set: benchmarks/peers/README.md has an example", 2)
    folder = HERE / name
    try:
        install(folder, peer)
    except subprocess.CalledProcessError as error:
        stop(f"its installation failed ({error})", EXIT_NOT_INSTALLED)
    what = peer["variants"][variant]
    environment = {**os.environ, **what["environment"]}
    if "processes" in what:
        environment["PROCESSES"] = str(what["processes"])
    os.chdir(folder)
    os.execvpe(peer["start"][0], peer["start"], environment)


if __name__ == "__main__":
    main()
