"""Names the commands, and the extra that each needs."""

__all__ = ["COMMANDS"]

# In the order of the help. Each name is that of a module of this package, and of the function or
# group of commands in it.
COMMANDS = {
    "serve": "server",
    "migrate": "server",
    "calibrate": "server",
    "user": "server",
    "keys": "server",
    "load": "load",
    "bench": "all",
    "compare": "load",
}
