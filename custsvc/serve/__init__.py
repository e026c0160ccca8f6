"""The HTTP API: a Flask app over one store, and the server that runs it in several processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from ..config import Settings
    from ..ports.store import Store


def create_app(settings: Settings, store: Store | None = None) -> Flask:
    """The WSGI application. Without `store`, the one of the settings; nothing connects before a request."""
    # The server's main process imports this package and serves nothing: Flask is for its workers.
    from ..serve.app import build

    return build(settings, store)
