"""What `devnest bench` runs: it starts each design on a fresh database, loads it and compares."""

from devnest.experiment.conduct import DesignFailed, Observer, Stopped, conduct, started
from devnest.experiment.designs import DEFAULT_DESIGNS, DEMO, Design, choose, every_design
from devnest.experiment.document import check_section, section, write_section, write_summary
from devnest.experiment.junit import write_junit
from devnest.experiment.picture import picture
from devnest.experiment.remaining import whole_s
from devnest.experiment.report import report
from devnest.experiment.session import Conditions, Run, Session, Trouble
from devnest.experiment.story import headline
from devnest.experiment.table import HEAD, compared, fitting, ratios, remarks, void_runs

__all__ = [
    "DEFAULT_DESIGNS",
    "DEMO",
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
    "fitting",
    "headline",
    "picture",
    "ratios",
    "remarks",
    "report",
    "section",
    "started",
    "void_runs",
    "whole_s",
    "write_junit",
    "write_section",
    "write_summary",
]
