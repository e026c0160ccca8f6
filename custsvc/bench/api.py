"""The API under load: `custsvc serve` on a scratch database with many customers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from custsvc.local import ports

from ..config import BACKENDS, Settings
from ..stores import open_store
from ..transfer.seed import seed_customers
from . import scratch
from .http import KINDS, Target, load, require_wrk, wait_for
from .report import Measure
from .roles import Role


def run(
    settings: Settings,
    customers: int,
    seconds: float,
    *,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Measure]:
    """The requests per second of each kind, on each backend."""
    require_wrk()
    for backend in BACKENDS:
        with seeded(settings.replace(backend=backend), customers, say) as s, served(s) as (target, role):
            for kind in KINDS:
                load(target, kind, customers=customers, seconds=1)
                found = load(target, kind, customers=customers, seconds=seconds)
                detail = f"p50 {found.p50_ms:g} ms, p99 {found.p99_ms:g} ms"
                yield Measure(f"{kind} on {backend}", found.rate, "requests/s", detail=detail)
            role.measure()


@contextmanager
def seeded(settings: Settings, customers: int, say: Callable[[str], None]) -> Iterator[Settings]:
    """Settings of a scratch database with `customers` customers, numbered from 1."""
    say(f"seeding {customers:,} customers into {settings.backend}")
    with scratch.databases(settings, settings.backend) as scratched:
        with open_store(scratched) as store:
            seed_customers(store.customers, customers, 1)
        yield scratched


@contextmanager
def served(settings: Settings) -> Iterator[tuple[Target, Role]]:
    """Run the API with these settings, by the real command."""
    target = Target(f"custsvc on {settings.backend}", ports.choose())
    with Role(settings, "serve", "--auth", "off", "--port", str(target.port)) as role:
        role.began("serving")
        wait_for(target)
        yield target, role
