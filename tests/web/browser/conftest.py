"""One site and one browser for all modules here: to start them takes as long as ten tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from ..site import Site, Watched, browsing


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


# The browser tests run on one database; the others in tests/web run on both.
@pytest.fixture(scope="package", params=["postgres", pytest.param("mongo", marks=pytest.mark.long)])
def site(
    request: pytest.FixtureRequest,
    servers: Any,
    all_databases: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    made = {name: all_databases(name).migrated() for name in ("postgres", "mongo")}
    addresses = {f"CUSTSVC_{name.upper()}_URL": url for name, url in made.items()}
    addresses["CUSTSVC_KAFKA"] = servers.url("kafka")
    site = Site(tmp_path_factory.mktemp("site"), request.param, addresses)
    try:
        with closing(site):
            yield site.start()
    finally:
        for name, url in made.items():
            all_databases(name).drop(url)


@pytest.fixture
def watched(browser: Browser, site: Site) -> Iterator[Watched]:
    """A browser window; at the end nothing may have gone wrong in it."""
    with closing(Watched(browser, site.url)) as watched:
        yield watched
        assert watched.wrong == []


@pytest.fixture
def page(watched: Watched) -> Page:
    return watched.page()
