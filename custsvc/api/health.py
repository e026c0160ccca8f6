"""Whether the process lives, whether it can work, and how it stands."""

from __future__ import annotations

from typing import ClassVar

from flask import Response

from .. import __version__
from .messages import json_response, parameters
from .resource import ApiResource


class Live(ApiResource):
    """`/livez`: this process answers. It asks nobody else, so a database outage restarts nothing."""

    public: ClassVar[bool] = True

    def get(self) -> Response:
        return json_response({"status": "ok"})


class Ready(ApiResource):
    """`/readyz`: the database answers, so requests can be sent here. Otherwise 503, as any request gets."""

    public: ClassVar[bool] = True

    def get(self) -> Response:
        self.services.store.ping()
        return json_response({"status": "ok"})


class Status(ApiResource):
    """`/api/status`"""

    def get(self) -> Response:
        parameters()
        store = self.services.store
        depth = store.outbox.depth()
        return json_response(
            {
                "version": __version__,
                "backend": store.name,
                "outbox": {"waiting": depth.waiting, "oldest_age_s": round(depth.oldest_age, 3)},
            }
        )
