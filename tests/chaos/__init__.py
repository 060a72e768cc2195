"""Faults on purpose, against the whole, and what has to hold all the same. Not part of what is installed."""
