"""The program of a generator process. `devnest.load.run` starts it; people use `devnest load`."""

from devnest.load.generator import main

main()
