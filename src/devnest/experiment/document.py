"""Writes a session as Markdown between two comments of a page."""

from pathlib import Path

from devnest.experiment.session import Session
from devnest.experiment.story import headline
from devnest.experiment.table import HEAD, compared, ratios, remarks
from devnest.load import BadPlan

__all__ = ["check_section", "section", "write_section", "write_summary"]


def _marks(profile: str) -> tuple[str, str]:
    return f"<!-- devnest bench: {profile} -->", f"<!-- /devnest bench: {profile} -->"


def section(session: Session) -> str:
    """Return a session as Markdown: conditions, table, ratios, and the designs that failed."""
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
        f"{', '.join(versions)}{when}. Medians of the runs; failures are the sum. "
        "The generator and PostgreSQL share the cores.",
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
    valid = [run for run in session.runs if not run.void]
    if not valid:
        return "No run is valid."
    peak = max(run.generator_cpu_peak for run in valid)
    return (
        f"The generator used at most {peak:.0%} of a core in its busiest ten seconds "
        "(above 80 % a run is void)."
    )


def _parts(path: Path, profile: str) -> tuple[str, str]:
    """Return the page before and after the section, each with its comment."""
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
    """Check that a page has exactly one section for a profile.

    Args:
        path: The page.
        profile: The name of the profile.

    Raises:
        BadPlan: The page cannot be read, or has no such section or several.
    """
    _parts(path, profile)


def write_section(path: Path, session: Session) -> None:
    """Replace a page's section for the session's profile; the rest of the page stays.

    Args:
        path: The page.
        session: The session to write.

    Raises:
        BadPlan: The page cannot be read, or has no such section or several.
        OSError: The page cannot be written.
    """
    before, after = _parts(path, session.conditions.profile)
    path.write_text(f"{before}\n{section(session)}{after}", encoding="utf-8")


def write_summary(path: Path, session: Session) -> None:
    """Write a session as a Markdown file of its own, for a pull request: result and table.

    Args:
        path: The file; it is replaced.
        session: The session to write.

    Raises:
        OSError: The file cannot be written.
    """
    words = headline(session)
    lead = [f"**{'; '.join(words)}.**", ""] if words else []
    title = f"## devnest bench: {session.conditions.profile}"
    path.write_text("\n".join([title, "", *lead, section(session)]), encoding="utf-8")
