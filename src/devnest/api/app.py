"""The ASGI application: the routes, and the middleware around them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from litestar import Litestar, Router
from litestar.openapi import OpenAPIConfig
from litestar.routes import HTTPRoute
from litestar.routes.base import parsers_map
from litestar.types import ASGIApp, ControllerRouterHandler

from devnest.api.http.bodies import MAX_BODY_BYTES
from devnest.api.http.cors import Cors
from devnest.api.http.ids import canonical_id
from devnest.api.http.middleware import RequestMiddleware
from devnest.api.http.problems import handle_exception
from devnest.api.http.request import ApiRequest
from devnest.api.openapi.documentation import openapi_config
from devnest.api.routes import auth, comments, health, jwks, passwords, posts, sessions, users
from devnest.api.security.admission import Admission
from devnest.api.services import Services

if TYPE_CHECKING:
    from devnest.api.tracing import Tracer

__all__ = ["create_app", "create_management_app"]

MANAGEMENT_ROUTES = [health.readyz, health.metrics]


def create_app(
    services: Services,
    cors_origins: Sequence[str] = (),
    *,
    with_management: bool = True,
    tracer: "Tracer | None" = None,
) -> ASGIApp:
    """Make the application of the public listener.

    Args:
        services: The parts behind the API, which the caller opens and closes.
        cors_origins: The other origins whose pages may read responses, or `*` for all.
        with_management: Whether `/readyz` and `/metrics` are part of it. False if a separate
            listener serves `create_management_app`.
        tracer: Records sampled requests.
    """
    v1 = Router(
        "/api/v1",
        route_handlers=[
            auth.register,
            auth.login,
            *sessions.ROUTES,
            *passwords.ROUTES,
            *users.ROUTES,
            *posts.ROUTES,
            *comments.ROUTES,
        ],
    )
    management = MANAGEMENT_ROUTES if with_management else []
    app = _litestar(services, [v1, jwks.read_keys, health.healthz, *management], openapi_config())
    admitted = Admission(app, services.hasher, services.throttle_cache)
    return RequestMiddleware(
        Cors(admitted, cors_origins) if cors_origins else admitted, services.metrics, tracer
    )


def create_management_app(services: Services) -> ASGIApp:
    """Make the application of the management listener: `/healthz`, `/readyz` and `/metrics`.

    Args:
        services: The parts behind the API, which the caller opens and closes.
    """
    return RequestMiddleware(
        _litestar(services, [health.healthz, *MANAGEMENT_ROUTES], None), services.metrics
    )


def _litestar(
    services: Services, routes: Sequence[ControllerRouterHandler], openapi: OpenAPIConfig | None
) -> Litestar:
    parsers_map[UUID] = canonical_id  # for every `{…:uuid}` in a path; a ValueError becomes a 404
    app = Litestar(
        routes,
        request_class=type("ServedRequest", (ApiRequest,), {"services": services}),
        request_max_body_size=MAX_BODY_BYTES,
        exception_handlers={Exception: handle_exception},
        openapi_config=openapi,
        logging_config=None,
    )
    _list_all_methods(app)
    return app


def _list_all_methods(app: Litestar) -> None:
    """Let OPTIONS list every method of its path.

    Litestar makes the OPTIONS handler of a path with its first route, and omits later methods.
    """
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            handler, _ = route.route_handler_map["OPTIONS"]
            handler._fn = route.create_options_handler(route.path).fn
