"""One change to many customers in a browser, whose server is killed in the middle of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from custsvc.domain.customers import format_time, utc_now
from custsvc.transfer.plan import CHUNK
from custsvc.transfer.seed import seed_customers
from tests.waiting import until

from ..site import Site

COUNT = 10_000
# Milliseconds; the machine may do other work.
_PATIENCE = 300_000


def state(site: Site, ids: list[int]) -> dict[int, tuple[int, Any]]:
    """The version and the tier of each customer."""
    with site.store() as store:
        found = store.customers.get_many(ids)
    return {key: (each.version, each.customer().fields.metadata["tier"]) for key, each in found.items()}


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("then", ["goes on", "is undone"])
def test_an_edit_of_ten_thousand_whose_server_is_killed_goes_on_or_is_undone(
    page: Page,
    site: Site,
    then: str,
) -> None:
    since = format_time(utc_now())
    word = "".join(part[0] for part in then.split()) + site.backend
    with site.store() as store:
        first = store.customers.new_ids(1)[0]
        seed_customers(store.customers, COUNT, 1)
        ids = list(range(first + 1, store.customers.new_ids(1)[0]))
    before = state(site, ids)
    assert len(before) == COUNT

    page.goto(f"/ui/customers?updated__gte={since}")
    page.get_by_label("Choose all on this page").check()
    page.get_by_label(re.compile("that match$")).check()
    page.locator("[data-bulk]").get_by_role("button", name="Edit").click()
    page.get_by_label("Field").select_option("metadata")
    page.get_by_label("Key of the metadata").fill("tier")
    page.get_by_label("New value").fill(word)
    page.get_by_role("button", name="Show what would happen").click()
    page.get_by_role("button", name=f"Change {COUNT:,} customers").click()
    page.wait_for_url(re.compile("/result/"))
    result = page.url
    page.goto("about:blank")  # which asks for nothing while there is no server
    until("some are changed", lambda: done(site, ids, word) > CHUNK)
    site.kill("serve")
    at_kill = done(site, ids, word)

    site.start("serve")
    page.goto(result)
    until("the page says so", lambda: page.reload() and page.get_by_text("ended half-way").count())
    half = done(site, ids, word)
    # Nobody went on. But a database ends the chunk that it was asked for, even if who asked is dead.
    assert CHUNK < half < COUNT
    assert 0 <= half - at_kill <= CHUNK
    if then == "goes on":
        page.get_by_role("button", name="Go on").click()
        expect(page.locator(".alert-good")).to_contain_text("Done.", timeout=_PATIENCE)
        assert state(site, ids) == {key: (version + 1, word) for key, (version, _) in before.items()}
    page.get_by_role("button", name=re.compile("^Undo")).click()
    page.get_by_role("button", name=re.compile("^Undo this")).click()
    expect(page.locator(".alert-good")).to_contain_text("Undone.", timeout=_PATIENCE)

    after = state(site, ids)
    changes = COUNT if then == "goes on" else half
    assert {key: tier for key, (_, tier) in after.items()} == {key: tier for key, (_, tier) in before.items()}
    assert sum(version for version, _ in after.values()) == sum(v for v, _ in before.values()) + 2 * changes
    verify = [sys.executable, "-m", "custsvc", "verify", "--wait", "120"]
    assert subprocess.run(verify, env={**os.environ, **site.env}, timeout=300).returncode == 0


def done(site: Site, ids: list[int], word: str) -> int:
    """How many of these customers have the new value."""
    return sum(tier == word for _, tier in state(site, ids).values())
