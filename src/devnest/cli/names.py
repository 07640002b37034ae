"""The commands there are, and the extra that each needs."""

__all__ = ["COMMANDS"]

# In the order of the help. Each is the name of a module here and of the function, or group of functions, in it.
COMMANDS = {
    "serve": "server",
    "migrate": "server",
    "calibrate": "server",
    "user": "server",
    "keys": "server",
    "load": "load",
    "bench": "all",
}
