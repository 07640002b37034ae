"""The ASGI application: routes, their dependencies, and the frame around every request."""

from collections.abc import Sequence
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
from devnest.api.http.problems import respond_to
from devnest.api.http.request import ApiRequest
from devnest.api.openapi.documentation import openapi_config
from devnest.api.routes import auth, comments, health, jwks, passwords, posts, sessions, users
from devnest.api.security.admission import Admission
from devnest.api.services import Services

__all__ = ["create_app", "create_management_app"]

MANAGEMENT = [health.readyz, health.metrics]


def create_app(
    services: Services, cors_origins: Sequence[str] = (), *, with_management: bool = True
) -> ASGIApp:
    """The API on the given parts, which the caller opens and closes; for pages of these origins besides its own.

    Without `with_management` the routes that only `create_management_app` should have are left out.
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
    management = MANAGEMENT if with_management else []
    app = _litestar(services, [v1, jwks.read_keys, health.healthz, *management], openapi_config())
    admitted = Admission(app, services.hasher, services.throttle_cache)
    return RequestMiddleware(
        Cors(admitted, cors_origins) if cors_origins else admitted, services.metrics
    )


def create_management_app(services: Services) -> ASGIApp:
    """What an operator asks for, on a listener that the public does not reach."""
    return RequestMiddleware(
        _litestar(services, [health.healthz, *MANAGEMENT], None), services.metrics
    )


def _litestar(
    services: Services, routes: Sequence[ControllerRouterHandler], openapi: OpenAPIConfig | None
) -> Litestar:
    parsers_map[UUID] = canonical_id  # of every `{…:uuid}`; what it refuses is a 404
    app = Litestar(
        routes,
        request_class=type("ServedRequest", (ApiRequest,), {"services": services}),
        request_max_body_size=MAX_BODY_BYTES,
        exception_handlers={Exception: respond_to},
        openapi_config=openapi,
        logging_config=None,
    )
    _mend_options(app)
    return app


def _mend_options(app: Litestar) -> None:
    """Let OPTIONS name every method of its path; Litestar answers with those known when the first was registered."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            handler, _ = route.route_handler_map["OPTIONS"]
            handler._fn = route.create_options_handler(route.path).fn
