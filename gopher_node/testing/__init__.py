"""
For tests of handlers: a node without a server, whose jobs run when the test says so and whose clock the test moves.

It needs the extra `testing`: `pip install "gopher-node[testing]"`.
"""

from gopher_node.testing.blocking import SyncTestNode
from gopher_node.testing.node import RunFailed, SubmitOptions, TestNode

__all__ = ["RunFailed", "SubmitOptions", "SyncTestNode", "TestNode"]
