"""The arrows of docs/explanation/architecture.md: who may import whom."""

import ast
from pathlib import Path

import pytest

import devnest

ROOT = Path(devnest.__file__).parent
BASE = {"addresses", "census", "logs", "metrics", "settings", "shared_memory", "streams", "urls"}
MAY_IMPORT = {
    "addresses": set[str](),
    "urls": set[str](),
    "settings": set[str](),
    "shared_memory": set[str](),
    "census": {"shared_memory"},
    "metrics": {"census", "shared_memory", "streams"},
    "keys": set[str](),
    "load": {"urls"},
    "pool": set[str](),
    "streams": set[str](),
    "logs": {"streams"},
    "bcrypt": set[str](),
    "passwords": {"bcrypt"},
    "hashing": {"bcrypt", "passwords", "pool"},
    "store": {"urls"},
    "mail": {"addresses", "urls"},
    "api": {"addresses", "keys", "logs", "mail", "metrics", "passwords", "pool", "store"},
    "cluster": {"api", "hashing", "keys", "mail", "passwords", "pool", "store", *BASE},
    "bench": {"load", "pool", "store"},
    "cli": {"api", "bcrypt", "bench", "cluster", "keys", "load", "mail", "passwords", "pool", "store", *BASE},
}


def imports(path: Path) -> set[str]:
    """The parts of DevNest that a module names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "devnest":
            names = [f"devnest.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: a relative import"
            names = [node.module]
        found |= {name.split(".")[1] for name in names if name.startswith("devnest.")}
    return found - {"__version__"}


@pytest.mark.parametrize(
    "part", sorted(p.stem for p in ROOT.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists())
)
def test_nothing_points_back(part: str) -> None:
    """Each part imports only what its arrow points to."""
    if part in ("__init__", "__main__"):
        return
    modules = [ROOT / f"{part}.py"] if (ROOT / f"{part}.py").exists() else list((ROOT / part).rglob("*.py"))
    for module in modules:
        assert imports(module) - {part} <= MAY_IMPORT[part], module
