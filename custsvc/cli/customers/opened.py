"""Where the commands of customers work: over an API, or at a database by the same handlers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..common import BackendOption, DataDirOption, claim_source, expect_source, load, settings_for

if TYPE_CHECKING:
    from ...client import Client
    from ...config import Settings


def _checked_api(url: str | None) -> str | None:
    if url is not None and not url.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{url!r} is not an address as http://localhost:8000")
    return url


ApiOption = Annotated[
    str | None,
    typer.Option(
        "--api",
        help="The API to work with, as http://localhost:8000; without it, the database.  "
        "[env: CUSTSVC_API_URL, its key: CUSTSVC_API_KEY]",
        metavar="URL",
        callback=_checked_api,
    ),
]
__all__ = ["ApiOption", "BackendOption", "DataDirOption", "opened"]

ACTOR = "cli"


@contextmanager
def opened(
    api: str | None, backend: str | None, data_dir: Path | None, *, writes: bool = False
) -> Iterator[Client]:
    """A client of the API where one is named, else of the database; a named --backend goes first."""
    if api and backend:
        raise typer.BadParameter("goes without --backend", param_hint="--api")
    settings = load({"api_url": api, "backend": backend, "data_dir": data_dir})
    from ...client import Client

    if settings.api_url and not backend:
        settings_for("customers", (), api_url=api, data_dir=data_dir)
        with Client(settings.api_url, settings.api_key or None) as client:
            yield client
        return
    settings = settings_for("customers", ("backend",), start=False, backend=backend, data_dir=data_dir)
    with _at_database(settings, writes=writes) as client:
        yield client


@contextmanager
def _at_database(settings: Settings, *, writes: bool) -> Iterator[Client]:
    from ...client import Client
    from ...ports.facts import Fact
    from ...serve.inside import api_inside
    from ...stores import open_store

    with open_store(settings) as store:
        if writes:
            store.migrate()
            expect_source(store)
            claim_source(settings, store)
        # The role stands in the database; the schema is there, or this says how to make it.
        is_copy = store.facts.get(Fact.ROLE) == "copy"
        with Client.of_app(api_inside(settings.replace(read_only=is_copy), store, ACTOR)) as client:
            yield client
