"""Liveness, readiness and status."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

from .. import __version__
from ..errors import CustsvcError, TemporaryError
from ..http.answer import Answer
from ..http.messages import json_answer, parameters
from ..http.problems import NO_KAFKA
from ..http.request import Request
from ..http.resource import ApiResource

logger = logging.getLogger(__name__)


class Live(ApiResource):
    """`/livez`: this process answers. It asks no other server, so a database outage restarts nothing."""

    public: ClassVar[bool] = True

    def get(self, _: Request) -> Answer:
        return json_answer({"status": "ok"})


class Ready(ApiResource):
    """`/readyz`: the database answers, and accepts writes if this app serves them. Otherwise 503."""

    public: ClassVar[bool] = True

    def get(self, _: Request) -> Answer:
        self.services.store.ping(writing=not self.services.settings.read_only)
        return json_answer({"status": "ok"})


class Status(ApiResource):
    """`/api/status`: what waits at each step, as `custsvc status` shows it."""

    def get(self, request: Request) -> Answer:
        parameters(request)
        store = self.services.store
        depth = store.outbox.depth()
        found, problem = self._steps()
        return json_answer(
            {
                "version": __version__,
                "backend": store.name,
                "outbox": {"waiting": depth.waiting, "oldest_age_s": round(depth.oldest_age, 3)},
                "steps": found,
                "problem": problem,
            }
        )

    def _steps(self) -> tuple[list[dict[str, Any]], str | None]:
        """The steps; without Kafka none, and the reason."""
        if not self.services.settings.kafka:
            return [], NO_KAFKA
        from ..copies.pipeline import steps

        try:
            with self.services.few_at_kafka():
                return steps(self.services.settings, self.services.store), None
        except CustsvcError as exc:
            logger.warning("The status is not whole: %s", exc, extra={"action": "status_partly"})
            return [], "Kafka does not answer" if isinstance(
                exc, TemporaryError
            ) else "Kafka has no such topic"
