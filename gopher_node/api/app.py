"""The web application: every resource's routes, and what surrounds them."""

from __future__ import annotations

from aiohttp import web

from gopher_node.api import dead_letters, handlers, health, jobs, queues, stats
from gopher_node.api.bodies import MAX_BODY
from gopher_node.api.middleware import guard, log_access
from gopher_node.api.parts import PARTS, Parts
from gopher_node.api.status import NodeStatus
from gopher_node.handlers import Registry
from gopher_node.settings import Settings
from gopher_node.store import Store
from gopher_node.telemetry import Events

PROBES = (health,)
RESOURCES = (jobs, dead_letters, queues, handlers, stats, *PROBES)


def make_app(
    *, store: Store, registry: Registry, settings: Settings, events: Events, status: NodeStatus
) -> web.Application:
    """What a node with the role in its settings answers: a worker only to probes."""
    middlewares = [log_access, guard] if settings.log.level == "debug" else [guard]
    app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY)
    app[PARTS] = Parts(store=store, registry=registry, settings=settings, events=events, status=status)
    for resource in PROBES if settings.role == "worker" else RESOURCES:
        for endpoint in resource.ENDPOINTS:
            app.add_routes(endpoint.routes())
    return app
