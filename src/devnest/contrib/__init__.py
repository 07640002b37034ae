"""Adapters for frameworks; each module needs the package that it is named after."""
