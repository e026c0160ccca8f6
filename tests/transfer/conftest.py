"""Files of customers, and helpers to import and export them."""

from __future__ import annotations

import io
from typing import Any

import orjson
import pytest

from custsvc.domain.customers import Fields
from custsvc.ports.customers import CustomerFilter
from custsvc.ports.store import Store
from custsvc.service.customers import Caller, CustomerService
from custsvc.transfer.export import Format, export
from custsvc.transfer.imported import Imports
from custsvc.transfer.load import Options, Report, load
from custsvc.transfer.meaning import Meaning
from custsvc.transfer.rows import Reading, read

ME = Caller("me", "r1")


class Transfer:
    """Imports and exports of one store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.service = CustomerService(store.customers)

    def create(self, name: str = "Ada", **fields: Any) -> int:
        return self.service.create(Fields(name, **fields), ME).id

    def get(self, customer_id: int) -> dict[str, Any]:
        stored = self.store.customers.get(customer_id)
        assert stored is not None
        return dict(orjson.loads(stored.doc))

    def load(
        self, file: bytes | list[Any], fmt: Any = None, *, caller: Caller = ME, **options: Any
    ) -> Report:
        """Import a file, or a list of rows as NDJSON."""
        text = file if isinstance(file, bytes) else b"\n".join(orjson.dumps(row) for row in file)
        kind: Any = fmt or ("csv" if isinstance(file, bytes) else "ndjson")

        meaning = Meaning(options.pop("empty", "clear"), options.pop("metadata", "replace"))

        def source() -> Reading:
            return read(io.BytesIO(text), kind)

        return load(
            self.store.customers,
            source,
            Options(**options, meaning=meaning),
            caller,
            self.store.answers,
            imports=Imports(self.store.shelf),
        )

    def export(self, fmt: Format, where: CustomerFilter | None = None, **options: Any) -> bytes:
        return b"".join(export(self.store.customers, fmt, where or CustomerFilter(), **options))

    def all(self) -> list[dict[str, Any]]:
        return list(orjson.loads(self.export("json", CustomerFilter("include"))))

    def events(self, customer_id: int) -> list[dict[str, Any]]:
        return [orjson.loads(e) for e in self.store.customers.history(customer_id, limit=100)]


@pytest.fixture
def transfer(store: Store) -> Transfer:
    return Transfer(store)
