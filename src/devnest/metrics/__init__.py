"""`/metrics`: what each process counts, and the page on which any server tells it for all."""

from devnest.metrics.page import CONTENT_TYPE, write_page
from devnest.metrics.process import NO_ROUTE, Metrics

__all__ = ["CONTENT_TYPE", "NO_ROUTE", "Metrics", "write_page"]
