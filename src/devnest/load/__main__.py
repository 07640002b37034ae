"""A generator process; people use `devnest load`."""

from devnest.load.generator import main

main()
