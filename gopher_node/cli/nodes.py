"""Commands about nodes, the workers on them, and the handlers that they have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

from cyclopts import Parameter

from gopher_node.cli import show
from gopher_node.cli.connect import REMOTE, Remote
from gopher_node.cli.exits import Exit, UsageError
from gopher_node.cli.queues import age
from gopher_node.job import TYPE_NAME

if TYPE_CHECKING:
    from gopher_node.client import HandlerView

NodeId = Annotated[str, Parameter(name="ID", help="The node's id, as `gopher-node nodes` shows it.")]
TypeName = Annotated[str, Parameter(name="TYPE", help="The job type that the handler runs.")]


def health(*, remote: Remote = REMOTE) -> int:
    """
    Show how the node is.

    The exit code is 0 unless it is unhealthy.
    """
    with remote.connect() as client:
        found = client.health()
    if remote.json:
        show.write_json(found.raw)
    else:
        show.write_fields([("Status", found.status), *((name, shown(value)) for name, value in found.checks.items())])
    return Exit.FAILED if found.status == "unhealthy" else Exit.OK


def list_nodes(*, remote: Remote = REMOTE) -> None:
    """List the nodes that share the store, as each has told of itself within a minute."""
    with remote.connect() as client:
        found = [node.raw for node in client.nodes()]
    if remote.json:
        for node in found:
            show.write_json(node)
        return
    if not found:
        show.write("No node has told of itself yet.")
        return
    show.write_table(
        ("id", "role", "version", "started", "running", "slots", "busy", "completed", "failed", "state"),
        [
            (
                *(node.get(name) for name in ("id", "role", "version")),
                show.moment(node.get("started_at")),
                *(node.get(name) for name in ("running", "slots")),
                _percent(node.get("utilisation")),
                *(node.get(name) for name in ("completed", "failed")),
                node.get("status") or ("draining" if node.get("draining") else "ok"),
            )
            for node in found
        ],
    )


def show_node(node_id: NodeId, /, *, remote: Remote = REMOTE) -> int:
    """Show all about one node: what it runs, and how it fares."""
    from gopher_node.client import NodeNotFound

    try:
        with remote.connect() as client:
            found = client.node(node_id).raw
    except NodeNotFound:
        show.write_note(
            f"gopher-node: There is no node {node_id}, or it has been silent for a minute; "
            "`gopher-node nodes` lists those there are."
        )
        return Exit.NOT_FOUND
    if remote.json:
        show.write_json(found)
        return Exit.OK
    show.write_fields(
        [(name.replace("_", " ").capitalize(), _shown(name, value)) for name, value in found.items() if value != []]
    )
    return Exit.OK


def workers(*, remote: Remote = REMOTE) -> None:
    """
    List who runs jobs.

    The workers of the nodes, and those that fetch their jobs over HTTP, under the names that they give.
    """
    with remote.connect() as client:
        found = client.workers()
    items = [worker.raw for worker in found.items]
    if remote.json:
        for worker in items:
            show.write_json(worker)
        return
    if not items:
        show.write("Nobody runs jobs.")
        return
    show.write_table(
        ("name", "kind", "running", "slots", "busy", "completed", "failed", "last seen"),
        [
            (
                *(worker.get(name) for name in ("name", "kind", "running", "slots")),
                _percent(worker.get("utilisation")),
                *(worker.get(name) for name in ("completed", "failed")),
                show.moment(worker.get("last_seen")),
            )
            for worker in items
        ],
    )
    show.write_note(f"{show.count(found.workers, 'job')} can run at the same time on the nodes.")


def list_handlers(*, remote: Remote = REMOTE) -> None:
    """List the job types that can be run."""
    with remote.connect() as client:
        found = client.handlers()
    if remote.json:
        for handler in found:
            show.write_json(handler.raw)
        return
    show.write_table(
        ("type", "mode", "nodes", "timeout", "retries", "description"),
        [
            (
                handler.type,
                handler.mode,
                len(handler.nodes) if "nodes" in handler.raw else None,
                age(handler.timeout),
                handler.max_retries,
                handler.description.partition("\n")[0],
            )
            for handler in found
        ],
    )


def show_handler(type: TypeName, /, *, remote: Remote = REMOTE) -> int:
    """Show all about the handler of a job type, with the JSON schema of its payload."""
    if not TYPE_NAME.match(type):
        raise UsageError(f"{type!r} cannot be the name of a job type; `gopher-node handlers` lists those there are.")
    with remote.connect() as client:
        found = next((handler for handler in client.handlers() if handler.type == type), None)
    if found is None:
        show.write_note(f"gopher-node: No node has a handler for {type}; `gopher-node handlers` lists those there are.")
        return Exit.NOT_FOUND
    if remote.json:
        show.write_json(found.raw)
    else:
        _show_handler(found)
    return Exit.OK


def _show_handler(found: HandlerView) -> None:
    show.write_fields(
        [
            ("Type", found.type),
            ("Description", found.description or None),
            ("Mode", found.mode),
            ("Endpoint", found.endpoint),
            ("Priority", found.priority and found.priority.label),
            ("Timeout", age(found.timeout)),
            ("Retries", found.max_retries),
            ("Concurrency", found.concurrency),
            ("Nodes", ", ".join(found.nodes) or None),
        ]
    )
    show.write("\nPayload:")
    show.write(show.to_json(found.payload_schema, indent=True))


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.0f} %"


def _shown(name: str, value: Any) -> object:
    if name == "utilisation":
        return _percent(value)
    if (name.endswith("_at") or name == "last_seen") and isinstance(value, str):
        return show.moment(value)
    if isinstance(value, list):
        return ", ".join(str(item) for item in cast("list[Any]", value))
    return None if value is None else shown(value)


def shown(value: Any) -> str:
    """A check or another value with parts, on one line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, dict):
        return str(value)
    members: dict[str, Any] = dict(value)  # pyright: ignore[reportUnknownArgumentType]
    status = members.pop("status", None)
    rest = [f"{name}={item}" for name, item in members.items() if item is not None]
    return " ".join([*([str(status)] if status is not None else []), *rest])
