"""`serve`: the HTTP API and the pages."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from .common import (
    BackendOption,
    DataDirOption,
    LogFormatOption,
    LogLevelOption,
    claim_source,
    joined,
    settings_for,
    watch_parent,
)

if TYPE_CHECKING:
    from ..config import Settings
    from ..ports.store import Store
    from ..ports.waiting import Waiting
    from ..runtime.loop import Stop

# Seconds to wait for the database before the server listens without it.
_SOON = 3.0


def serve(
    backend: BackendOption = None,
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on.  [env: CUSTSVC_HTTP_HOST; default: 127.0.0.1]"),
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on.  [env: CUSTSVC_HTTP_PORT; default: 8000]")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes.  [env: CUSTSVC_WORKERS; default: 2]")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of each process.  [env: CUSTSVC_THREADS; default: 8]")
    ] = None,
    auth: Annotated[
        str | None,
        typer.Option(
            help="on, or off: no API key needed, loopback only.  [env: CUSTSVC_AUTH; default: on]",
            metavar="on|off",
        ),
    ] = None,
    require_if_match: Annotated[
        bool | None,
        typer.Option(
            "--require-if-match/--no-require-if-match",
            help="Refuse a write to a customer without If-Match.  [env: CUSTSVC_REQUIRE_IF_MATCH]",
        ),
    ] = None,
    read_only: Annotated[
        bool | None,
        typer.Option(
            "--read-only/--no-read-only",
            help="Serve the copy that --backend names, for reads only. Creates the indexes that lists need, "
            "if they are missing.  [env: CUSTSVC_READ_ONLY]",
        ),
    ] = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
    log_format: LogFormatOption = None,
) -> None:
    """Serve the HTTP API.

    Requests need an API key: create one with `custsvc keys create NAME --role write`.

    Example: custsvc serve --backend mongo --port 8080
    """
    settings = settings_for(
        "serve",
        ("backend",),
        backend=backend,
        http_host=host,
        http_port=port,
        workers=workers,
        threads=threads,
        auth=auth,
        require_if_match=require_if_match,
        read_only=read_only,
        data_dir=data_dir,
        log_level=log_level,
        log_format=log_format,
    )
    # Only the event stream and the status need Kafka; without it they answer an error.
    settings = joined(settings)
    from ..accounts.keys import check_exposure
    from ..runtime.extras import require
    from ..runtime.loop import Stop
    from ..serve import server
    from ..stores import open_store
    from ..stores.prepare import Preparing

    if settings.oidc_issuer:
        require("oidc")
    if settings.tracing != "off":
        require("otel")
    check_exposure(settings.auth, settings.http_host)
    server.check_port(settings.http_host, settings.http_port)
    watch_parent()
    stop = Stop()
    with open_store(settings) as store:
        opening = Preparing(store, partial(_open, settings, store, stop), stop).start()
        # Usually the database is ready at once; an error is then reported before the server listens.
        opening.join(_SOON)
        try:
            server.serve(settings, None if opening.is_done() else opening)
        finally:
            stop.ask()
        opening.is_done()


def _open(settings: Settings, store: Store, stop: Stop, waiting: Waiting) -> None:
    """Make the database ready to be served."""
    from ..stores.refill import refill_beside

    if settings.read_only:
        store.keys.all()  # raises if the database has no schema of custsvc
        _index_lists(store, waiting)
    else:
        store.migrate(waiting=waiting)
        claim_source(settings, store)
    refill_beside(store, stop)
    if settings.auth == "on":
        _warn_without_keys(store)


def _index_lists(store: Store, waiting: Waiting) -> None:
    """Create the indexes that lists need: `replicate` makes none. This role may lack the right to."""
    from ..errors import ConfigurationError

    try:
        store.index_lists(waiting)
    except ConfigurationError as exc:
        raise ConfigurationError(
            f"lists of a copy need indexes, which could not be created: {exc}",
            fix=f"custsvc migrate --backend {store.name}, once, as the owner of the copy",
        ) from exc


def _warn_without_keys(store: Store) -> None:
    import logging

    if not store.keys.all():
        logging.getLogger(__name__).warning(
            "There is no API key yet, so every request is refused; create one: "
            "custsvc keys create NAME --role write --backend %s",
            store.name,
            extra={"action": "no_keys"},
        )
