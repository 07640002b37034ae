"""`{devnest-routes}`: the table of the HTTP API's routes, made from its OpenAPI document."""

from typing import Any

from docutils import nodes
from litestar import Litestar
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from devnest.api.app import create_app


class Unused:
    """Stands for the services: the routes are only listed, and no request is made."""

    def __getattr__(self, name: str) -> None:
        return None


def framework(app: Any) -> Litestar:
    """Return the Litestar application within the middleware around it."""
    while not isinstance(app, Litestar):
        app = next(
            part
            for part in vars(app).values()
            if type(part).__module__.startswith(("devnest.", "litestar."))
        )
    return app


def rows() -> list[str]:
    """Return one row for each method of each path."""
    unused: Any = Unused()
    document: dict[str, Any] = framework(create_app(unused)).openapi_schema.to_schema()
    lines = ["| route | what it does | signed in | answers |", "| --- | --- | --- | --- |"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            signed_in = "yes" if "security" in operation else ""
            answers = ", ".join(sorted(operation["responses"]))
            lines.append(
                f"| `{method.upper()} {path}` | {operation['summary']} | {signed_in} | {answers} |"
            )
    return lines


class Routes(SphinxDirective):
    """The directive."""

    def run(self) -> list[nodes.Node]:
        """Parse the table in place."""
        return self.parse_text_to_nodes("\n".join(rows()))


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("devnest-routes", Routes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
