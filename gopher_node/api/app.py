"""The web application: every resource's routes, and what surrounds them."""

from __future__ import annotations

from aiohttp import web

from gopher_node.api.access.auth import ACCESS, Access, keep_keys
from gopher_node.api.access.cors import allow_origins
from gopher_node.api.access.key_ring import KeyRing
from gopher_node.api.middleware import dress, guard, log_access
from gopher_node.api.parts import PARTS, Parts
from gopher_node.api.requests.bodies import MAX_BODY
from gopher_node.api.requests.catalogue import Catalogue
from gopher_node.api.resources import (
    aliases,
    breakers,
    dead_letters,
    docs,
    events,
    handlers,
    health,
    jobs,
    keys,
    lease_batches,
    leases,
    logs,
    nodes,
    queues,
    rate_limits,
    recurring,
    selections,
    stats,
    submitting,
    workflows,
)
from gopher_node.api.status import NodeStatus
from gopher_node.handlers import Registry
from gopher_node.settings import Settings
from gopher_node.store import Store
from gopher_node.telemetry import Events

PROBES = (health,)
WORKERS = (leases, lease_batches)
JOBS = (submitting, jobs, selections, events, logs, dead_letters, workflows)
QUEUES = (queues, rate_limits, breakers, handlers)
RESOURCES = (*JOBS, recurring, *QUEUES, nodes, stats, keys, *WORKERS, aliases, docs, *PROBES)


def make_app(
    *, store: Store, registry: Registry, settings: Settings, events: Events, status: NodeStatus
) -> web.Application:
    """What a node with the role in its settings answers: a worker only to probes."""
    middlewares = [log_access, guard] if settings.log.level == "debug" else [guard]
    app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY)
    catalogue = Catalogue(store.nodes, registry, events.store_down)
    app[PARTS] = Parts(store, registry, settings, events, status, catalogue)
    app[ACCESS] = Access(KeyRing(store.keys, settings.api_keys, events.store_down), settings.server)
    app.cleanup_ctx.append(keep_keys)
    if settings.role != "worker":
        app.cleanup_ctx.append(handlers.keep_catalogue)
    app.on_response_prepare.append(dress)
    if settings.server.cors_origins:
        allow_origins(app, settings.server.cors_origins)
    resources = PROBES if settings.role == "worker" else RESOURCES
    endpoints = tuple(endpoint for resource in resources for endpoint in resource.ENDPOINTS)
    base = settings.server.base_path
    for endpoint in endpoints:
        app.add_routes(endpoint.routes(base))
        if base and any(endpoint in probes.ENDPOINTS for probes in PROBES):
            # Whoever probes a node asks it directly, and not through the proxy that the prefix is for.
            app.add_routes(endpoint.routes())
    leases.prepare(app)
    docs.document(app, endpoints)
    return app
