"""Shared by all processes: the loop, metrics, logs, crash points, and stopping."""
