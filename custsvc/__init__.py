"""custsvc: a customer service whose every change is an event that cannot get lost."""

__version__ = "0.1.0"
