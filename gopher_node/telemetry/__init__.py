"""What a node says about itself: log lines, and the events that its parts report."""

from gopher_node.telemetry.events import Events
from gopher_node.telemetry.logs import Logger, bind_job, configure_logging, get_logger

__all__ = ["Events", "Logger", "bind_job", "configure_logging", "get_logger"]
