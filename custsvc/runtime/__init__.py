"""What every process has: its loop, metrics, logs, crash points, and how it is stopped."""
