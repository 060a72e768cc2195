"""The command that finds out what is wrong with a set-up, and says how to mend it."""

from gopher_node.cli.doctor.command import doctor

__all__ = ["doctor"]
