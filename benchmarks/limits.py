"""The speed of the databases themselves: custsvc's statements by pgbench and bare pymongo, without HTTP."""

from __future__ import annotations

import multiprocessing
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from custsvc.bench.http import Kind
from custsvc.config import Settings

_DOC = "x" * 300
_SCRIPTS = Path(__file__).parent / "pgbench"


def postgres(settings: Settings, kind: Kind, customers: int, seconds: float) -> float | None:
    """Transactions a second of 8 connections; None where there is no pgbench, or no such statement."""
    program = shutil.which("pgbench")
    script = _SCRIPTS / f"{kind}.sql"
    if program is None or not script.exists():
        return None
    done = subprocess.run(
        [
            *(program, "--no-vacuum", "--protocol", "prepared", "--client", "8", "--jobs", "2"),
            *("--define", f"customers={customers}", "--time", str(max(1, round(seconds)))),
            *("--file", str(script), settings.postgres_url),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"tps = ([0-9.]+) \(without", done.stdout)
    return round(float(found[1])) if found else None


def mongo(settings: Settings, kind: Kind, customers: int, seconds: float) -> float | None:
    """Operations a second of two processes of four threads each."""
    if kind == "list":
        return None
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [
        context.Process(target=_mongo_worker, args=(settings.mongo_url, kind, customers, seconds, n, results))
        for n in range(2)
    ]
    for worker in workers:
        worker.start()
    total = sum(results.get(timeout=seconds + 60) for _ in workers)
    for worker in workers:
        worker.join()
    return round(total)


def _mongo_worker(url: str, kind: Kind, customers: int, seconds: float, number: int, results: Any) -> None:
    from pymongo import MongoClient, ReadPreference

    from custsvc.stores.mongo.connection import COMMITTED, DURABLE

    with MongoClient[dict[str, Any]](url) as client:
        database = client.get_default_database(None, None, ReadPreference.PRIMARY, DURABLE, COMMITTED)
        counts = [0] * 4
        began = time.perf_counter()
        threads = [
            threading.Thread(
                target=_mongo_thread,
                args=(database["customer"], kind, customers, began + seconds, number * 4 + n, counts, n),
            )
            for n in range(4)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        results.put(sum(counts) / (time.perf_counter() - began))


def _mongo_thread(
    collection: Any, kind: Kind, customers: int, until: float, seed: int, counts: list[int], place: int
) -> None:
    import random

    rng = random.Random(seed)  # noqa: S311 - load, no secret
    event = {"id": "x" * 36, "op": "updated", "payload": _DOC * 2, "pending": 1}

    def get() -> None:
        collection.find_one({"_id": rng.randint(1, customers)}, {"version": 1, "deleted": 1, "doc": 1})

    def post() -> None:
        document = {"_id": rng.randint(10**9, 2**62), "version": 1, "deleted": False, "doc": _DOC}
        collection.insert_one({**document, "outbox": [event]})

    def put() -> None:
        push = {"outbox": {"$each": [event], "$slice": -5}}
        change = {"$inc": {"version": 1}, "$set": {"doc": _DOC}, "$push": push}
        collection.update_one({"_id": rng.randint(1, customers)}, change)

    work: dict[Kind, Callable[[], None]] = {"get": get, "post": post, "put": put}
    while time.perf_counter() < until:
        work[kind]()
        counts[place] += 1
