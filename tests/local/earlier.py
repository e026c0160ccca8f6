"""Servers as earlier versions started them: without a password."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from custsvc.local import servers
from custsvc.local.kafka import Kafka
from custsvc.local.mongod import Mongod


class OpenMongod(Mongod):
    def prepare(self) -> None:
        self._data.mkdir(mode=0o700, exist_ok=True)

    def command(self) -> Sequence[str | Path]:
        ours = list(super().command())
        del ours[ours.index("--auth") : ours.index("--replSet")]
        return ours


class OpenKafka(Kafka):
    def prepare(self) -> None:
        super().prepare()
        self._password.unlink()

    def _properties(self) -> dict[str, str]:
        found = super()._properties()
        kept = {name: value for name, value in found.items() if "sasl" not in name}
        return {
            name: value.replace("SASL_PLAINTEXT", "PLAINTEXT").replace("CLIENTS", "PLAINTEXT")
            for name, value in kept.items()
        }


@contextmanager
def earlier_version() -> Iterator[None]:
    """Within the block MongoDB and Kafka are started so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(servers.KINDS, "mongo", OpenMongod)
        patch.setitem(servers.KINDS, "kafka", OpenKafka)
        yield
