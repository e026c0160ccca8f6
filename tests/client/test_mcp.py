"""`custsvc mcp`, driven by the protocol's own client: what an assistant may do, and what it must confirm."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from custsvc.accounts.keys import new_key
from custsvc.client import Client
from custsvc.config import Settings
from custsvc.mcp.confirm import LIFETIME, Confirmations, NotConfirmed
from custsvc.ports.store import Store
from custsvc.serve import create_app

READING = {"search_customers", "get_customer", "customer_history", "find_duplicates"}
Call = Callable[..., Awaitable[Any]]


def tools_of(client: Client) -> Any:
    """The server over this client. Its package takes a second to import, which few processes need."""
    pytest.importorskip("mcp")
    from custsvc.mcp.server import make_server

    return make_server(client)


def driven(server: Any, work: Callable[[Call, Any], Awaitable[None]]) -> None:
    """Run `work` with a caller of the server's tools, and the protocol's client."""

    mcp = pytest.importorskip("mcp")

    async def main() -> None:
        async with mcp.Client(server) as client:

            async def call(tool: str, **arguments: Any) -> Any:
                result = await client.call_tool(tool, arguments)
                text = result.content[0].text
                return text if result.is_error else json.loads(text)

            await work(call, client)

    anyio.run(main)


def test_an_assistant_finds_changes_and_merges_customers_and_confirms_what_goes(client: Client) -> None:
    async def work(call: Call, _: Any) -> None:
        ann = await call("create_customer", name="Ann Lee", email="ann@example.org")
        bob = await call("create_customer", name="A. Lee", phone="+49 30 1234")
        found = await call("search_customers", q="lee")
        assert [each["id"] for each in found["customers"]] == [ann["id"], bob["id"]]
        changed = await call(
            "update_customer", id=ann["id"], fields={"metadata": {"tier": "gold"}}, version=1
        )
        assert changed["version"] == 2
        assert "version 2, not 1" in await call(
            "update_customer", id=ann["id"], fields={"phone": "1"}, version=1
        )

        twin = await call("create_customer", name="Ann Lee", email="ANN@example.org")
        alike = (await call("find_duplicates", id=ann["id"]))["duplicates"]
        assert alike[0]["customer"]["id"] == twin["id"]
        assert alike[0]["score"] > 0.8

        merge = {"into": ann["id"], "others": [bob["id"]]}
        shown = await call("merge_customers", **merge)
        assert (shown["done"], shown["would_become"]["phone"]) == (False, "+49 30 1234")
        assert (await call("get_customer", id=bob["id"]))["version"] == 1
        assert "confirmation" in await call("merge_customers", **merge, confirm="made-up")
        merged = await call("merge_customers", **merge, confirm=shown["confirm"])
        assert merged["phone"] == "+49 30 1234"
        gone = await call("get_customer", id=bob["id"])
        assert "fix: use the customer that it became" in gone
        events = (await call("customer_history", id=ann["id"]))["events"]
        assert [each["op"] for each in events] == ["merged", "updated", "created"]
        assert (await call("unmerge_customer", id=ann["id"]))["phone"] is None

    driven(tools_of(client), work)


@pytest.mark.parametrize("backend", ["postgres"])
def test_a_customer_that_changed_after_the_preview_is_not_deleted(client: Client, backend: str) -> None:
    ann = client.create("Ann")

    async def work(call: Call, _: Any) -> None:
        shown = await call("delete_customer", id=ann.id)
        client.update(ann.id, {"phone": "1"})
        assert "version" in await call("delete_customer", id=ann.id, confirm=shown["confirm"])
        assert "confirmation" in await call("delete_customer", id=ann.id, confirm=shown["confirm"])
        shown = await call("delete_customer", id=ann.id)
        assert await call("delete_customer", id=ann.id, confirm=shown["confirm"]) == {
            "deleted": ann.id,
            "version": 3,
        }
        assert (await call("restore_customer", id=ann.id))["version"] == 4

    driven(tools_of(client), work)


@pytest.mark.parametrize("backend", ["postgres"])
def test_a_key_that_may_not_write_gives_tools_that_only_look(store: Store, backend: str) -> None:
    text, key = new_key("assistant", "read")
    store.keys.add(key)
    app = create_app(Settings(backend="postgres"), store)

    async def work(call: Call, of_protocol: Any) -> None:
        tools = (await of_protocol.list_tools()).tools
        assert {each.name for each in tools} == READING
        assert all(each.annotations.read_only_hint for each in tools)
        assert all(each.description for each in tools)
        refused = await call("get_customer", id=7)
        assert "there is no customer 7" in refused
        assert text not in refused

    with Client("http://localhost", text, transport=httpx.WSGITransport(app)) as reader:
        driven(tools_of(reader), work)


def test_a_confirmation_is_good_for_one_call_of_its_own_within_its_time() -> None:
    now = [0.0]
    confirmations = Confirmations(lambda: now[0])
    token = confirmations.ask(("delete", 7), {7: 1})

    with pytest.raises(NotConfirmed):
        confirmations.take(token, ("delete", 8))
    late = confirmations.ask(("delete", 7), {7: 1})
    now[0] += LIFETIME + 1
    with pytest.raises(NotConfirmed) as caught:
        confirmations.take(late, ("delete", 7))

    assert "without `confirm`" in (caught.value.fix or "")


@pytest.mark.parametrize("backend", ["postgres"])
def test_the_command_speaks_over_stdin_and_stdout(
    store: Store, backend: str, database_url: str, tmp_path: Path
) -> None:
    env = {"PATH": os.environ["PATH"], "CUSTSVC_LOCAL": "never", "CUSTSVC_POSTGRES_URL": database_url}
    command = pytest.importorskip("mcp").StdioServerParameters(
        command=sys.executable, args=["-m", "custsvc", "mcp"], env=env, cwd=tmp_path
    )

    async def work(call: Call, _: Any) -> None:
        made = await call("create_customer", name="Ann")
        assert made["created_by"] == "cli"
        assert (await call("search_customers", q="ann"))["count"] == 1

    driven(command, work)
    assert store.customers.count() == 1
