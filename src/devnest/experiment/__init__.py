"""The published experiment on this machine: each design started on a fresh database, loaded, stopped, compared."""

from devnest.experiment.conduct import NoDesign, Stopped, Teller, conduct, stages_of, started
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
    "NoDesign",
    "Run",
    "Session",
    "Stopped",
    "Teller",
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
