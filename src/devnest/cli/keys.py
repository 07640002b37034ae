"""`devnest keys`: lists and rotates the keys that sign access tokens."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from devnest.cli.errors import reported
from devnest.cli.options import DataDir
from devnest.keys import KEYS_FILE, Algorithm, KeySet, load_keys, rotate_keys
from devnest.store import default_data_dir

__all__ = ["keys"]

keys = typer.Typer(
    help="List and rotate the keys that sign access tokens. Running servers use a change within "
    "two seconds.",
    no_args_is_help=True,
    add_completion=False,
)


@keys.command("list")
def list_keys(data_dir: DataDir = None) -> None:
    """List the keys in use: the id, the algorithm and the state of each. No secret is shown."""
    with reported():
        found = load_keys(_directory(data_dir) / KEYS_FILE)
    _show(found)


@keys.command()
def rotate(
    algorithm: Annotated[
        Algorithm | None,
        typer.Option(
            help="The algorithm of the new key. EdDSA needs the extra eddsa.",
            show_default="that of the present key",
        ),
    ] = None,
    delay: Annotated[
        float,
        typer.Option(
            min=0,
            max=86400,
            help="Seconds until the new key signs. All servers must have read it by then, which "
            "takes two seconds.",
        ),
    ] = 30.0,
    discard_old: Annotated[
        bool,
        typer.Option(
            "--discard-old",
            help="Remove the old keys now, which ends every token that they have signed. For a "
            "key that has leaked.",
        ),
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Add a new key. The old one verifies until its last token expires: nobody is signed out."""
    with reported():
        directory = _directory(data_dir)
        rotate_keys(directory, algorithm, delay_s=delay, discard_old=discard_old)
        found = load_keys(directory / KEYS_FILE)
    _show(found)


def _directory(data_dir: Path | None) -> Path:
    return (data_dir or default_data_dir()).absolute()


def _show(found: KeySet) -> None:
    now = time.time()
    signer = found.signer(now)
    for ready in found.alive(now):
        if ready is signer:
            state = "signs"
        elif ready.key.signs_from > now:
            state = f"signs from {_time(ready.key.signs_from)}"
        else:
            state = f"verifies until {_time(ready.verifies_until)}"
        typer.echo(f"{ready.key.kid}  {ready.key.algorithm:5}  {state}")


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
