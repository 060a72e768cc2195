"""Measurements of the whole and its parts. Not part of what is installed."""
