"""The web application: every resource's routes, and what surrounds them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

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
    autoscale,
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
    metrics,
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

if TYPE_CHECKING:
    from gopher_node.telemetry.traces import Traces

PROBES = (health, metrics)
WORKERS = (leases, lease_batches)
JOBS = (submitting, jobs, selections, events, logs, dead_letters, workflows)
QUEUES = (queues, rate_limits, breakers, handlers)
RESOURCES = (*JOBS, recurring, *QUEUES, nodes, stats, autoscale, keys, *WORKERS, aliases, docs, *PROBES)


def make_app(
    *,
    store: Store,
    registry: Registry,
    settings: Settings,
    events: Events,
    status: NodeStatus,
    traces: Traces | None = None,
) -> web.Application:
    """What a node with the role in its settings answers: a worker only to probes."""
    middlewares = [log_access, guard] if settings.log.level == "debug" else [guard]
    if traces is not None:
        middlewares.insert(0, _tracing(traces, settings.server.base_path))
    app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY)
    catalogue = Catalogue(store.nodes, registry, events.store_down)
    app[PARTS] = Parts(store, registry, settings, events, status, catalogue, traces)
    app[ACCESS] = Access(KeyRing(store.keys, settings.api_keys, events.store_down), settings.server)
    app.cleanup_ctx.append(keep_keys)
    if settings.role != "worker":
        app.cleanup_ctx.append(handlers.keep_catalogue)
    app.on_response_prepare.append(dress)
    if settings.server.cors_origins:
        allow_origins(app, settings.server.cors_origins)
    resources = PROBES if settings.role == "worker" else RESOURCES
    endpoints = tuple(endpoint for resource in resources for endpoint in resource.ENDPOINTS)
    if settings.metrics.anonymous:
        endpoints = tuple(replace(each, scope=None) if each is metrics.metrics else each for each in endpoints)
    base = settings.server.base_path
    probes = {probe.path for resource in PROBES for probe in resource.ENDPOINTS}
    for endpoint in endpoints:
        app.add_routes(endpoint.routes(base))
        if base and endpoint.path in probes:
            # Whoever probes a node asks it directly, and not through the proxy that the prefix is for.
            app.add_routes(endpoint.routes())
    leases.prepare(app)
    metrics.prepare(app)
    docs.document(app, endpoints)
    return app


def _tracing(traces: Traces, base: str) -> Any:
    from gopher_node.api.tracing import trace_requests  # nobody else needs what that imports

    paths = [path for probes in PROBES for probe in probes.ENDPOINTS for path in (probe.path, *probe.aliases)]
    return trace_requests(traces.provider, {prefix + path for path in paths for prefix in ("", base)})
