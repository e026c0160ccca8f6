"""custsvc's API beside other services, on the same customers and load, in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

import limits
import psutil
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
    serve: Callable[[], AbstractContextManager[tuple[Target, int]]]
    seen: dict[Kind, list[float]] = field(default_factory=dict)
    # Processor time per request in microseconds, of all processes of the server.
    cost: dict[Kind, list[float]] = field(default_factory=dict)


def run(
    settings: Settings, plan: Plan, backends: list[Backend], say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """One row per backend and kind: each server's medians, and custsvc's ratio to its rate."""
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
        costs = {server.name: round(median(server.cost[kind])) for server in servers}
        about = {"backend": backend, "kind": kind}
        yield about | {"rates": rates, "ratios": ratios, "cpu_us": costs, "bare": bare[kind]}


def _measure(server: Server, plan: Plan) -> None:
    with server.serve() as (target, pid):
        for kind in KINDS:
            load(target, kind, customers=plan.customers, seconds=1)
            before = _processor_time(pid)
            found = load(target, kind, customers=plan.customers, seconds=plan.seconds)
            used = _processor_time(pid) - before
            server.seen.setdefault(kind, []).append(found.rate)
            server.cost.setdefault(kind, []).append(used / found.requests * 1e6)


def _processor_time(pid: int) -> float:
    """Seconds of processor time, the system's included, that a process and those below it have used."""
    process = psutil.Process(pid)
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


@contextmanager
def _custsvc(settings: Settings) -> Iterator[tuple[Target, int]]:
    with api.served(settings) as (target, role):
        yield target, role.pid
