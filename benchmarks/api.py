"""custsvc's API beside others on the same customers, with the same load, turn by turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

import limits
import services

from custsvc.bench import api, scratch
from custsvc.bench.http import KINDS, Kind, Target, load
from custsvc.config import Backend, Settings


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured: rounds of each server in turn, seconds of each kind of request."""

    customers: int = 100_000
    rounds: int = 3
    seconds: float = 4


@dataclass(slots=True)
class Server:
    """One of those that take turns, and what was seen of it."""

    name: str
    serve: Callable[[], AbstractContextManager[Target]]
    seen: dict[Kind, list[float]] = field(default_factory=dict)


def run(
    settings: Settings, plan: Plan, backends: list[Backend], say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """One row per backend and kind: each server's median, and custsvc's ratio to it."""
    return [row for backend in backends for row in _on(settings.replace(backend=backend), plan, say)]


def _on(settings: Settings, plan: Plan, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    backend = settings.backend
    fill, others, limit = (
        (services.fill_postgres, services.ON_POSTGRES, limits.postgres)
        if backend == "postgres"
        else (services.fill_mongo, services.ON_MONGO, limits.mongo)
    )
    with (
        api.seeded(settings, plan.customers, say) as ours,
        scratch.databases(settings, backend) as theirs,
    ):
        fill(theirs, plan.customers)
        url = theirs.url(backend)
        servers = [Server("custsvc", partial(_custsvc, ours))]
        servers += [Server(peer.name, partial(services.served, peer, url)) for peer in others]
        for number in range(1, plan.rounds + 1):
            for server in servers:
                say(f"round {number} of {plan.rounds} on {backend}: {server.name}")
                _measure(server, plan)
        bare = {kind: limit(ours, kind, plan.customers, plan.seconds) for kind in KINDS}
    for kind in KINDS:
        rates = {server.name: round(median(server.seen[kind])) for server in servers}
        ratios = {
            name: round(rates["custsvc"] / rate, 2) for name, rate in rates.items() if name != "custsvc"
        }
        yield {"backend": backend, "kind": kind, "rates": rates, "ratios": ratios, "bare": bare[kind]}


def _measure(server: Server, plan: Plan) -> None:
    with server.serve() as target:
        for kind in KINDS:
            load(target, kind, customers=plan.customers, seconds=1)
            found = load(target, kind, customers=plan.customers, seconds=plan.seconds)
            server.seen.setdefault(kind, []).append(found.rate)


@contextmanager
def _custsvc(settings: Settings) -> Iterator[Target]:
    with api.served(settings) as (target, _):
        yield target
