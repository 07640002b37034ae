"""The private names of other packages that DevNest uses, each package in one module only.

A new version cannot take one away unnoticed. pyproject.toml bounds those versions from above; a
bound is raised when this file passes on the new version.
"""

import ast
import inspect
import re
import tomllib
from pathlib import Path

import litestar.handlers
import litestar.routes
import uvicorn
import uvicorn.server
from litestar.routes.base import parsers_map
from packaging.requirements import Requirement
from uvicorn.protocols.http import httptools_impl

import devnest

ROOT = Path(devnest.__file__).parent
CONNECTIONS = ROOT / "cluster" / "connections.py"
APP = ROOT / "api" / "app.py"

PROTOCOL = {
    "client", "cycle", "flow", "headers", "loop", "parser", "pipeline", "scope", "server_state",
    "timeout_keep_alive", "timeout_keep_alive_task", "transport", "url",
    "_start_asgi_task", "_unset_keepalive_if_required", "connection_lost", "connection_made",
    "data_received", "on_header", "on_headers_complete", "on_message_begin", "on_message_complete",
    "on_response_complete", "pause_writing", "resume_writing", "shutdown",
    "timeout_keep_alive_handler",
}  # fmt: skip
CYCLE = {
    "disconnected", "keep_alive", "message_event", "more_body", "response_complete", "scope",
}  # fmt: skip
SERVER = {
    "capture_signals", "config", "force_exit", "servers", "server_state", "should_exit", "shutdown",
    "started", "startup",
}  # fmt: skip
SERVER_STATE = {"connections", "default_headers", "tasks"}
ROUTE = {"create_options_handler", "path", "route_handler_map"}
HANDLER = {"_fn", "fn"}


def members(of: type) -> set[str]:
    """What a class or its bases define, or their methods set on an instance."""
    sources = [inspect.getsource(base) for base in of.__mro__ if base.__module__ != "builtins"]
    assigned = {name for source in sources for name in re.findall(r"\bself\.(\w+)", source)}
    return (
        assigned
        | set(dir(of))
        | {field for base in of.__mro__ for field in inspect.get_annotations(base)}
    )


def test_what_is_used_is_there() -> None:
    """Every attribute, in the versions that are installed."""
    assert members(httptools_impl.HttpToolsProtocol) >= PROTOCOL
    assert members(httptools_impl.RequestResponseCycle) >= CYCLE
    assert members(uvicorn.Server) >= SERVER
    assert members(uvicorn.server.ServerState) >= SERVER_STATE
    assert members(litestar.routes.HTTPRoute) >= ROUTE
    assert members(litestar.handlers.HTTPRouteHandler) >= HANDLER
    assert parsers_map


def test_what_is_used_is_named_here() -> None:
    """The lists above are those of the code: nothing more of uvicorn's protocol is used, and
    nothing less.
    """
    tree = ast.parse(CONNECTIONS.read_text(encoding="utf-8"))
    (protocol,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
    inherited = members(httptools_impl.HttpToolsProtocol)
    used, of_cycle = set[str](), set[str]()
    for node in ast.walk(protocol):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            used.add(node.name)
        if not isinstance(node, ast.Attribute):
            continue
        owner = ast.unparse(node.value)
        if owner in ("self", "super()"):
            used.add(node.attr)
        elif owner in ("self.cycle", "cycle"):
            of_cycle.add(node.attr)
    own = {"__init__", "__class__"}
    assert (used & inherited) - own == PROTOCOL
    assert of_cycle == CYCLE


def test_they_are_reached_in_one_module_each() -> None:
    """Whoever moves to a new version has one place to look at."""
    private = {
        "uvicorn.protocols": CONNECTIONS,
        "uvicorn._": CONNECTIONS,
        "litestar.routes.base": APP,
        "._fn": APP,
    }
    for path in ROOT.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert {name for name, home in private.items() if name in text and path != home} == set(), (
            path
        )


def test_their_versions_are_bounded() -> None:
    """From above, since what is no promise changes without notice."""
    project = tomllib.loads((ROOT.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    bounded = {
        requirement.name
        for each in lists
        for requirement in map(Requirement, each)
        if any(part.operator == "<" for part in requirement.specifier)
    }
    assert bounded >= {"litestar", "uvicorn"}
