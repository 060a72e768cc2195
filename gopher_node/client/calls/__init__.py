"""What a client can ask a node, by resource: each question as a value, with how its answer is read. No I/O here."""

from gopher_node.client.calls import dead_letters, flow, jobs, keys, leases, nodes, queues, recurring, workflows

__all__ = ["dead_letters", "flow", "jobs", "keys", "leases", "nodes", "queues", "recurring", "workflows"]
