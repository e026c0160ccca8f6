"""Jobs that outlive a request: a thread works and keeps its state on the shelf, for all processes."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import orjson

from ..errors import CustsvcError
from ..ports.facts import Facts
from ..ports.shelf import Shelf, Shelved
from ..service.leftovers import erased_since

logger = logging.getLogger(__name__)

_TELL_EVERY: Final = 0.3
# A job without a report for this long has died with its process.
_SILENT: Final = 30.0
# Reports that may name customers are kept for a day, others for a month.
_KEPT: Final = 86400.0
_KEPT_LONG: Final = 30 * 86400.0
# The longest time between a claim and the start of its job.
_STARTS_WITHIN: Final = 2.0

# Kinds whose results name customers.
_NAMING: Final = ("import", "import-plan", "bulk", "bulk-plan")

Progress = Callable[[int, int | None], None]


class Jobs:
    """The jobs of this installation, by id."""

    def __init__(self, shelf: Shelf, facts: Facts) -> None:
        self._shelf = shelf
        self._facts = facts

    def claim(self, name: str) -> tuple[str, bool]:
        """The id of the only job named `name`, and whether the caller must start it.

        A job that failed or whose process died is started again, so jobs must be able to resume.
        """
        mine = secrets.token_hex(8)
        job_id = self._shelf.keep(f"{Shelved.JOB_ONCE}{name}", mine.encode(), _KEPT).decode()
        if job_id == mine:
            return mine, True
        deadline = time.monotonic() + _STARTS_WITHIN
        while (job := self.find(job_id)) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return job_id, job is None or job["state"] in ("failed", "lost")

    def start(
        self,
        kind: str,
        by: str,
        work: Callable[[Progress], dict[str, Any]],
        *,
        job_id: str | None = None,
        **about: Any,
    ) -> str:
        """Start a job; returns its id. `work` gets a function that reports its progress: done, total."""
        job_id = job_id or secrets.token_hex(8)
        job: dict[str, Any] = {
            "id": job_id,
            "kind": kind,
            "state": "running",
            "by": by,
            "begun": time.time(),
            "beat": time.time(),
            "done": 0,
            "total": None,
            **about,
        }
        self._put(job)
        self._shelf.put(f"{Shelved.LAST_JOB}{kind}", job_id.encode(), _kept(kind))
        threading.Thread(target=self._run, args=(job, work), name=kind, daemon=True).start()
        return job_id

    def find(self, job_id: str) -> dict[str, Any] | None:
        """The job's current state: `lost` if its process died."""
        text = self._shelf.get(f"{Shelved.JOB}{job_id}") if job_id.isalnum() else None
        if text is None:
            return None
        job: dict[str, Any] = orjson.loads(text)
        if job["state"] == "running" and time.time() - job["beat"] > _SILENT:
            job["state"] = "lost"
        return job

    def last(self, kind: str) -> dict[str, Any] | None:
        """The last started job of this kind."""
        job_id = self._shelf.get(f"{Shelved.LAST_JOB}{kind}")
        return self.find(job_id.decode()) if job_id else None

    def _run(self, job: dict[str, Any], work: Callable[[Progress], dict[str, Any]]) -> None:
        saved_at = 0.0

        def progress(done: int, total: int | None = None) -> None:
            nonlocal saved_at
            job["done"], job["total"] = done, total if total is not None else job["total"]
            if time.monotonic() - saved_at > _TELL_EVERY:
                saved_at = time.monotonic()
                self._put(job)

        try:
            result = work(progress)
            if erased_since(self._facts, job["begun"]):
                # They may name a customer who was erased meanwhile.
                result |= {name: [] for name in ("rows", "examples") if name in result}
            job |= {"state": "done", "result": result}
        except CustsvcError as exc:
            job |= {"state": "failed", "error": str(exc)}
        except Exception:
            logger.exception("A job of the pages failed", extra={"action": "job_failed", "job": job["id"]})
            job |= {"state": "failed", "error": "unexpected failure; the log has the reason"}
        job["ended"] = time.time()
        try:
            self._put(job)
        except CustsvcError as exc:
            logger.warning("Cannot store the end of a job: %s", exc, extra={"action": "job_untold"})

    def _put(self, job: dict[str, Any]) -> None:
        job["beat"] = time.time()
        self._shelf.put(f"{Shelved.JOB}{job['id']}", orjson.dumps(job), _kept(job["kind"]))


def _kept(kind: str) -> float:
    return _KEPT if kind in _NAMING else _KEPT_LONG
