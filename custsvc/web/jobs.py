"""Work that outlives a request: done by a thread, told of in the database, so any process can show it."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import orjson

from ..errors import CustsvcError
from ..ports.facts import Fact, Facts
from ..service.leftovers import erased_since

logger = logging.getLogger(__name__)

_TELL_EVERY: Final = 0.3
# A job that says nothing for so long has died with its process.
_SILENT: Final = 30.0
_KEPT: Final = 86400.0
# Between a claim and the start of its job there is next to nothing.
_STARTS_WITHIN: Final = 2.0

# Kinds whose results tell of customers.
_NAMING: Final = ("import", "import-plan")

Progress = Callable[[int, int | None], None]


class Jobs:
    """The jobs of this installation, by id."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def claim(self, name: str) -> tuple[str, bool]:
        """The id of the one job that does what `name` names, and whether it is for the caller to start.

        One that failed, or whose process died, is to be started again: it must be able to go on.
        """
        mine = secrets.token_hex(8)
        job_id = self._facts.keep(f"{Fact.JOB_ONCE}{name}", mine)
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
        """Begin; returns the id. `work` is given a function to tell how far it is, done of total."""
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
        self._facts.put(f"{Fact.LAST_JOB}{kind}", job_id)
        threading.Thread(target=self._run, args=(job, work), name=kind, daemon=True).start()
        return job_id

    def find(self, job_id: str) -> dict[str, Any] | None:
        """The job as it stands. One whose process died is `lost`."""
        text = self._facts.get(f"{Fact.JOB}{job_id}") if job_id.isalnum() else None
        if text is None:
            return None
        job: dict[str, Any] = orjson.loads(text)
        if job["state"] == "running" and time.time() - job["beat"] > _SILENT:
            job["state"] = "lost"
        return job

    def last(self, kind: str) -> dict[str, Any] | None:
        """The job of this kind that was started last."""
        job_id = self._facts.get(f"{Fact.LAST_JOB}{kind}")
        return self.find(job_id) if job_id else None

    def _run(self, job: dict[str, Any], work: Callable[[Progress], dict[str, Any]]) -> None:
        told = 0.0

        def progress(done: int, total: int | None = None) -> None:
            nonlocal told
            job["done"], job["total"] = done, total if total is not None else job["total"]
            if time.monotonic() - told > _TELL_EVERY:
                told = time.monotonic()
                self._put(job)

        try:
            result = work(progress)
            if "rows" in result and erased_since(self._facts, job["begun"]):
                result = {**result, "rows": []}  # they may name who was erased meanwhile
            job |= {"state": "done", "result": result}
        except CustsvcError as exc:
            job |= {"state": "failed", "error": str(exc)}
        except Exception:
            logger.exception("A job of the pages failed", extra={"action": "job_failed", "job": job["id"]})
            job |= {"state": "failed", "error": "it failed unexpectedly; the log has the reason"}
        job["ended"] = time.time()
        try:
            self._put(job)
        except CustsvcError as exc:
            logger.warning("The end of a job could not be kept: %s", exc, extra={"action": "job_untold"})

    def purge(self) -> None:
        """Forget jobs of yesterday, but for the last of each kind that names no customer."""
        last = self._facts.all(Fact.LAST_JOB)
        kept = {job_id for name, job_id in last.items() if name.removeprefix(Fact.LAST_JOB) not in _NAMING}
        for name, text in self._facts.all(Fact.JOB).items():
            job: dict[str, Any] = orjson.loads(text)
            if job["id"] not in kept and time.time() - job["beat"] > _KEPT:
                self._facts.drop(name)
                self._facts.drop(f"{Fact.JOB_ONCE}{job['id']}")

    def _put(self, job: dict[str, Any]) -> None:
        job["beat"] = time.time()
        self._facts.put(f"{Fact.JOB}{job['id']}", orjson.dumps(job).decode())
