"""What a node says about itself: log lines, and the events that its parts report."""

from gopher_node.telemetry.events import Events, TypeTotals
from gopher_node.telemetry.logs import Logger, bind_job, configure_logging, get_logger

__all__ = ["Events", "Logger", "TypeTotals", "bind_job", "configure_logging", "get_logger"]
