"""A generator process; people use `devnest load`."""

from .generator import main

main()
