"""`python -m devnest` is the `devnest` command."""

from devnest.cli import main

main()
