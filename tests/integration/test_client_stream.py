"""Both clients follow the events of a real `serve` from a real Kafka, while the server is killed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from custsvc.client import AsyncClient, Client, Event, Latest
from custsvc.config import Settings
from custsvc.local import ports
from custsvc.ports.store import Store
from tests.chaos.roles import Role, serves
from tests.waiting import until

Seen = list[tuple[int, int, str]]
CUSTOMERS, CHANGES = 20, 5


@pytest.fixture
def backend() -> str:
    """Either: the stream is read from Kafka."""
    return "postgres"


@pytest.fixture
def serve(
    settings: Settings, store: Store, database_url: str, workers: Any, tmp_path: Path
) -> Iterator[tuple[Role, int]]:
    workers.relay(store)
    port = ports.choose()
    env = {
        "CUSTSVC_POSTGRES_URL": database_url,
        "CUSTSVC_LOCAL": "never",
        "CUSTSVC_KAFKA": settings.kafka,
        "CUSTSVC_TOPIC_UPDATES": settings.topic_updates,
        "CUSTSVC_PARTITIONS": str(settings.partitions),
        "CUSTSVC_WORKERS": "1",
    }
    role = Role(["serve", "--auth", "off", "--port", str(port)], env, tmp_path / "serve.log")
    try:
        yield role, port
    finally:
        role.kill()


def by_client(url: str, take: Callable[[Event], bool]) -> None:
    with Client(url) as client:
        for event in Latest()(client.events(from_beginning=True, within=120)):
            if take(event):
                return


def by_async_client(url: str, take: Callable[[Event], bool]) -> None:
    async def follow() -> None:
        async with AsyncClient(url) as client:
            async for event in Latest().of(client.events(from_beginning=True, within=120)):
                if take(event):
                    return

    anyio.run(follow)


async def _write(url: str, made: list[int], changes: int) -> None:
    """Customers made and changed by tasks that share one client."""
    async with AsyncClient(url) as client, anyio.create_task_group() as tasks:

        async def one(number: int) -> None:
            customer = await client.create(f"Customer {number}")
            for change in range(changes):
                customer = await client.update(customer.id, {"phone": str(change)}, version=customer.version)
            made.append(customer.id)

        for number in range(CUSTOMERS):
            tasks.start_soon(one, number)


def test_every_change_is_seen_once_and_in_order_over_a_killed_server(serve: tuple[Role, int]) -> None:
    role, port = serve
    url = f"http://127.0.0.1:{port}"
    role.start()
    until("the API answers", lambda: serves(port))
    seen: dict[str, Seen] = {"client": [], "async client": []}
    wanted = 2 * CUSTOMERS * (CHANGES + 1)

    def follower(name: str, follow: Callable[..., None]) -> threading.Thread:
        def take(event: Event) -> bool:
            seen[name].append((event.customer_id, event.version, event.op))
            return len(seen[name]) == wanted

        return threading.Thread(target=follow, args=(url, take), daemon=True)

    followers = [follower("client", by_client), follower("async client", by_async_client)]
    for each in followers:
        each.start()
    made: list[int] = []
    anyio.run(_write, url, made, CHANGES)
    until("both have seen some", lambda: all(seen.values()))
    role.kill()
    role.start()
    until("the API answers", lambda: serves(port))
    anyio.run(_write, url, made, CHANGES)
    for each in followers:
        each.join(120)

    expected = {
        customer_id: [(1, "created"), *[(n + 2, "updated") for n in range(CHANGES)]] for customer_id in made
    }
    for name, found in seen.items():
        by_customer: dict[int, list[tuple[int, str]]] = {}
        for customer_id, version, op in found:
            by_customer.setdefault(customer_id, []).append((version, op))
        assert by_customer == expected, name
