"""The arrows of docs/explanation/architecture.md: who may import whom, in parts and wings, and
never in a circle.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import devnest

ROOT = Path(devnest.__file__).parent
BASE = {
    "addresses",
    "busy",
    "exhaustion",
    "extras",
    "logs",
    "metrics",
    "process_registry",
    "settings",
    "shared_memory",
    "streams",
    "urls",
}
MAY_IMPORT = {
    "addresses": set[str](),
    "busy": set[str](),
    "exhaustion": set[str](),
    "extras": set[str](),
    "urls": set[str](),
    "settings": set[str](),
    "shared_memory": set[str](),
    "process_registry": {"shared_memory"},
    "metrics": {"process_registry", "shared_memory", "streams"},
    "keys": set[str](),
    "load": {"busy", "urls"},
    "pool": set[str](),
    "streams": set[str](),
    "logs": {"streams"},
    "bcrypt": set[str](),
    "passwords": {"bcrypt", "extras", "pool"},
    "contrib": {"bcrypt", "passwords", "pool"},
    "hashing": {"passwords", "pool"},
    "store": {"exhaustion", "urls"},
    "mail": {"addresses", "urls"},
    "api": {"addresses", "keys", "logs", "mail", "metrics", "passwords", "pool", "store"},
    "cluster": {"api", "hashing", "keys", "mail", "passwords", "pool", "store", *BASE},
    "experiment": {"busy", "load", "pool", "store"},
    "cli": {
        "api", "bcrypt", "cluster", "experiment", "keys", "load", "mail", "passwords", "pool", "store", *BASE,
    },
}  # fmt: skip

# A wing imports these modules and wings of its own part, and no others.
WINGS_MAY_IMPORT = {
    "pool.core": {"pool.errors", "pool.functions"},
    "pool.wire": {"pool.errors", "pool.functions"},
    "pool.runtime": {
        "pool.calls",
        "pool.context",
        "pool.core",
        "pool.errors",
        "pool.functions",
        "pool.wire",
    },
    "store.queries": {"store.connections", "store.database", "store.errors", "store.unavailable"},
    "store.postgres": {"store.connection_url", "store.errors"},
    "api.http": set[str](),
    "api.security": {"api.http"},
    "api.openapi": {"api.http"},
    "api.routes": {"api.http", "api.mails", "api.openapi", "api.security", "api.services"},
}
PURE = "pool.core"  # decisions: no I/O, no event loop, no clock
EFFECTS = {"asyncio", "os", "select", "signal", "socket", "subprocess", "threading", "time"}
ROOTS = {"__init__", "__main__"}  # of the distribution: its version, and `python -m devnest`


def name_of(path: Path) -> str:
    """`pool.core.tasks`, or `pool.core` for a package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in ROOT.rglob("*.py")}


def imports(path: Path) -> Iterator[str]:
    """What a module imports when it is used, absolute names.

    What only a type checker imports does not count.
    """
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner.removeprefix("devnest.") in MODULES else node.module
        pending += ast.iter_child_nodes(node)


def own(path: Path) -> set[str]:
    """The modules of DevNest that a module imports, without the prefix `devnest`."""
    names = {name.removeprefix("devnest.") for name in imports(path) if name.startswith("devnest.")}
    assert names <= set(MODULES), f"{path}: {names - set(MODULES)}"
    return names - {name_of(path)}


def is_within(module: str, package: str) -> bool:
    """Whether it is this package or in it."""
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize(
    "part", sorted({name.partition(".")[0] for name in MODULES} - {"", *ROOTS})
)
def test_nothing_points_back(part: str) -> None:
    """Each part imports only what its arrow points to."""
    for module, path in MODULES.items():
        if is_within(module, part):
            assert {name.partition(".")[0] for name in own(path)} - {part} <= MAY_IMPORT[part], (
                module
            )


@pytest.mark.parametrize("wing", WINGS_MAY_IMPORT)
def test_wings_import_what_they_may(wing: str) -> None:
    """Routes know security, security knows HTTP, and never the reverse.

    The pool's decisions know nothing.
    """
    part = wing.partition(".")[0]
    allowed = {wing, *WINGS_MAY_IMPORT[wing]}
    modules = {module: path for module, path in MODULES.items() if is_within(module, wing)}
    assert len(modules) > 1
    for module, path in modules.items():
        inside = {name for name in own(path) if is_within(name, part)}
        assert {
            name for name in inside if not any(is_within(name, one) for one in allowed)
        } == set(), module


def test_the_decisions_of_the_pool_have_no_effects() -> None:
    """`pool.core` imports neither asyncio nor anything else that acts on the world or reads a
    clock.
    """
    for module, path in MODULES.items():
        if is_within(module, PURE):
            assert {name.partition(".")[0] for name in imports(path)} & EFFECTS == set(), module


def test_there_is_no_circle() -> None:
    """No module imports itself by way of others."""
    graph = {module: own(path) for module, path in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, f"a circle: {' → '.join((*way[way.index(module) :], module))}"
        if module not in done:
            for imported in sorted(graph[module]):
                visit(imported, (*way, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())
