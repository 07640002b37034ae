"""`devnest calibrate`: measures bcrypt on this machine."""

from json import dumps
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from devnest.bcrypt.calibration import Calibration, calibrate_machine
from devnest.bcrypt.lanes import remember
from devnest.busy import MAX_BUSY_SHARE, busy
from devnest.pool import usable_cpus

__all__ = ["calibrate"]

_LOOK_S = 0.5  # how long to look for other programs before the measurement


def calibrate(
    target_ms: Annotated[
        float,
        typer.Option(
            min=0.001,
            help="How many milliseconds a batch of hashes may take. The proposed cost is the "
            "highest within this time.",
        ),
    ] = 250.0,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a table.")
    ] = False,
) -> None:
    """Measure bcrypt on this machine, remember the best lane count, and propose a cost.

    A lane is one of several hashes that one core computes at the same time. DevNest uses the
    remembered count whenever this user starts it on this machine. Other programs change the
    figures, so nothing is remembered while they use more than a tenth of the CPU time.
    """
    others = busy(_LOOK_S)
    disturbed = others is not None and others > MAX_BUSY_SHARE
    result = calibrate_machine(target_ms, usable_cpus())
    remembered = None if result.problem or disturbed else _remember(result.lanes)
    if json:
        found = {"remembered": remembered is not None, "others": others}
        typer.echo(dumps(result.as_dict() | found))
        return
    _tell(result)
    if remembered:
        typer.echo(
            f"Remembered for this user on this machine in {remembered}; DEVNEST_LANES overrules it."
        )
        typer.echo("Other work on the machine changes the figures: measure twice while it is idle.")
    elif disturbed:
        typer.echo(
            f"Nothing is remembered: other programs used {others:.0%} of the CPU time right before, "
            "which changes the figures. Measure again while the machine is idle."
        )


def _remember(lanes: int) -> Path | None:
    try:
        return remember(lanes)
    except (OSError, RuntimeError) as error:  # RuntimeError: no home directory
        typer.echo(f"devnest: the lane count could not be remembered: {error}", err=True)
        return None


def _tell(result: Calibration) -> None:
    rates = result.rates
    table = Table(title=f"bcrypt: {result.cpu}, {_cores(result.cores)}")
    cost = result.stated_cost
    columns = f"hashes/s of a core, cost {cost}", "beside pyca/bcrypt", f"ms a batch, cost {cost}"
    for column in ("", *columns):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("pyca/bcrypt", f"{rates.pyca:.1f}", "1.00", f"{1000 / rates.pyca:.0f}")
    for lanes, rate in enumerate(rates.kernel, start=1):
        chosen = " *" if lanes == result.lanes else ""
        name = f"{lanes} lane{'s' * (lanes > 1)}{chosen}"
        table.add_row(
            name, f"{rate:.1f}", f"{rate / rates.pyca:.2f}", f"{rates.batch_ms(lanes):.0f}"
        )
    console = Console(highlight=False)
    console.print(table)
    if result.problem:
        console.print(
            f"bcrypt runs without lanes, on pyca/bcrypt: {result.problem}.", soft_wrap=True
        )
    else:
        console.print(
            f"Lanes: {result.lanes} (*), {result.ratio:.2f} times pyca/bcrypt.", soft_wrap=True
        )
    within = "within" if result.target_met else "the lowest there is; over"
    console.print(
        f"Cost: {result.cost}, {within} {result.target_ms:g} ms: a batch of {result.lanes} takes "
        f"{result.batch_ms:.0f} ms.\n"
        f"Sign-ins: {result.sign_ins_per_s:.1f} a second at that cost, of all cores.",
        soft_wrap=True,
    )


def _cores(count: int) -> str:
    return f"{count} cores at once" if count > 1 else "one core"
