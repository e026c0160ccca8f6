"""The HTTP API: a Flask app over one store, and the server that runs it in several processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from ..config import Settings
    from ..ports.store import Store


def create_app(settings: Settings, store: Store | None = None) -> Flask:
    """The WSGI application. Without `store`, that of the settings; it connects at the first request."""
    # The server's main process imports this package but serves nothing: only its workers need Flask.
    from ..serve.app import build

    return build(settings, store)
