"""Metrics: what each process counts, and the `/metrics` page that shows all processes."""

from devnest.metrics.page import CONTENT_TYPE, write_page
from devnest.metrics.process import NO_ROUTE, Metrics

__all__ = ["CONTENT_TYPE", "NO_ROUTE", "Metrics", "write_page"]
