"""The HTTP face: one module for each resource, and one place where errors become answers."""

from gopher_node.api.app import make_app
from gopher_node.api.server import ApiServer
from gopher_node.api.status import NodeStatus

__all__ = ["ApiServer", "NodeStatus", "make_app"]
