"""A session as Markdown, put between two comments of a page; the rest of the page is left alone."""

from pathlib import Path

from devnest.experiment.session import Session
from devnest.experiment.table import HEAD, compared, ratios, remarks
from devnest.load import BadPlan

__all__ = ["check_section", "section", "write_section"]


def _marks(profile: str) -> tuple[str, str]:
    return f"<!-- devnest bench: {profile} -->", f"<!-- /devnest bench: {profile} -->"


def section(session: Session) -> str:
    """What stands between the comments: the conditions, the table, the ratios, and what is missing."""
    conditions, machine = session.conditions, session.machine
    versions = [
        f"DevNest {session.devnest}",
        f"Python {machine.python}",
        *([f"Node {session.node}"] * bool(session.node)),
    ]
    dates = sorted({run.started_at[:10] for run in session.runs})
    when = f", {' to '.join(dict.fromkeys((dates[0], dates[-1])))}" if dates else ""
    lines = [
        f"`{conditions.command}`, on {machine.processor}, {machine.cores} cores, {machine.system}; "
        f"{', '.join(versions)}{when}. Medians of the runs; failures are the sum. The generator and PostgreSQL share "
        "the cores.",
        "",
        _line(HEAD),
        _line(["---", *["---:"] * (len(HEAD) - 1)]),
        *map(_line, compared(session)),
        "",
        _generator(session),
        *(f"\n{line}" for line in (*ratios(session), *remarks(session))),
        *(
            f"\n{session.titles[trouble.design]}: {trouble.kind}, {trouble.reason}."
            for trouble in session.troubles
        ),
    ]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _generator(session: Session) -> str:
    sound = [run for run in session.runs if not run.void]
    if not sound:
        return "No run counts."
    return (
        f"The generator used at most {max(run.generator_cpu_peak for run in sound):.0%} of a core in its busiest ten "
        "seconds (above 80 % a run is void)."
    )


def _parts(path: Path, profile: str) -> tuple[str, str]:
    """The page before and after the section, the comments included."""
    begin, end = _marks(profile)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadPlan(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadPlan(f"{path} is not text") from None
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(end) < text.index(begin):
        raise BadPlan(
            f"{path} has no section to write: it needs the lines {begin} and {end}, once each"
        )
    return text[: text.index(begin) + len(begin)], text[text.index(end) :]


def check_section(path: Path, profile: str) -> None:
    """Raise `BadPlan` where `write_section` could not do its work."""
    _parts(path, profile)


def write_section(path: Path, session: Session) -> None:
    """Replace what stands between the two comments; raises `BadPlan`, `OSError`."""
    before, after = _parts(path, session.conditions.profile)
    path.write_text(f"{before}\n{section(session)}{after}", encoding="utf-8")
