"""Metrics: what each process counts, and the `/metrics` page that shows all processes."""

from devnest.metrics.page import CONTENT_TYPE, write_page
from devnest.metrics.process import METHODS, NO_ROUTE, OTHER_METHOD, Metrics

__all__ = ["CONTENT_TYPE", "METHODS", "NO_ROUTE", "OTHER_METHOD", "Metrics", "write_page"]
