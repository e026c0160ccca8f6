"""Writers of a chaos run: processes that create, change and delete customers, and note what they were told.

They use custsvc's own service and stores, as the API does, with real transactions. What a write that failed
has done is not known to its writer; it is the checker's to find out that it did no harm.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import threading
import time
from collections.abc import Sequence
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from custsvc.config import Settings
from custsvc.domain.customers import Customer, Fields, utc_now
from custsvc.domain.events import new_change
from custsvc.errors import CustsvcError, TemporaryError
from custsvc.ports.customers import CustomerStore
from custsvc.service.customers import Caller, CustomerService
from custsvc.service.merging import Merge, Merged
from custsvc.stores import open_store
from custsvc.transfer.seed import made_up

_ME = Caller("chaos")
_THREADS = 4
_MET = ("CustomerDeleted", "CustomerMerged", "Conflict", "VersionConflict", "ValidationError")


class Writers:
    """`total` events on `customers` customers by processes that never write more than `allow` has allowed."""

    def __init__(
        self, routes: Sequence[Settings], customers: int, total: int, seed: int, folder: Path
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.total = total
        self._allowed = context.Value("q", 0)
        self._written = context.Value("q", customers)
        self._journals = [folder / f"writer-{n}.json" for n in range(len(routes))]
        self._processes = [
            context.Process(
                target=_write,
                args=(settings, customers, total, seed * 1000 + n, self._allowed, self._written, journal),
                daemon=True,
            )
            for n, (settings, journal) in enumerate(zip(routes, self._journals, strict=True))
        ]
        # The customers are there before the accidents begin; their events go the whole way, like all.
        with open_store(routes[0]) as store:
            _seed(store.customers, customers, seed)

    def start(self) -> None:
        for process in self._processes:
            process.start()

    @property
    def written(self) -> int:
        return int(self._written.value)

    def allow(self, count: int) -> None:
        self._allowed.value = count

    def finish(self) -> dict[str, Any]:
        """Wait for all of them; what they were told, put together.

        `told` are versions that a writer made itself; `seen` those that it may have found made, as when two
        delete the same customer.
        """
        for process in self._processes:
            process.join()
            assert process.exitcode == 0, f"a writer ended with {process.exitcode}"
        journals = [json.loads(path.read_text()) for path in self._journals]
        told: dict[int, list[int]] = {}
        for journal in journals:
            for customer, version in journal["told"]:
                told.setdefault(customer, []).append(version)
        return {
            "told": told,
            "seen": [tuple(each) for j in journals for each in j["seen"]],
            "unknown": sum(j["unknown"] for j in journals),
            "surprises": [s for j in journals for s in j["surprises"]],
        }


def _seed(store: CustomerStore, count: int, seed: int) -> None:
    """Customers 1, 2, 3 … without an address: it is not the mails that are to be the bulk of the work."""
    fields = made_up(count, seed)
    now = utc_now()
    for start in range(0, count, 1000):
        customers = [
            Customer(each, _silent(next(fields)), False, 1, now, _ME.actor, now, _ME.actor)
            for each in store.new_ids(min(1000, count - start))
        ]
        store.save_many([new_change("created", None, each, actor=_ME.actor) for each in customers])


def _silent(fields: Fields) -> Fields:
    return Fields(fields.name, None, fields.phone, fields.metadata)


def _write(
    settings: Settings,
    customers: int,
    total: int,
    seed: int,
    allowed: Synchronized[int],
    written: Synchronized[int],
    journal: Path,
) -> None:
    told: list[tuple[int, int]] = []
    seen: list[tuple[int, int]] = []
    unknown: list[str] = []
    surprises: list[str] = []

    def work(number: int) -> None:
        rng = random.Random(seed * 10 + number)
        fields = made_up(1 << 40, seed * 10 + number)
        while True:
            with written.get_lock():
                if written.value >= total:
                    return
                mine = written.value < allowed.value
                written.value += mine
            if not mine:
                time.sleep(0.02)
                continue
            while not _one(service, rng, customers, next(fields), told, seen, unknown, surprises):
                time.sleep(0.2)

    with open_store(settings) as store:
        service = CustomerService(store.customers)
        threads = [threading.Thread(target=work, args=(n,)) for n in range(_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = {"told": told, "seen": seen, "unknown": len(unknown), "surprises": surprises[:20]}
    journal.write_text(json.dumps(found))


def _one(
    service: CustomerService,
    rng: random.Random,
    customers: int,
    fields: Fields,
    told: list[tuple[int, int]],
    seen: list[tuple[int, int]],
    unknown: list[str],
    surprises: list[str],
) -> bool:
    """One write; False where nobody knows whether it happened, so that the same number is written again."""
    fields = _silent(fields)
    # A few customers get most of the changes.
    customer = min(int(rng.paretovariate(0.6)), customers)
    draw = rng.random()
    try:
        if draw < 0.05:
            stored = service.create(fields, _ME)
        else:
            current = service._store.get(customer)
            if current is not None and current.deleted:
                seen.append((customer, service.restore(customer, _ME).version))
                return True
            if draw < 0.07:
                seen.append((customer, service.delete(customer, _ME).version))
                return True
            if draw < 0.11:
                told.extend(_merge(service, rng, customer, customers, undo=draw >= 0.09).versions.items())
                return True
            stored = service.replace(customer, fields, _ME)
        told.append((stored.id, stored.version))
    except TemporaryError as exc:
        unknown.append(str(exc))
        return False
    except CustsvcError as exc:
        # Two writers met: one deleted or merged what the other was about to change. Nothing to undo is no
        # surprise either.
        if exc.__class__.__name__ not in _MET:
            surprises.append(f"{type(exc).__name__}: {exc}")
    except Exception as exc:  # noqa: BLE001 - shown in the report
        surprises.append(f"{type(exc).__name__}: {exc}")
    return True


def _merge(
    service: CustomerService, rng: random.Random, survivor: int, customers: int, *, undo: bool
) -> Merged:
    """Merge up to three others into a customer, or undo its newest merge."""
    if undo:
        return service.unmerge(survivor, _ME)
    others = {rng.randint(1, customers) for _ in range(rng.randint(1, 3))} - {survivor}
    merge = Merge.parse(survivor, {"from": sorted(others) or [survivor % customers + 1]})
    return service.merge(survivor, merge, _ME)
