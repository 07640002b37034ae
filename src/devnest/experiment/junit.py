"""Writes a session as JUnit XML, which CI systems show as tests."""

from pathlib import Path
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from devnest.experiment.session import Run, Session, Trouble

__all__ = ["write_junit"]


def write_junit(path: Path, session: Session) -> None:
    """Write one test case for each run, and one for each design that could not be measured.

    A void run and a run with failed requests or checks are failures; a design that did not start
    or exited is an error; one that is not installed is skipped.

    Args:
        path: The file.
        session: The session.

    Raises:
        OSError: The file cannot be written.
    """
    cases = [_run(session, run) for run in session.runs]
    cases += [_trouble(session, trouble) for trouble in session.troubles]
    counts = {
        "tests": len(cases),
        "failures": sum(case.find("failure") is not None for case in cases),
        "errors": sum(case.find("error") is not None for case in cases),
        "skipped": sum(case.find("skipped") is not None for case in cases),
    }
    suite = Element(
        "testsuite",
        {"name": "devnest bench", **{name: str(count) for name, count in counts.items()}},
    )
    suite.extend(cases)
    root = Element("testsuites")
    root.append(suite)
    indent(root)
    ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _run(session: Session, run: Run) -> Element:
    case = Element(
        "testcase",
        {
            "classname": f"devnest.bench.{session.conditions.profile}",
            "name": f"{_clean(session.titles[run.design])}, run {run.round}",
            "time": f"{run.elapsed_s:.3f}",
        },
    )
    properties = SubElement(case, "properties")
    for name in ("requests", "requests_per_s", "p95_ms", "failed"):
        value = str(round(getattr(run, name), 3))
        SubElement(properties, "property", {"name": name, "value": value})
    if run.void:
        words = f"void: the generator used {run.generator_cpu_peak:.0%} of a core"
        SubElement(case, "failure", {"message": words})
    elif run.failed or run.failed_checks:
        words = f"{run.failed:,} requests and {run.failed_checks:,} checks failed"
        reasons = [f"{route}: {reason} ({count:,})" for route, reason, count in run.failures]
        SubElement(case, "failure", {"message": words}).text = _clean("\n".join(reasons))
    return case


def _trouble(session: Session, trouble: Trouble) -> Element:
    case = Element(
        "testcase",
        {
            "classname": f"devnest.bench.{session.conditions.profile}",
            "name": _clean(session.titles[trouble.design]),
        },
    )
    kind = "skipped" if trouble.kind == "skipped" else "error"
    SubElement(case, kind, {"message": _clean(trouble.reason)}).text = _clean(
        "\n".join(trouble.log)
    )
    return case


def _clean(text: str) -> str:
    """Return text without the control characters that XML forbids."""
    return "".join(char for char in text if char >= " " or char in "\t\n")
