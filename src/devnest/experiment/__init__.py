"""What `devnest bench` runs: it starts each design on a fresh database, loads it and compares."""

from devnest.experiment.conduct import DesignFailed, Observer, Stopped, conduct, stages_of, started
from devnest.experiment.designs import DEFAULT_DESIGNS, Design, choose, every_design
from devnest.experiment.document import check_section, section, write_section
from devnest.experiment.report import report
from devnest.experiment.session import Conditions, Run, Session, Trouble
from devnest.experiment.table import HEAD, compared, ratios, remarks, void_runs

__all__ = [
    "DEFAULT_DESIGNS",
    "HEAD",
    "Conditions",
    "Design",
    "DesignFailed",
    "Observer",
    "Run",
    "Session",
    "Stopped",
    "Trouble",
    "check_section",
    "choose",
    "compared",
    "conduct",
    "every_design",
    "ratios",
    "remarks",
    "report",
    "section",
    "stages_of",
    "started",
    "void_runs",
    "write_section",
]
